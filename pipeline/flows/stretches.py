"""What is known of a lineage's segments behind the newest one: a bounded memory, and the search for what is not in it.

Segments are numbered without a hole and their ends only rise, so the one that covers a place is found in a few reads of
single rows, counted by the logarithm of how far it lies back; never by a scan, however many segments and gaps there are.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from operator import attrgetter

from pipeline.core.arrived import Arrived, Stretch, stretch_of
from pipeline.core.errors import Corrupt
from pipeline.core.gap import last_gap
from pipeline.core.segment import Gap, Position, Segment
from pipeline.ports.ledger import Ledger

KEPT = 256  # stretches of a shard, about 500 bytes each: four hours of it where a segment is cut every minute


class Stretches:
    """The stretches of one lineage that were looked up last; used on one thread."""

    def __init__(self) -> None:
        self._sorted: list[Stretch] = []
        self._oldest: dict[int, None] = {}  # ordinals in the order in which they became known

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, found: Iterable[Stretch]) -> None:
        """Remember stretches, forgetting those that became known first where there are too many."""
        for one in found:
            if one.ordinal in self._oldest:
                continue
            self._oldest[one.ordinal] = None
            self._sorted.insert(self._at(one.ordinal), one)
            if len(self._sorted) > KEPT:
                first = next(iter(self._oldest))
                del self._oldest[first], self._sorted[self._at(first)]

    def _at(self, ordinal: int) -> int:
        return bisect_left(self._sorted, ordinal, key=attrgetter("ordinal"))

    def drops(self, arrived: Arrived) -> bool | None:
        """Return whether some of what arrived may be lost; None where not all segments that cover it are known."""
        at, known = bisect_left(self._sorted, arrived.last, key=attrgetter("end")), self._sorted
        if at == len(known) or known[at].begins_after(arrived.last):
            return None
        while not known[at].drops(arrived):
            if not known[at].begins_after(arrived.first):
                return False
            if at == 0 or known[at - 1].end != known[at].start:
                return None
            at -= 1
        return True


def look_up(ledger: Ledger, lineage: str, newest: int, arrived: Arrived) -> list[Stretch]:
    """Return the stretches that cover what arrived, read from the ledger.

    Args:
        ledger: asked for single segments.
        lineage: whose.
        newest: the ordinal of a segment that ends at or behind the last place.
        arrived: what is looked for.

    Raises:
        Transient: try again.
        Corrupt: the ledger lacks a segment.
    """
    rows = _Rows(ledger, lineage)
    ordinal, found = _covering(rows, newest, arrived.last), list[Stretch]()
    while ordinal > 0:
        stretch = stretch_of(rows[ordinal], _gaps_at_start(rows, ordinal))
        if stretch is not None:
            found.append(stretch)
            if not stretch.begins_after(arrived.first):
                break
        ordinal -= 1
    return found


def stretch_at(ledger: Ledger, segment: Segment) -> Stretch | None:
    """Return what one segment covers; reads the one before it, and further ones only where those are gaps that it had found."""
    return stretch_of(segment, _gaps_at_start(_Rows(ledger, segment.lineage), segment.ordinal))


def _gaps_at_start(rows: "_Rows", ordinal: int) -> Iterator[Gap]:
    """Yield the gaps that begin where a segment starts, the newest first."""
    while ordinal > 1:
        ordinal -= 1
        before = rows[ordinal]
        gap = last_gap(before)
        if gap is not None:
            yield gap
        if before.gap is None:
            return


class _Rows(dict[int, Segment]):
    """Segments by ordinal, each read once."""

    def __init__(self, ledger: Ledger, lineage: str) -> None:
        super().__init__()
        self._ledger, self._lineage = ledger, lineage

    def __missing__(self, ordinal: int) -> Segment:
        found = self._ledger.segment(self._lineage, ordinal)
        if found is None:
            raise Corrupt(
                f"segment {self._lineage}/{ordinal} is not in the ledger, and later ones are: run `headrace audit`"
            )
        self[ordinal] = found
        return found


def _covering(rows: _Rows, newest: int, place: Position) -> int:
    """Return the first ordinal whose segment ends at or behind a place: back in growing steps, then by halves."""

    def ends_before(ordinal: int) -> bool:
        end = rows[ordinal].end
        return end is None or end < place

    high, step = newest, 1
    low = high - step
    while low > 0 and not ends_before(low):
        high, step = low, step * 2
        low = high - step
    low = max(low, 0)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ends_before(middle) else (low, middle)
    return high
