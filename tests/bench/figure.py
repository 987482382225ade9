"""One measured value, and how processor time is measured."""

import statistics
import time
from collections.abc import Callable
from typing import NamedTuple


class Figure(NamedTuple):
    """One measured value. `hold` is the number it is held to, in words; "" for a mere figure."""

    name: str
    value: float
    unit: str
    hold: str = ""


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of one call, all threads of this process."""
    began = time.process_time()
    work()
    return time.process_time() - began


def paired(
    first: Callable[[], object], second: Callable[[], object], rounds: int
) -> tuple[float, float, float]:
    """Run two works in turn; return the median seconds of each and the median of the ratios, pair by pair."""
    pairs = [(cpu_seconds(first), cpu_seconds(second)) for _ in range(rounds)]
    ones, twos = zip(*pairs, strict=True)
    return statistics.median(ones), statistics.median(twos), statistics.median(a / b for a, b in pairs)
