"""What became of one event: the values of a trace, and what is decided in making one.

A **sighting** is one stored unit that carries the id: a row of a data file, or a refused unit in quarantine. An id may
have several: copies within the duplicate window are flagged, copies outside of it are accepted anew.
"""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline.core.aggregate import AggregateKey
from pipeline.core.errors import ConfigProblem
from pipeline.core.index import Pointer
from pipeline.core.receipt import Receipt
from pipeline.core.redriven import Mark
from pipeline.core.segment import Lineage, Position, Segment
from pipeline.core.span import instant_of
from pipeline.core.subsequence import stream_order

Outcome = Literal["accepted", "duplicate", "quarantined"]
LedBy = Literal["entity", "at", "receipt", "ids"]  # what led to an event
_RECEIPT = re.compile(r"([a-z0-9]{4,32})#(\d{1,15})", re.ASCII)


class ReceiptName(NamedTuple):
    """A producer's receipt by number."""

    producer: str
    number: int


@dataclass(frozen=True)
class Hint:
    """Where to look first: at one entity, at one event day, or at what one receipt acknowledged.

    A receipt is a producer's, by name, or `acked`: one that its holder brings along.
    """

    entity_id: str | None = None
    dt: str | None = None
    receipt: ReceiptName | None = None
    acked: Receipt | None = None

    @property
    def kind(self) -> "LedBy":
        """Return which hint it is; "ids" for none."""
        if self.receipt is not None or self.acked is not None:
            return "receipt"
        return "entity" if self.entity_id is not None else "at" if self.dt is not None else "ids"


class RowPlace(NamedTuple):
    """One row of a file."""

    key: str
    row: int


@dataclass(frozen=True)
class Sighting:
    """One stored unit. Refused units have code, pointer and message, and perhaps no type; entity and source never."""

    outcome: Outcome
    place: RowPlace
    row_group: int
    tier: str
    lineage: str
    ordinal: int
    event_id: str
    event_type: str | None
    arrived_us: int
    shard_id: str
    position: Position
    entity_id: str | None = None
    source: str | None = None
    event_time_us: int | None = None
    refusal: tuple[str, str, str] | None = None

    @property
    def order(self) -> tuple[int, str, int, int, RowPlace]:
        """Return what sightings are sorted by: arrival, then lineage and position."""
        position = (int(self.position.sequence_number), stream_order(self.position.subsequence_number))
        return self.arrived_us, self.lineage, *position, self.place


class IndexPlace(NamedTuple):
    """The index entry that names a row."""

    partition: str
    name: str
    pointer: Pointer


class CountedIn(NamedTuple):
    """The aggregate that a unit counts in: as what, in which hour and of which source.

    `included` once it does. A segment is committed after its totals are written: a unit of a committed segment that is
    not included is damage.
    """

    key: AggregateKey
    figure: Literal["events", "duplicates", "quarantined"]
    hour: int | None
    source: str | None
    included: bool


@dataclass(frozen=True)
class Found:
    """A sighting with everything that is known of it."""

    sighting: Sighting
    lineage: Lineage | None
    segment: Segment | None  # None: the ledger does not hold it
    receipt: ReceiptName | None  # None: a plain producer, or one that was killed before it wrote its receipt
    first: RowPlace | None  # of a duplicate: the accepted row that it repeats
    index: IndexPlace | None
    counted: CountedIn | None  # None: the segment or its rules are gone, so nobody can say where
    redriven: Mark | None = None  # of a refused unit that went through again, and of a row that came so

    @property
    def committed(self) -> bool:
        """True when all that the segment writes must be there."""
        return self.segment is not None and self.segment.state == "committed"


@dataclass(frozen=True)
class Searched:
    """What was looked through: of so many segments, all that arrived from_us..until_us; None when there is no such span."""

    from_us: int | None
    until_us: int | None
    segments: int
    notes: tuple[str, ...] = ()
    ids_gone: bool = False  # something arrived, and of no span of it all can be searched by id any more

    @property
    def sentence(self) -> str:
        """Say that an id was not found, and how far that is true."""
        if self.ids_gone:
            what = "segments all along" if self.segments else "everything that arrived"
            return f"not found: the ids of {what} are gone; an entity or an event day may lead to it"
        if self.from_us is None or self.until_us is None:
            return "nothing has arrived yet"
        return f"not among what was received from {instant_of(self.from_us)} to {instant_of(self.until_us)}"


@dataclass(frozen=True)
class Trace:
    """What was found, in the order of arrival; `by` is the hint that led there, or "ids"."""

    found: tuple[Found, ...]
    by: LedBy
    searched: Searched


def parse_receipt(field: str, text: str) -> ReceiptName:
    """Read PRODUCER#NUMBER; `field` is where it was given, for the message.

    Raises:
        ConfigProblem: it is none.
    """
    found = _RECEIPT.fullmatch(text)
    if found is None:
        raise ConfigProblem(f"{field} {text!r}: give it as PRODUCER#NUMBER, like 3f9c01ab22de#0")
    return ReceiptName(found[1], int(found[2]))


def covering(receipt: Receipt, lineages: Iterable[Lineage], segments: Sequence[Segment]) -> list[Segment]:
    """Return the segments that hold what a receipt acknowledged."""
    shards = {one.name: one.short for one in lineages}
    wanted = {
        (shards.get(_shard(receipt, batch.shard_id)), batch.sequence_number) for batch in receipt.batches
    }
    return [one for one in segments if any(_covers(one, *place) for place in wanted)]


def _covers(segment: Segment, lineage: str | None, sequence_number: str) -> bool:
    """True when a record lies in a segment, which is cut between records."""
    if segment.lineage != lineage or segment.end is None:
        return False
    after = int(segment.start.sequence_number) if segment.start else -1
    return after < int(sequence_number) <= int(segment.end.sequence_number)


def acknowledged_by(
    sighting: Sighting, lineage: Lineage | None, receipts: Iterable[Receipt]
) -> ReceiptName | None:
    """Return the receipt that acknowledged a unit's record."""
    for receipt in receipts:
        for batch in receipt.batches:
            same_record = batch.sequence_number == sighting.position.sequence_number
            if same_record and lineage is not None and _shard(receipt, batch.shard_id) == lineage.name:
                return ReceiptName(receipt.producer, receipt.number)
    return None


def _shard(receipt: Receipt, shard_id: str) -> str:
    return f"{receipt.stream}-{receipt.epoch}-{shard_id}"


def first_of(sighting: Sighting, others: Iterable[Sighting], family: Collection[str]) -> RowPlace | None:
    """Return the accepted row that a duplicate repeats: the latest before it, of its own lineage or an ancestor.

    No other shard's row, however early it arrived: the duplicate window looks into no other. `family` is the lineage of
    the sighting and all its ancestors, of which a child is read only after they ended.
    """
    if sighting.outcome != "duplicate":
        return None
    accepted = [one for one in others if one.outcome == "accepted"]
    own = [one for one in accepted if one.lineage == sighting.lineage and one.position < sighting.position]
    before = own or [one for one in accepted if one.lineage in family and one.lineage != sighting.lineage]
    return max(before, key=lambda one: one.order).place if before else None


def searched_of(
    segments: Sequence[Segment], gone: Sequence[Segment], lineages: Sequence[Lineage]
) -> Searched:
    """Say what a search through all ids files covers.

    Args:
        segments: all of the ledger.
        gone: those whose ids file is there no more.
        lineages: all of the ledger.
    """
    committed = [one for one in segments if one.state == "committed"]
    looked_at = [one for one in committed if one not in gone]
    if not looked_at:
        return Searched(None, None, 0, _notes(committed, gone, lineages), ids_gone=bool(gone))
    span, notes = _without_hole(looked_at, gone), _notes(committed, gone, lineages)
    if span is None:
        return Searched(None, None, len(looked_at), notes, ids_gone=True)
    return Searched(*span, len(looked_at), notes)


def _without_hole(looked_at: Sequence[Segment], gone: Sequence[Segment]) -> tuple[int, int] | None:
    """Return the first and last arrival of the latest span in which every segment was looked at."""
    first = min(one.first_arrival_us for one in looked_at)
    last = max(one.max_arrival_us for one in looked_at)
    for hole in sorted(gone, key=lambda one: one.max_arrival_us, reverse=True):
        if hole.max_arrival_us < last:
            first = max(first, hole.max_arrival_us + 1)
            break
        last = min(last, hole.first_arrival_us - 1)
    return (first, last) if first <= last else None


def _notes(
    committed: Sequence[Segment], gone: Sequence[Segment], lineages: Sequence[Lineage]
) -> tuple[str, ...]:
    notes = []
    if gone:
        until, plural = instant_of(max(one.max_arrival_us for one in gone)), "s" * (len(gone) > 1)
        notes.append(
            f"the ids of {len(gone)} old segment{plural} (arrivals until {until}) are gone: what was accepted there is found "
            "by entity or event day only"
        )
    gaps = [one.gap for one in committed if one.gap is not None]
    if gaps:
        last = max(gaps, key=lambda one: one.until_us)
        notes.append(
            f"the stream may have dropped what arrived from {instant_of(last.from_us)} to {instant_of(last.until_us)} before "
            f"it was read ({len(gaps)} gap{'s' * (len(gaps) > 1)} in all, `headrace audit` names them): send such an event again "
            "with the same event_id"
        )
    reached = {one.lineage: one for one in sorted(committed, key=lambda one: one.ordinal)}
    newest = max((one.max_arrival_us for one in reached.values()), default=0)
    for one in lineages:
        if one.redrives:
            continue  # nothing is on its way there
        segment = reached.get(one.short)
        if segment is None:
            notes.append(f"of {one.shard_id} nothing is committed yet")
        elif not segment.shard_end and segment.max_arrival_us < newest:
            until = instant_of(segment.max_arrival_us)
            notes.append(
                f"of {one.shard_id} nothing later than {until} is committed: none came, or it is on its way"
            )
    return tuple(notes)
