"""Time, as the flows see it: tests step it by hand."""

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
        """Wait, or return earlier when the process is asked to stop."""
        ...
