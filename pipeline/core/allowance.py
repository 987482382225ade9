"""At most so many of something each second: for what is dropped beyond that, and not waited for."""


class Allowance:
    """A bucket of one second's worth; full at first. Of one thread."""

    __slots__ = ("_at", "_left", "_most")

    def __init__(self, most_per_second: float) -> None:
        self._most, self._left, self._at = most_per_second, float(most_per_second), 0.0

    def take(self, now: float) -> bool:
        """Take one, if there is one; `now` is in seconds of a clock that never goes back."""
        self._left = min(self._most, self._left + max(now - self._at, 0.0) * self._most)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True
