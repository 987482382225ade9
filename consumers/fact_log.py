"""Facts as JSON lines on standard error: one line each, never a payload."""

import sys
import threading
from datetime import UTC, datetime

import msgspec
import orjson

from pipeline.facts import Fact

_LOCK = threading.Lock()


def log(fact: Fact) -> None:
    """Write one line: time, level, the fact's name and its fields."""
    body = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "level": fact.level,
        **msgspec.to_builtins(fact),
    }
    with _LOCK:
        sys.stderr.buffer.write(orjson.dumps(body) + b"\n")
        sys.stderr.buffer.flush()
