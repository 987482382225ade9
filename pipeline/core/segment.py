"""Segments and lineages: the values the ledger holds, and when a segment is cut."""

from dataclasses import dataclass, replace
from typing import Literal

from pipeline.core.keys import SegmentRef
from pipeline.core.slots import BatchLabel
from pipeline.core.subsequence import stream_order

State = Literal["planned", "committed"]


@dataclass(frozen=True)
class Lineage:
    """One shard of one stream of one creation; never the bare shard id.

    Attributes:
        name: `<stream>-<epoch>-<shard>`.
        short: the short form the ledger gave out; what stands in keys.
        parents: short forms of the lineages this shard was split or merged from.
        redrives: of a redrive lineage, the short form of the one whose refused units it takes in again; else "". Its
            segments have no positions and no batches: they are no ranges of the shard.
    """

    name: str
    short: str
    stream: str
    shard_id: str
    parents: tuple[str, ...] = ()
    redrives: str = ""


def redrive_lineage(source: Lineage, short: str) -> Lineage:
    """Return the lineage that takes in again what `source` refused; `short` is given out by the ledger."""
    return Lineage(
        f"{source.name}-redrive", short, source.stream, source.shard_id, (source.short,), source.short
    )


@dataclass(frozen=True)
class Position:
    """A place in a shard: in Kinesis' own terms, or with the number of a unit (`core.subsequence`), which sorts alike.

    Sequence numbers have up to 56 digits: they stay strings and are compared as integers.
    """

    sequence_number: str
    subsequence_number: int

    def __lt__(self, other: "Position") -> bool:
        return self._key() < other._key()

    def __le__(self, other: "Position") -> bool:
        return self._key() <= other._key()

    def _key(self) -> tuple[int, int]:
        return int(self.sequence_number), stream_order(self.subsequence_number)


@dataclass(frozen=True)
class BatchRange:
    """Batches of one producer and slot seen in a segment, numbered first..last without a hole."""

    producer: str
    slot: int
    first: int
    last: int
    events: int


@dataclass(frozen=True)
class Counts:
    """What a segment holds. units = rows + refused; rows include duplicates."""

    records: int
    units: int
    rows: int
    duplicates: int
    quarantined: int
    plain_units: int  # of records that carry no batch label
    files: int
    bytes: int


@dataclass(frozen=True)
class Gap:
    """Records that the stream may have dropped before they were read: none was seen, so nobody knows how many.

    Attributes:
        from_us: everything that had arrived until then was read.
        until_us: what arrived later was still there.
        before: sequence number of the first record that was read after the gap; "" when there was none.
    """

    from_us: int
    until_us: int
    before: str = ""


@dataclass(frozen=True)
class Segment:
    """One row of the ledger: the range (start, end] of one lineage, written as one unit.

    A segment with a gap is empty: it ends where it starts, and what was dropped lies behind its end.

    Attributes:
        gap: what the stream may have dropped.
        gap_beyond: the gap of an earlier segment that reaches beyond this one's records: whoever wrote them held them already when
            somebody else took them for dropped.
    """

    lineage: str
    ordinal: int
    state: State
    start: Position | None  # None: from the beginning of the shard
    # None before the first record (a gap, or a shard that ended empty), and in redrive lineages
    end: Position | None
    staging_key: str
    counts: Counts
    batches: tuple[BatchRange, ...]
    rules_digest: str
    seal_version: int
    first_arrival_us: int
    max_arrival_us: int
    shard_end: bool = False
    gap: Gap | None = None
    gap_beyond: Gap | None = None

    @property
    def ref(self) -> SegmentRef:
        """Return which segment it is."""
        return SegmentRef(self.lineage, self.ordinal)

    def committed(self) -> "Segment":
        """Return the same segment, committed."""
        return replace(self, state="committed")


def settled(newest: Segment | None) -> int:
    """Return the ordinal up to which a lineage is committed, by its newest segment; 0 when nothing is."""
    return 0 if newest is None else newest.ordinal - (newest.state != "committed")


@dataclass(frozen=True)
class SealState:
    """How far days are sealed. `version` rises with every raise; the others are a day or "".

    Loaders go by `sealing_to`, which is raised first; readers by `sealed_until`, which follows once all is written.
    """

    version: int = 0
    sealing_to: str = ""
    sealed_until: str = ""

    def is_late(self, dt: str) -> bool:
        """True when rows of day `dt` must go to the late tier."""
        return dt <= self.sealing_to


@dataclass(frozen=True)
class CutLimits:
    """When a segment is cut."""

    max_rows: int = 65_536
    max_bytes: int = 64 * 2**20  # of raw records, gzipped ones inflated
    max_age_seconds: float = 60.0
    max_idle_seconds: float = (
        60.0  # since the last record; below max_age_seconds a quiet stream is cut sooner
    )
    max_files: int = 1_000
    max_ranges: int = 2_000  # of batch labels: a ledger row is one DynamoDB item of 400 KB at most


@dataclass(frozen=True)
class Filling:
    """How full the open segment is. `files` counts partitions touched so far."""

    rows: int
    bytes: int
    age_seconds: float
    idle_seconds: float
    files: int
    ranges: int = 0


def cut_reason(filling: Filling, limits: CutLimits) -> str | None:
    """Return which limit asks for a cut, or None."""
    if filling.rows >= limits.max_rows:
        return "rows"
    if filling.bytes >= limits.max_bytes:
        return "bytes"
    if filling.files >= limits.max_files:
        return "files"
    if filling.ranges >= limits.max_ranges:
        return "labels"
    if filling.age_seconds >= limits.max_age_seconds:
        return "age"
    if filling.rows and filling.idle_seconds >= limits.max_idle_seconds:
        return "idle"
    return None


def batch_ranges(labels: list[BatchLabel]) -> tuple[BatchRange, ...]:
    """Fold labels into ranges; a batch seen twice makes a second range, so that it stays visible."""
    ranges: list[BatchRange] = []
    for label in sorted(labels):
        last = ranges[-1] if ranges else None
        if last and (last.producer, last.slot, last.last + 1) == (label.producer, label.slot, label.number):
            ranges[-1] = replace(last, last=label.number, events=last.events + label.events)
        else:
            ranges.append(BatchRange(label.producer, label.slot, label.number, label.number, label.events))
    return tuple(ranges)
