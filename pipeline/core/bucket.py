"""A token bucket in whole numbers: nothing is rounded away, so what was given out can be counted exactly.

A bucket that refills 5 tokens in 60 seconds cannot say in whole microseconds when a token is there, but it can say it in
units: one token is 60,000,000 units (seconds x 1e6), and 5 units come in each microsecond. A level below zero is a
promise: tokens that were given out before they are there, with the moment from which they may be used.
"""

from dataclasses import dataclass

MICROSECONDS = 1_000_000


@dataclass(frozen=True)
class Bucket:
    """The terms of one bucket.

    Attributes:
        tokens: so many come back ...
        seconds: ... in so many seconds, evenly.
        holds: what it holds when it is full, the burst.
    """

    tokens: int
    seconds: int
    holds: int

    @property
    def token_units(self) -> int:
        """Return the units of one token."""
        return self.seconds * MICROSECONDS

    @property
    def full_units(self) -> int:
        """Return the level of the full bucket."""
        return self.holds * self.token_units

    def refilled(self, units: int, elapsed_us: int) -> int:
        """Return a level some time later; a time that runs backwards refills nothing."""
        return min(self.full_units, units + self.tokens * max(0, elapsed_us))

    def there(self, units: int) -> int:
        """Return how many whole tokens a level is."""
        return max(0, units // self.token_units)

    def wait_us(self, units: int, tokens: int) -> int:
        """Return how long it takes until a level has risen to so many tokens; 0 when they are there."""
        missing = tokens * self.token_units - units
        return max(0, -(-missing // self.tokens))

    def rescaled(self, units: int, seconds: int) -> int:
        """Return a level that was stored under other terms, in today's units: so many tokens, and at most full."""
        same = units if seconds == self.seconds else units * self.seconds // seconds
        return min(self.full_units, same)
