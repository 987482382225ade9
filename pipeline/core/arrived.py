"""What a segment of the ledger tells of events whose place in the stream is known: read, or perhaps lost in a gap.

A place belongs to the segment that covers it. What may be missing lies in front of that segment's first record, in the
gap that the segment before it tells of; so neighbours decide, however many gaps a lineage has.

    before  (.., p]   gap: behind p, up to record b          what a loader was too late for
    covers  (p, e]                            b ........ e   so a place in front of b is lost, b and what follows is read
"""

from collections.abc import Iterable
from typing import NamedTuple

from pipeline.core.gap import last_gap
from pipeline.core.segment import Gap, Position, Segment


class Arrived(NamedTuple):
    """Where the events of one request are in one shard.

    Attributes:
        first: the record that is first among theirs.
        last: the furthest of them.
        taken_us: when the request was taken: none of them is in the stream for longer.
    """

    first: Position
    last: Position
    taken_us: int


class Stretch(NamedTuple):
    """The places that one segment with records covers, (start, end], and the gap in front of the first of them that was read."""

    ordinal: int
    start: Position | None
    end: Position
    gap: Gap | None

    def begins_after(self, place: Position) -> bool:
        """True when a place belongs to an earlier segment."""
        return self.start is not None and place <= self.start

    def drops(self, arrived: Arrived) -> bool:
        """True when some of what arrived in this stretch may be lost."""
        return _in_gap(self.gap, arrived)


def stretch_of(segment: Segment, gaps: Iterable[Gap]) -> Stretch | None:
    """Return what a segment covers; None when it has no records.

    Args:
        segment: planned or committed: what is decided stays so.
        gaps: those that begin where it starts, the newest first: it holds all that the others before it hold.
    """
    if segment.end is None or segment.end == segment.start:
        return None
    return Stretch(segment.ordinal, segment.start, segment.end, _in_front(segment, gaps))


def _in_front(segment: Segment, gaps: Iterable[Gap]) -> Gap | None:
    """Return the gap that lies in front of a segment's records.

    Where the newest reaches beyond them, they were held by somebody who had read them before they were dropped. Then it is
    the newest that had ended when the first of them arrived: he had found that one there himself.
    """
    beyond = segment.gap_beyond
    if beyond is None:
        return next(iter(gaps), None)
    ended = (one for one in gaps if one != beyond and one.until_us <= segment.first_arrival_us)
    return next(ended, None)


class Edge(NamedTuple):
    """The newest segment's word on what lies behind its end.

    Attributes:
        ordinal: of that segment; 0 when nothing is decided.
        decided: up to where the lineage is decided.
        committed: up to where it is committed.
        gap: the gap that begins at `decided`.
        closed: the shard's last segment is decided: what lies behind is read by nobody any more.
    """

    ordinal: int
    decided: Position | None
    committed: Position | None
    gap: Gap | None
    closed: bool

    def covers(self, place: Position) -> bool:
        """True when a segment decides over this place."""
        return self.decided is not None and place <= self.decided

    def drops(self, arrived: Arrived) -> bool:
        """True when some of what arrived behind the end may be lost, as far as it can be told by now."""
        return not self.covers(arrived.last) and (self.closed or _in_gap(self.gap, arrived))


NOTHING = Edge(0, None, None, None, closed=False)


def edge_of(newest: Segment | None) -> Edge:
    """Return how far a lineage is by its newest segment: the one before a planned one is committed."""
    if newest is None:
        return NOTHING
    committed = newest.end if newest.state == "committed" else newest.start
    return Edge(newest.ordinal, newest.end, committed, last_gap(newest), newest.shard_end)


def _in_gap(gap: Gap | None, arrived: Arrived) -> bool:
    """True when a gap may hold some of what arrived behind its beginning.

    A record behind the gap tells exactly. Where none followed time does: the records in it had arrived by its end, and so
    had been taken by then.
    """
    if gap is None:
        return False
    if gap.before:
        return int(arrived.first.sequence_number) < int(gap.before)
    return arrived.taken_us <= gap.until_us
