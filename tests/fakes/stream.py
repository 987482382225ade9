"""Ports `Stream`, `ShardReader`, `RecordSink` and `StreamCheck` in memory."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import md5

from pipeline.core.days import HOUR_US
from pipeline.core.errors import HeadraceError
from pipeline.core.event import Record
from pipeline.core.segment import Position
from pipeline.ports.clock import Clock
from pipeline.ports.stream import Batch, OutgoingRecord, PutAnswer, ShardInfo, Successor

_HASH_SPACE = 2**128
_FIRST_SEQUENCE_NUMBER = 90  # the numbers grow from two digits to three: comparing them as text is wrong


@dataclass
class MemoryShard:
    """One shard: what it holds, which hash keys it takes, and whether it is closed."""

    info: ShardInfo
    low: int
    high: int  # exclusive
    records: list[Record] = field(default_factory=list)
    closed: bool = False
    trimmed: int = 0  # sequence number of the last record that was dropped


class MemoryShardReader:
    """Reads one shard forward; `limit` may be changed between reads."""

    def __init__(
        self, shard: MemoryShard, after: Position | None, limit: int, *, refuses: bool = False
    ) -> None:
        self._shard, self.limit = shard, limit
        self._after = int(after.sequence_number) if after else -1
        self._refused = refuses and 0 <= self._after < shard.trimmed

    def read(self) -> Batch:
        """Return the next records, perhaps none; what was dropped is passed over without a word."""
        batch = self._read()
        if batch.records or not batch.behind_ms:
            self._refused = False
        return batch

    def _read(self) -> Batch:
        rest = [one for one in self._shard.records if int(one.sequence_number) > self._after]
        found, left = rest[: self.limit], rest[self.limit :]
        if found:
            self._after = int(found[-1].sequence_number)
        behind_ms = (left[-1].arrived_us - left[0].arrived_us) // 1_000 + 1 if left else 0
        return Batch(found, behind_ms, ended=self._shard.closed and not left, trimmed=self._refused)


class MemoryStream:
    """One stream of one creation."""

    def __init__(
        self,
        clock: Clock,
        name: str = "events",
        epoch: str = "1",
        shards: int = 1,
        read_limit: int = 10_000,
        first_number: int = _FIRST_SEQUENCE_NUMBER,
    ) -> None:
        self.name, self.epoch, self.first_number = name, epoch, first_number
        self._clock, self._read_limit = clock, read_limit
        self._next_number = first_number
        self.by_id: dict[str, MemoryShard] = {}
        self.expired: set[str] = set()
        self.kept_us, self.refuses_trimmed = 24 * HOUR_US, False
        step = _HASH_SPACE // shards
        for index in range(shards):
            self._add((), index * step, _HASH_SPACE if index == shards - 1 else (index + 1) * step)

    def shards(self) -> list[ShardInfo]:
        """Return the shards that have not expired, parents before children."""
        return [shard.info for shard in self.by_id.values() if shard.info.shard_id not in self.expired]

    def reader(self, shard_id: str, after: Position | None) -> MemoryShardReader:
        """Open a shard after a position, or at its beginning."""
        return MemoryShardReader(self.by_id[shard_id], after, self._read_limit, refuses=self.refuses_trimmed)

    def retention_us(self) -> int:
        """Return for how long it keeps a record."""
        return self.kept_us

    def trim(self) -> int:
        """Drop what is older than the retention, from the oldest on, as far as that goes; return how many records."""
        dropped, horizon = 0, self._clock.now_us() - self.kept_us
        for shard in self.by_id.values():
            while shard.records and shard.records[0].arrived_us < horizon:
                shard.trimmed = int(shard.records.pop(0).sequence_number)
                dropped += 1
        return dropped

    def expire(self, shard_id: str) -> None:
        """Forget a closed shard, with what was in it."""
        self.by_id[shard_id].records.clear()
        self.expired.add(shard_id)

    def append(self, shard_id: str, data: bytes, partition_key: str, arrived_us: int | None = None) -> Record:
        """Store one record in an open shard."""
        shard = self.by_id[shard_id]
        if shard.closed:
            raise ValueError(f"{shard_id} is closed")
        arrived = self._clock.now_us() if arrived_us is None else arrived_us
        record = Record(str(self._next_number), partition_key, data, arrived)
        self._next_number += 1
        shard.records.append(record)
        return record

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Put records where their hash keys belong."""
        answers = []
        for one in records:
            text = one.explicit_hash_key or str(int(md5(one.partition_key.encode()).hexdigest(), 16))
            shard = next(
                shard
                for shard in self.by_id.values()
                if not shard.closed and shard.low <= int(text) < shard.high
            )
            record = self.append(shard.info.shard_id, one.data, one.partition_key)
            answers.append(PutAnswer(shard.info.shard_id, record.sequence_number, ""))
        return answers

    def split(self, shard_id: str) -> tuple[str, str]:
        """Close a shard and open two children that share its hash keys."""
        parent = self.by_id[shard_id]
        parent.closed = True
        middle = (parent.low + parent.high) // 2
        return self._add((shard_id,), parent.low, middle), self._add((shard_id,), middle, parent.high)

    def merge(self, left: str, right: str) -> str:
        """Close two neighbours and open one child."""
        self.by_id[left].closed = self.by_id[right].closed = True
        return self._add((left, right), self.by_id[left].low, self.by_id[right].high)

    def _add(self, parents: tuple[str, ...], low: int, high: int) -> str:
        info = ShardInfo(f"shardId-{len(self.by_id):012d}", parents)
        self.by_id[info.shard_id] = MemoryShard(info, low, high)
        return info.shard_id


@dataclass
class NamedStream:
    """What a name stands for: a stream, until another is made in its place; ports `RecordSink` and `StreamCheck`."""

    clock: Clock
    asked_for: str = "1"  # the epoch that whoever checks was made for
    looks: int = 0
    shards_are_told: bool = True
    error: HeadraceError | None = None  # raised by every look

    def __post_init__(self) -> None:
        self.now = MemoryStream(self.clock, epoch="1")
        self.before: list[MemoryStream] = []

    def make_anew(self) -> None:
        """Delete the stream and make another, whose sequence numbers begin later."""
        self.before.append(self.now)
        epoch = str(int(self.now.epoch) + 1)
        self.now = MemoryStream(self.clock, epoch=epoch, first_number=1_000 * int(epoch))

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Put to whatever has the name."""
        return self.now.put(records)

    def successor(self) -> Successor | None:
        """Return what is in the place of the stream asked for."""
        self.looks += 1
        if self.error is not None:
            raise self.error
        if self.now.epoch == self.asked_for:
            return None
        starts = dict.fromkeys(self.now.by_id, self.now.first_number) if self.shards_are_told else None
        return Successor(self.now.epoch, starts)
