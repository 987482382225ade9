"""How long things took, as counts between fixed bounds: small, and two of them can be added."""

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import msgspec

# Upper bounds in seconds. Ends of the promises made (50 ms, 25 s by web.deadline_seconds) are among them.
SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)
_SHOWN = 100  # values of an array that CloudWatch takes


class Histogram(msgspec.Struct, frozen=True):
    """Counts of values.

    Attributes:
        counts: how many values were up to each bound, and above the one before; the last: above all bounds.
        sum: of the values.
    """

    counts: tuple[int, ...]
    sum: float

    def __add__(self, other: "Histogram") -> "Histogram":
        """Return what both have counted, by the same bounds."""
        counts = tuple(one + more for one, more in zip(self.counts, other.counts, strict=True))
        return Histogram(counts, self.sum + other.sum)

    @property
    def count(self) -> int:
        """Return how many values there were."""
        return sum(self.counts)

    def buckets(self, bounds: Sequence[float] = SECONDS) -> list[tuple[str, int]]:
        """Return for each bound how many values were up to it, as Prometheus counts."""
        names = [*map(str, bounds), "+Inf"]
        return list(zip(names, accumulate(self.counts), strict=True))

    def values(self, bounds: Sequence[float] = SECONDS) -> list[float]:
        """Return at most 100 values that are spread as those counted: percentiles of them are percentiles of all.

        Inside a bucket values are taken to lie evenly; above the last bound they are that bound.
        """
        total = self.count
        shown = min(total, _SHOWN)
        ranks = [(place + 0.5) * total / shown for place in range(shown)]
        found, before, bucket = [], 0, 0
        for rank in ranks:
            while rank > before + self.counts[bucket]:
                before += self.counts[bucket]
                bucket += 1
            found.append(round(_within(bounds, bucket, (rank - before) / self.counts[bucket]), 6))
        return found


def _within(bounds: Sequence[float], bucket: int, share: float) -> float:
    if bucket == len(bounds):
        return bounds[-1]
    low = bounds[bucket - 1] if bucket else 0.0
    return low + (bounds[bucket] - low) * share


class Timing:
    """A histogram that is being counted; of one thread."""

    __slots__ = ("_bounds", "_counts", "_sum")

    def __init__(self, bounds: Sequence[float] = SECONDS) -> None:
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self._sum += value

    def take(self) -> Histogram:
        """Return what was counted, and begin anew."""
        taken = Histogram(tuple(self._counts), round(self._sum, 6))
        self._counts, self._sum = [0] * len(self._counts), 0.0
        return taken
