"""Ports whose every call goes through one function: for action logs, and for crashes between any two effects."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

from pipeline.core.aggregate import Aggregate, AggregateKey
from pipeline.core.errors import Corrupt, HeadraceError, OutcomeUnknown, Transient
from pipeline.core.gap import Reading
from pipeline.core.index import IndexItem
from pipeline.core.manifest import DataFile
from pipeline.core.receipt import Receipt
from pipeline.core.segment import Lineage, Position, SealState, Segment
from pipeline.ports.aggregates import Aggregates
from pipeline.ports.clock import Clock
from pipeline.ports.index import EntityIndex
from pipeline.ports.ledger import Ledger, Opening, PlanAnswer
from pipeline.ports.manifest import Manifest
from pipeline.ports.objects import Objects, Tail
from pipeline.ports.receipts import Receipts
from pipeline.ports.stream import Batch, ShardReader

T = TypeVar("T")


@dataclass(frozen=True)
class Effect(Generic[T]):
    """One call of a port, not yet made.

    Attributes:
        name: port, method and what is touched.
        act: makes the call.
        lost: what the caller gets, by the port's contract, when the call was made and its answer is lost; None for
            reads, which then count as not made.
        torn: makes only these parts of the call, by index; None when it is all or nothing.
        parts: how many parts there are.
    """

    name: str
    act: Callable[[], T]
    lost: type[HeadraceError] | None = None
    torn: Callable[[Sequence[int]], None] | None = None
    parts: int = 1


class Perform(Protocol):
    """Makes a call, or does not, or makes it twice; returns what it returned."""

    def __call__(self, effect: Effect[T]) -> T:
        """Perform one effect."""
        ...


@dataclass(frozen=True)
class WatchedObjects:
    """Port `Objects`, watched."""

    inner: Objects
    perform: Perform

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        """Write an object unless it is there."""
        put = self.inner.put_if_absent
        return self.perform(Effect(f"objects.put {key}", lambda: put(key, body, digest), OutcomeUnknown))

    def get(self, key: str) -> bytes:
        """Read an object."""
        return self.perform(Effect(f"objects.get {key}", lambda: self.inner.get(key)))

    def tail(self, key: str, length: int) -> Tail:
        """Read the end of an object."""
        return self.perform(Effect(f"objects.tail {key}", lambda: self.inner.tail(key, length)))

    def part(self, key: str, start: int, length: int) -> bytes:
        """Read a part of an object."""
        return self.perform(Effect(f"objects.part {key}", lambda: self.inner.part(key, start, length)))

    def list(self, prefix: str) -> Any:
        """List objects."""
        return iter(self.perform(Effect(f"objects.list {prefix}", lambda: list(self.inner.list(prefix)))))


@dataclass(frozen=True)
class WatchedManifest:
    """Port `Manifest`, watched."""

    inner: Manifest
    perform: Perform

    def put_all(self, entries: Sequence[DataFile]) -> None:
        """Write entries; may be torn, as BatchWriteItem may take any of them."""

        def some(parts: Sequence[int]) -> None:
            self.inner.put_all([entries[part] for part in parts])

        act = lambda: self.inner.put_all(entries)  # noqa: E731
        self.perform(Effect("manifest.put_all", act, Transient, torn=some, parts=len(entries)))

    def partitions(self) -> list[str]:
        """Return the partitions."""
        return self.perform(Effect("manifest.partitions", self.inner.partitions))

    def files(self, *partitions: str) -> list[DataFile]:
        """Return the files of some partitions, each asked for by itself."""
        found = []
        for one in sorted(set(partitions)):
            found += self.perform(Effect(f"manifest.files {one}", partial(self.inner.files, one)))
        return found

    def of_segment(self, lineage: str, ordinal: int) -> list[DataFile]:
        """Return the files of a segment."""
        of_segment = self.inner.of_segment
        return self.perform(
            Effect(f"manifest.of_segment {lineage}/{ordinal}", lambda: of_segment(lineage, ordinal))
        )

    def all_files(self) -> list[DataFile]:
        """Return every entry."""
        return self.perform(Effect("manifest.all_files", self.inner.all_files))


@dataclass(frozen=True)
class WatchedIndex:
    """Port `EntityIndex`, watched."""

    inner: EntityIndex
    perform: Perform

    def put_all(self, items: Sequence[IndexItem]) -> None:
        """Write items; may be torn."""

        def some(parts: Sequence[int]) -> None:
            self.inner.put_all([items[part] for part in parts])

        act = lambda: self.inner.put_all(items)  # noqa: E731
        self.perform(Effect("index.put_all", act, Transient, torn=some, parts=len(items)))

    def find(self, partitions: Sequence[str], first_dt: str, last_dt: str) -> list[IndexItem]:
        """Return the items of some partitions."""
        find = self.inner.find
        return self.perform(Effect("index.find", lambda: find(partitions, first_dt, last_dt)))

    def all_items(self) -> Iterator[IndexItem | Corrupt]:
        """Yield every item."""
        return iter(self.perform(Effect("index.all_items", lambda: list(self.inner.all_items()))))


@dataclass(frozen=True)
class WatchedAggregates:
    """Port `Aggregates`, watched."""

    inner: Aggregates
    perform: Perform

    def read(self, keys: Sequence[AggregateKey]) -> dict[AggregateKey, Aggregate]:
        """Return the items that exist."""
        return self.perform(Effect("aggregates.read", lambda: self.inner.read(keys)))

    def put_newer(self, items: Sequence[Aggregate]) -> None:
        """Write items; may be torn."""

        def some(parts: Sequence[int]) -> None:
            self.inner.put_newer([items[part] for part in parts])

        act = lambda: self.inner.put_newer(items)  # noqa: E731
        self.perform(Effect("aggregates.put_newer", act, OutcomeUnknown, torn=some, parts=len(items)))

    def find(self, partition: str, first_dt: str, last_dt: str) -> list[Aggregate]:
        """Return the items of a partition."""
        find = self.inner.find
        return self.perform(Effect("aggregates.find", lambda: find(partition, first_dt, last_dt)))

    def all_items(self) -> Iterator[Aggregate | Corrupt]:
        """Yield every item."""
        return iter(self.perform(Effect("aggregates.all_items", lambda: list(self.inner.all_items()))))


@dataclass(frozen=True)
class WatchedLedger:
    """Port `Ledger`, watched."""

    inner: Ledger
    perform: Perform

    def register(self, stream: str, epoch: str, shard_id: str, parents: tuple[str, ...]) -> Lineage:
        """Register a shard."""
        name = f"ledger.register {stream}-{epoch}-{shard_id}"
        register = self.inner.register
        return self.perform(Effect(name, lambda: register(stream, epoch, shard_id, parents), Transient))

    def register_redrive(self, source: Lineage) -> Lineage:
        """Register a redrive lineage."""
        register = self.inner.register_redrive
        return self.perform(
            Effect(f"ledger.register_redrive {source.short}", lambda: register(source), Transient)
        )

    def lineages(self) -> list[Lineage]:
        """Return the lineages."""
        return self.perform(Effect("ledger.lineages", self.inner.lineages))

    def open(self, lineage: str) -> Opening:
        """Open a lineage."""
        return self.perform(Effect(f"ledger.open {lineage}", lambda: self.inner.open(lineage)))

    def seal_state(self) -> SealState:
        """Return the seal state."""
        return self.perform(Effect("ledger.seal_state", self.inner.seal_state))

    def plan(self, segment: Segment) -> PlanAnswer:
        """Plan a segment."""
        return self.perform(
            Effect(f"ledger.plan {_name(segment)}", lambda: self.inner.plan(segment), OutcomeUnknown)
        )

    def commit(self, segment: Segment) -> bool:
        """Commit a segment."""
        return self.perform(
            Effect(f"ledger.commit {_name(segment)}", lambda: self.inner.commit(segment), OutcomeUnknown)
        )

    def segments(self, lineage: str) -> list[Segment]:
        """Return the segments of a lineage."""
        return self.perform(Effect(f"ledger.segments {lineage}", lambda: self.inner.segments(lineage)))

    def segment(self, lineage: str, ordinal: int) -> Segment | None:
        """Return one segment."""
        segment = self.inner.segment
        return self.perform(Effect(f"ledger.segment {lineage}/{ordinal}", lambda: segment(lineage, ordinal)))

    def started(self, lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        """Count a start."""
        started = self.inner.started
        return self.perform(
            Effect(f"ledger.started {lineage}", lambda: started(lineage, at, now_us, start), OutcomeUnknown)
        )

    def stopped(self, lineage: str) -> None:
        """Forget the starts."""
        self.perform(Effect(f"ledger.stopped {lineage}", lambda: self.inner.stopped(lineage), OutcomeUnknown))

    def reading(self, lineage: str) -> Reading:
        """Return what is noted."""
        return self.perform(Effect(f"ledger.reading {lineage}", lambda: self.inner.reading(lineage)))

    def note_read(self, lineage: str, until_us: int) -> None:
        """Note how far an idle lineage is read."""
        note_read = self.inner.note_read
        self.perform(
            Effect(f"ledger.note_read {lineage}", lambda: note_read(lineage, until_us), OutcomeUnknown)
        )

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        """Return the young segments of a lineage."""
        return self.perform(Effect(f"ledger.recent {lineage}", lambda: self.inner.recent(lineage, since_us)))


@dataclass(frozen=True)
class WatchedClock:
    """Port `Clock` whose pauses are watched."""

    inner: Clock
    perform: Perform

    def now_us(self) -> int:
        """Return microseconds since the epoch."""
        return self.inner.now_us()

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self.inner.monotonic()

    def idle(self, seconds: float) -> None:
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Wait."""
        self.perform(Effect("clock.pause", lambda: self.inner.pause(seconds)))


@dataclass(frozen=True)
class WatchedReceipts:
    """Port `Receipts`, watched."""

    inner: Receipts
    perform: Perform

    def put(self, receipt: Receipt) -> None:
        """Store a receipt."""
        name = f"receipts.put {receipt.producer}/{receipt.number}"
        self.perform(Effect(name, lambda: self.inner.put(receipt), OutcomeUnknown))

    def of(self, producer: str) -> Sequence[Receipt]:
        """Return the receipts of a producer."""
        return self.perform(Effect(f"receipts.of {producer}", lambda: self.inner.of(producer)))

    def all(self) -> Sequence[Receipt]:
        """Return every receipt."""
        return self.perform(Effect("receipts.all", self.inner.all))


@dataclass(frozen=True)
class WatchedReader:
    """Port `ShardReader`, watched."""

    inner: ShardReader
    perform: Perform
    shard_id: str

    def read(self) -> Batch:
        """Read on."""
        return self.perform(Effect(f"stream.read {self.shard_id}", self.inner.read))


def _name(segment: Segment) -> str:
    return f"{segment.lineage}/{segment.ordinal}"
