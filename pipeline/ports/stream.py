"""The stream, from both ends: reading shards, putting records."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pipeline.core.event import Record
from pipeline.core.segment import Position


class ShardInfo(NamedTuple):
    """One shard: its id and the ids of the shards it came from (none, one after a split, two after a merge)."""

    shard_id: str
    parents: tuple[str, ...]


class Batch(NamedTuple):
    """What one read gave. `ended`: the shard is closed and everything in it has been read."""

    records: list[Record]
    behind_ms: int
    ended: bool


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
        """Open a shard after a position, or at TRIM_HORIZON."""
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
