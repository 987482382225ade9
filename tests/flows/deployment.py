"""A whole deployment in memory: producers at one end, the archive at the other, the audit over both."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from pipeline.core.audit import Report
from pipeline.core.event import Record
from pipeline.core.segment import CutLimits, Lineage, Segment
from pipeline.core.staging import StagedObject
from pipeline.flows.audit import AuditPorts, run_audit
from pipeline.flows.load import Loader, LoadLimits
from pipeline.flows.read import ReadPorts, load_shard
from pipeline.flows.window import WindowLimits
from pipeline.flows.write import WritePorts
from pipeline.ports.objects import ObjectInfo, Tail
from pipeline.sending import Producer, ProducerSettings
from tests.core.kit import DOOR, event, rules_for, wire
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.index import MemoryAggregates, MemoryIndex
from tests.fakes.ledger import MemoryLedger
from tests.fakes.manifest import MemoryManifest
from tests.fakes.objects import MemoryObjects, Stored
from tests.fakes.receipts import MemoryReceipts
from tests.fakes.stream import MemoryStream

RULES = rules_for(DOOR)


class Deployment:
    """Stream, stores, and what works on them; `cut` decides how many segments there are."""

    def __init__(self, shards: int = 1, max_rows: int = 10) -> None:
        self.clock, self.facts = SteppedClock(), FactList()
        self.ledger, self.objects = MemoryLedger(), MemoryObjects()
        self.manifest, self.receipts = MemoryManifest(), MemoryReceipts()
        self.index, self.aggregates = MemoryIndex(), MemoryAggregates()
        self.stream = MemoryStream(self.clock, shards=shards, read_limit=3)
        self.limits = LoadLimits(CutLimits(max_rows=max_rows), WindowLimits())
        self.rules = RULES
        self.on_list: Callable[[], None] = lambda: None

    def write_ports(self) -> WritePorts:
        """Return the loader's ports."""
        return WritePorts(
            ledger=self.ledger,
            objects=self.objects,
            manifest=self.manifest,
            index=self.index,
            aggregates=self.aggregates,
            clock=self.clock,
            facts=self.facts,
            each=_in_order,
        )

    def producer(self, name: str = "prod1", **settings: Any) -> Producer:
        """Return a producer of small batches."""
        chosen = ProducerSettings(**{"slots": 4, "max_batch_events": 5, **settings})
        return Producer(
            name,
            (self.stream.name, self.stream.epoch),
            self.stream,
            self.receipts,
            self.clock,
            lambda: 0.5,
            chosen,
        )

    def produce(self, count: int, name: str = "prod1", first: int = 0) -> None:
        """Send numbered events of eight entities and close the producer."""
        producer = self.producer(name)
        for number in range(first, first + count):
            entity = f"door-{number % 8}"
            producer.put("acme", entity, wire(event(event_id=f"e{number}", entity_id=entity)))
        producer.close()

    def load(self, *, only: Callable[[Record], bool] = lambda _record: True) -> None:
        """Load every shard as far as there is something; `only` may lose records."""
        for info in self.stream.shards():
            lineage = self.ledger.register(self.stream.name, self.stream.epoch, info.shard_id, ())
            loader = self.loader(lineage)
            reader = self.stream.reader(info.shard_id, loader.start())
            while (batch := reader.read()).records:
                loader.process([record for record in batch.records if only(record)])
            loader.cut("stop")

    def loader(self, lineage: Lineage) -> Loader:
        """Return a new loader."""
        return Loader(lineage, self.rules, self.limits, self.write_ports())

    def read(self, lineage: Lineage, stopping: Callable[[], bool], behind: Callable[[int], None]) -> Loader:
        """Run the life of one shard in a worker."""
        ports = ReadPorts(self.stream, self.ledger, self.clock, self.facts, stopping)
        loader = self.loader(lineage)
        load_shard(loader, ports, 0.25, behind)
        return loader

    def audit(self) -> Report:
        """Run the audit over the stores."""
        return run_audit(
            AuditPorts(
                ledger=self.ledger,
                manifest=self.manifest,
                objects=_Listed(self.objects, self.on_list),
                index=self.index,
                aggregates=self.aggregates,
                receipts=self.receipts,
                fetch=lambda info: self.objects.get(info.key),
                each=map,
                progress=lambda _objects: None,
            )
        )

    def kinds(self) -> list[str]:
        """Return the kinds of the audit's differences, each once."""
        return sorted({one.kind for one in self.audit().differences})

    # Damage ----------------------------------------------------------------------------------------------

    def data_key(self, prefix: str = "events/") -> str:
        """Return the key of the first data file."""
        return next(key for key in sorted(self.objects.stored) if key.startswith(prefix))

    def put_object(self, key: str, body: bytes) -> None:
        """Write an object past everybody."""
        self.objects.stored[key] = Stored(body, "")

    def alter_segment(self, ordinal: int, alter: Callable[[Segment], Segment]) -> None:
        """Change a row of the ledger."""
        key = next(key for key in self.ledger.rows if key[1] == ordinal)
        self.ledger.rows[key] = alter(self.ledger.rows[key])

    def alter_entry(self, **changes: int) -> None:
        """Change the first entry of the manifest."""
        key = min(self.manifest.entries)
        entry = self.manifest.entries[key]
        fields = {name: getattr(entry, name) + plus for name, plus in changes.items()}
        self.manifest.entries[key] = type(entry)(
            **{**{name: getattr(entry, name) for name in entry.__struct_fields__}, **fields}
        )

    def alter_counts(self, ordinal: int, **changes: int) -> None:
        """Add to counts of the ledger."""

        def alter(segment: Segment) -> Segment:
            counts = segment.counts
            return replace(
                segment,
                counts=replace(
                    counts, **{name: getattr(counts, name) + plus for name, plus in changes.items()}
                ),
            )

        self.alter_segment(ordinal, alter)


class _Listed:
    """A bucket that calls back before it is listed: what happens while the audit runs."""

    def __init__(self, inner: MemoryObjects, called: Callable[[], None]) -> None:
        self._inner, self._called = inner, called

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        """Write an object unless it is there."""
        return self._inner.put_if_absent(key, body, digest)

    def get(self, key: str) -> bytes:
        """Read an object."""
        return self._inner.get(key)

    def tail(self, key: str, length: int) -> Tail:
        """Read the end of an object."""
        return self._inner.tail(key, length)

    def part(self, key: str, start: int, length: int) -> bytes:
        """Read a part of an object."""
        return self._inner.part(key, start, length)

    def list(self, prefix: str) -> Iterator[ObjectInfo]:
        """List objects."""
        self._called()
        return self._inner.list(prefix)


def _in_order(write: Callable[[StagedObject], None], objects: Iterable[StagedObject]) -> None:
    for one in objects:
        write(one)
