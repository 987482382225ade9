"""The stream, from both ends: reading shards, putting records."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from pipeline.core.event import Record
from pipeline.core.segment import Position


class ShardInfo(NamedTuple):
    """One shard: its id and the ids of the shards it came from (none, one after a split, two after a merge).

    A parent may have expired, and is then no longer among the stream's shards.
    """

    shard_id: str
    parents: tuple[str, ...]


class Batch(NamedTuple):
    """What one read gave.

    Attributes:
        behind_ms: 0 only where the read reached the newest record.
        ended: the shard is closed, or has expired, and everything in it has been read.
        trimmed: the stream could not read on from the position it was asked for, and began at its oldest record
            instead. True until records came, or none were left.
    """

    records: list[Record]
    behind_ms: int
    ended: bool
    trimmed: bool = False


class ShardReader(Protocol):
    """Reads one shard forward from where it was opened; used by one thread."""

    def read(self) -> Batch:
        """Return the next records, perhaps none.

        Raises:
            Transient: nothing was skipped; call again after a pause.
        """
        ...


class Stream(Protocol):
    """One Kinesis stream of one creation."""

    @property
    def name(self) -> str:
        """Return the stream's name."""
        ...

    @property
    def epoch(self) -> str:
        """Return what tells this creation of the stream from an earlier one of the same name."""
        ...

    def shards(self) -> list[ShardInfo]:
        """Return all shards that still hold data, open or closed, parents before children."""
        ...

    def reader(self, shard_id: str, after: Position | None) -> ShardReader:
        """Open a shard after a position, or at TRIM_HORIZON.

        Where the position is refused the reader begins at TRIM_HORIZON. A shard that has expired has ended.
        """
        ...

    def retention_us(self) -> int:
        """Return for how long the stream keeps a record, as it is set now.

        Raises:
            Transient: try again.
        """
        ...


class OutgoingRecord(NamedTuple):
    """One Kinesis record to put."""

    data: bytes
    partition_key: str
    explicit_hash_key: str


class PutAnswer(NamedTuple):
    """What became of one record: `shard_id` and `sequence_number` when acknowledged, else `error` (a code)."""

    shard_id: str
    sequence_number: str
    error: str


class Successor(NamedTuple):
    """A stream that was made anew under the name of an earlier one.

    Attributes:
        epoch: of the new one.
        starts: shard id -> the sequence number that it begins with; None where that cannot be told.
    """

    epoch: str
    starts: Mapping[str, int] | None

    def may_hold(self, shard_id: str, sequence_number: str) -> bool:
        """True unless a record is surely of the stream before: a shard of the same name began later."""
        if self.starts is None:
            return True
        return shard_id in self.starts and int(sequence_number) >= self.starts[shard_id]


class StreamCheck(Protocol):
    """Whether a stream's name still stands for the creation that a producer was made for: a put knows the name alone."""

    def successor(self) -> Successor | None:
        """Return what has taken the stream's place; None while it is there, or is gone and nothing is in its place.

        Called by a sending thread once before it writes receipts, every ten seconds, and before it sends after a silence. A
        creation never comes back: so where None is returned, whatever was acknowledged before the call is the old stream's.

        Raises:
            Transient, OutcomeUnknown: nothing is known; call again later.
            ConfigProblem: this role may not ask.
        """
        ...


class RecordSink(Protocol):
    """Where producers put records."""

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Put up to 500 records and 5 MB; return one answer per record, in order.

        Not repeatable without care: a record may be stored though the call failed, and is then stored twice.

        Raises:
            OutcomeUnknown: some or all may be stored.
            Transient: none is stored.
        """
        ...
