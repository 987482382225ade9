"""Facts as JSON lines on standard error: one line each, never a payload."""

import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import orjson

from pipeline.facts import Fact, WorkerCrashed
from pipeline.ports.clock import Clock, SystemClock
from pipeline.telemetry.emf import embedded


def time_of(now_us: int) -> str:
    """Return a moment as log lines have it: UTC, to the millisecond."""
    return datetime.fromtimestamp(now_us // 1_000 / 1_000, UTC).isoformat(timespec="milliseconds")


def to_stderr(line: bytes) -> None:
    """Write one line and flush it."""
    sys.stderr.buffer.write(line)
    sys.stderr.buffer.flush()


class FactLog:
    """The log of one process; safe from any thread.

    Args:
        worker: the name of the process, a dimension in CloudWatch.
        namespace: of the metrics in CloudWatch; None: lines without metrics.
        sample_seconds: between two lines of a sampled fact with the same label.
        clock: stepped in tests.
        write: takes one finished line.
    """

    def __init__(
        self,
        worker: str,
        namespace: str | None = None,
        sample_seconds: float = 60.0,
        clock: Clock | None = None,
        write: Callable[[bytes], None] = to_stderr,
    ) -> None:
        self._worker, self._namespace, self._sample_seconds = worker, namespace, sample_seconds
        self._clock, self._write = clock or SystemClock(), write
        self._lock = threading.Lock()
        self._held: dict[tuple[object, ...], Fact] = {}
        self._written_at: dict[tuple[object, ...], float] = {}

    def __call__(self, fact: Fact) -> None:
        """Write one line: time, level, the fact's name and its fields; of a sampled fact one in a while.

        What is held of sampled facts is written once it is due, whichever fact comes next: a burst that ended is counted
        about when it was, not when its like comes again.
        """
        if isinstance(fact, WorkerCrashed):  # nothing comes after it
            self.close()
        with self._lock:
            if fact.sampled:
                key = _series(fact)
                held = self._held.get(key)
                self._held[key] = fact if held is None else _merged(held, fact)
            else:
                self._line(fact)
            self._write_due()

    def close(self) -> None:
        """Write what is held of sampled facts."""
        with self._lock:
            while self._held:
                self._line(self._held.popitem()[1])

    def _write_due(self) -> None:
        now = self._clock.monotonic()
        for key in list(self._held):
            written_at = self._written_at.get(key)
            if written_at is None or now - written_at >= self._sample_seconds:
                self._written_at[key] = now
                self._line(self._held.pop(key))

    def _line(self, fact: Fact) -> None:
        now_ms = self._clock.now_us() // 1_000
        body: dict[str, Any] = {
            "time": time_of(now_ms * 1_000),
            "level": fact.level,
            **msgspec.to_builtins(fact),
        }
        if self._namespace is not None:
            body |= embedded(fact, self._worker, self._namespace, now_ms)
        self._write(orjson.dumps(body) + b"\n")


def _series(fact: Fact) -> tuple[str, ...]:
    """Return what tells the lines of a sampled fact apart: its labels; what is counted within one line by key is none."""
    labels = (label for metric in fact.metrics for label in metric.labels)
    return type(fact).__name__, *[
        str(getattr(fact, label)) for label in labels if label in fact.__struct_fields__
    ]


def _merged(held: Fact, fact: Fact) -> Fact:
    """Return the newer fact with the held one's counters and histograms added: no count is lost between two lines."""
    counters = [metric.field for metric in fact.metrics if metric.kind != "gauge" and metric.field]
    return msgspec.structs.replace(
        fact, **{field: _sum(getattr(held, field), getattr(fact, field)) for field in dict.fromkeys(counters)}
    )


def _sum(held: Any, new: Any) -> Any:
    if isinstance(new, dict):
        return held | {key: held.get(key, 0) + count for key, count in new.items()}
    return held + new
