"""How long to wait before trying again: exponential, with full jitter, within a budget.

Source: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015 ("full jitter" does the least work).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Backoff:
    """A retry budget: at most `attempts` calls, waits drawn from 0..min(cap, base * 2^n) seconds."""

    attempts: int = 8
    base_seconds: float = 0.05
    cap_seconds: float = 5.0

    def waits(self, random: Callable[[], float]) -> Iterator[float]:
        """Yield the wait before each further attempt; `random` returns 0 <= x < 1."""
        for attempt in range(self.attempts - 1):
            yield random() * min(self.cap_seconds, self.base_seconds * 2**attempt)
