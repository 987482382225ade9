"""Lines about single requests as JSON on standard error, beside those of facts."""

from collections.abc import Callable

import msgspec
import orjson

from pipeline.core.request_line import RequestLine
from pipeline.ports.clock import Clock, SystemClock
from pipeline.telemetry.log import time_of, to_stderr


class JsonRequestLog:
    """Writes one line for each request that it is told of (port `RequestLog`).

    Args:
        clock: stepped in tests.
        write: takes one finished line.
    """

    def __init__(self, clock: Clock | None = None, write: Callable[[bytes], None] = to_stderr) -> None:
        self._clock, self._write = clock or SystemClock(), write

    def __call__(self, line: RequestLine) -> None:
        """Write one line: time, level, then what is known of the request."""
        body = {"time": time_of(self._clock.now_us()), **msgspec.to_builtins(line)}
        self._write(orjson.dumps(body) + b"\n")
