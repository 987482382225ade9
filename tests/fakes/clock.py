"""Port `Clock`, stepped by hand."""

NOON_US = 1_710_072_000_000_000  # 2024-03-10T12:00:00Z


class SteppedClock:
    """Time stands still until somebody advances it or pauses."""

    def __init__(self, now_us: int = NOON_US) -> None:
        self._now_us = self._began_us = now_us

    def now_us(self) -> int:
        """Return microseconds since the epoch, UTC."""
        return self._now_us

    def monotonic(self) -> float:
        """Return seconds since the clock was made."""
        return (self._now_us - self._began_us) / 1e6

    def idle(self, seconds: float) -> None:
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Return at once, `seconds` later."""
        self.advance(seconds)

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._now_us += round(seconds * 1e6)
