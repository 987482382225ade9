"""How far a lineage is known to be read, and when the stream may have dropped what came after.

Kinesis says nothing when it drops a record that nobody has read. So time is the witness: whatever arrived after the
moment up to which a lineage is known to be read, and before `now - retention`, may be gone.
"""

from dataclasses import dataclass
from typing import NamedTuple

from pipeline.core.segment import Gap, Position, Segment

_MINUTE_US = 60_000_000


@dataclass(frozen=True)
class Keeping:
    """How long the stream keeps a record, and how it is noted that an idle shard is read.

    Attributes:
        retention_us: of the stream, as it says itself.
        margin_us: a record is seen this much later than it arrived at most (clocks, replication).
        note_every_us: the ledger learns so often that there was nothing to read; far below any retention.
    """

    retention_us: int
    margin_us: int = 5 * _MINUTE_US
    note_every_us: int = 5 * _MINUTE_US


class Reading(NamedTuple):
    """What the ledger notes of reading a lineage beside its segments; 0 is never.

    Attributes:
        read_until_us: everything that had arrived until then lies at or before a committed end.
        begun_us: when a loader first started on it.
        starts: loaders that started at the committed end as it is now and did not stop in order.
        open_until_us: the note before `read_until_us`: when that was made, the shard was open then for certain.
    """

    read_until_us: int = 0
    begun_us: int = 0
    starts: int = 0
    open_until_us: int = 0


def known_until(newest: Segment | None, reading: Reading) -> int | None:
    """Return the arrival up to which a lineage was read or is in a gap; None when nothing is known."""
    known = [reading.read_until_us] if reading.read_until_us else []
    if newest is not None:
        known.append(newest.max_arrival_us)
        gap = last_gap(newest)
        if gap is not None:
            known.append(gap.until_us)
    return max(known, default=None)


def last_gap(newest: Segment | None) -> Gap | None:
    """Return the gap that a lineage's records have not passed yet, as its newest segment says."""
    return (newest.gap or newest.gap_beyond) if newest else None


def gap_beyond(gap: Gap | None, end: Position | None, max_arrival_us: int) -> Gap | None:
    """Return a gap that reaches beyond records which end there and had arrived by then; None once they have passed it."""
    if gap is None:
        return None
    passed = not gap.before or (end is not None and int(end.sequence_number) >= int(gap.before))
    return None if passed and max_arrival_us >= gap.until_us else gap


def is_settled(gap: Gap | None, sequence_number: str) -> bool:
    """True when all that may be missing in front of a record lies in a gap that has one behind it."""
    return gap is not None and gap.before != "" and int(sequence_number) <= int(gap.before)


def born_after(newest: Segment | None, reading: Reading) -> int | None:
    """Return an arrival before which a lineage's children cannot hold a record; None when nothing is known.

    Gaps at its end do not count, however many: its children were born somewhere inside. Neither does the last idle note: a
    shard that was closed long ago may give an empty answer, too, before it gives its end.
    """
    known = [reading.open_until_us] if reading.open_until_us else []
    if newest is not None:
        known.append(newest.max_arrival_us)
    return max(known, default=None)


def gap_after(
    known_us: int, now_us: int, keeping: Keeping | None, first: tuple[str, int] | None, *, trimmed: bool
) -> Gap | None:
    """Return what may have been dropped, or None; it ends where the first record that was read arrived, if not before.

    Args:
        known_us: the lineage is read until then.
        now_us: a moment after the read, long after it where records were fetched ahead.
        keeping: None when the retention is not known: then only a refused position is evidence.
        first: sequence number and arrival of the first record that was read, if any.
        trimmed: the stream refused to read on from the last position.
    """
    until = now_us - keeping.retention_us if keeping else known_us
    until = min(until, first[1]) if first else until
    if until <= known_us:
        if not trimmed:
            return None
        until = max(known_us, first[1] if first else now_us)
    return Gap(known_us, until, first[0] if first else "")
