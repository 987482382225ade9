"""Samples of processes, and what they say: flat, or growing.

Flat means, over the time after the warm-up: memory rises by less than 1 % of itself a minute, or by less than 3 % over the whole
time (a heap of large segments breathes that much, so a soak of less than five minutes says little); descriptors and threads rise by less than 2 over the second half of it, when the pools have opened their connections. Slopes are the median of the
slopes between all pairs of samples, so a spike does not count and a leak does. A process that was started again is not flat: it would
hide what it held.
"""

import statistics
from collections import defaultdict
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

MAX_PERCENT_A_MINUTE = 1.0
BREATH_PERCENT = 3.0
MAX_MORE = 2.0  # descriptors, threads: a pool that fills slowly may open its last
EXEMPT = ("emulator",)  # it keeps streams and tables in memory, which is its job
FEWEST = 5  # samples; of fewer no slope is told


class Sample(NamedTuple):
    """One look at one process. `seconds` since the start of the soak."""

    seconds: float
    process: str
    pid: int
    memory_mb: float
    descriptors: int
    threads: int


class Trend(NamedTuple):
    """One measure of one process after the warm-up; `slope` is per minute. `problem` is "" when it is flat."""

    process: str
    measure: str
    middle: float
    slope: float
    problem: str


def trends(samples: Sequence[Sample], warm_up_seconds: float) -> list[Trend]:
    """Return the trend of each measure of each process."""
    by_process: dict[str, list[Sample]] = defaultdict(list)
    for one in samples:
        if one.seconds >= warm_up_seconds:
            by_process[one.process].append(one)
    return [
        _trend(process, measure, taken)
        for process, taken in sorted(by_process.items())
        for measure in ("memory_mb", "descriptors", "threads")
    ]


def _trend(process: str, measure: str, taken: Sequence[Sample]) -> Trend:
    looked_at = taken if measure == "memory_mb" else taken[len(taken) // 2 :]
    points = [(one.seconds / 60, float(getattr(one, measure))) for one in looked_at]
    middle = statistics.median(value for _, value in points)
    if len(points) < FEWEST:
        return Trend(process, measure, middle, 0.0, f"only {len(points)} samples after the warm-up")
    slope = statistics.median(
        (b[1] - a[1]) / (b[0] - a[0]) for a, b in combinations(points, 2) if b[0] > a[0]
    )
    rise, problem = slope * (points[-1][0] - points[0][0]), ""
    if len({one.pid for one in taken}) > 1:
        problem = "was started again"
    elif (
        measure == "memory_mb"
        and rise > middle * BREATH_PERCENT / 100
        and slope > middle * MAX_PERCENT_A_MINUTE / 100
    ):
        problem = f"grows by {slope / middle:.1%} a minute"
    elif measure != "memory_mb" and rise >= MAX_MORE:
        problem = f"grows by {slope:.1f} a minute"
    return Trend(process, measure, middle, slope, "" if process in EXEMPT else problem)
