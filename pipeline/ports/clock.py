"""Time, as the flows see it: tests step it by hand."""

import threading
import time
from typing import Protocol


class Clock(Protocol):
    """Wall clock for stored times, monotonic for ages."""

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        ...

    def pause(self, seconds: float) -> None:
        """Wait, also while the process is being stopped: a retry's back-off must not vanish in a drain."""
        ...

    def idle(self, seconds: float) -> None:
        """Wait for something to do, or return earlier when the process is asked to stop."""
        ...


class SystemClock:
    """The machine's clock; `idle` ends early once the process is asked to stop."""

    def __init__(self, stop: threading.Event | None = None) -> None:
        self._stop = stop or threading.Event()

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return time.time_ns() // 1_000

    monotonic = staticmethod(time.monotonic)  # itself: a request of the API looks at it ten times

    def pause(self, seconds: float) -> None:
        """Wait."""
        time.sleep(seconds)

    def idle(self, seconds: float) -> None:
        """Wait, or return earlier when the process is asked to stop."""
        self._stop.wait(seconds)
