"""What the loader's tests stand on: one shard, ports in memory, an action log, records of a few events."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

from pipeline.core.errors import Transient
from pipeline.core.event import Record
from pipeline.core.rules import Rules
from pipeline.core.segment import CutLimits, Lineage
from pipeline.core.staging import StagedObject
from pipeline.core.tracing import FinishedSpan
from pipeline.flows.load import Loader, LoadLimits
from pipeline.flows.window import WindowLimits
from pipeline.flows.write import WritePorts
from pipeline.ports.rules import NewestRules
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.index import MemoryAggregates, MemoryIndex
from tests.fakes.ledger import MemoryLedger
from tests.fakes.manifest import MemoryManifest
from tests.fakes.objects import MemoryObjects
from tests.fakes.stream import MemoryStream
from tests.fakes.watched import (
    Effect,
    Perform,
    WatchedAggregates,
    WatchedClock,
    WatchedIndex,
    WatchedLedger,
    WatchedManifest,
    WatchedObjects,
)
from tests.sim.archive import StoredRefusal, StoredRow, is_data, read_file
from tests.sim.events import rules

T = TypeVar("T")


class Crash(BaseException):
    """The worker is gone; no `except Exception` stops it."""


@dataclass
class ActionLog:
    """Performs effects and writes down their names; crashes before or after the n-th when asked to."""

    crash_before: int | None = None
    crash_after: int | None = None
    lose: int | None = None
    fail: int | None = None
    names: list[str] = field(default_factory=list)

    def __call__(self, effect: Effect[T]) -> T:
        """Perform one effect."""
        self.names.append(re.sub(r"[0-9a-f]{16,32}(?=\.seg|\.json)", "<digest>", effect.name))
        number = len(self.names)
        if number == self.crash_before:
            raise Crash
        if number == self.fail and effect.name != "clock.pause":
            raise Transient(f"{effect.name} fails")
        answer = effect.act()
        if number == self.crash_after:
            raise Crash
        if number == self.lose and effect.lost is not None:
            raise effect.lost(f"{effect.name}: no answer")
        return answer


class House:
    """One stream of one shard, the stores behind it, and loaders on demand."""

    def __init__(self, cut: CutLimits | None = None, window: WindowLimits | None = None) -> None:
        self.clock = SteppedClock()
        self.ledger, self.objects, self.manifest = MemoryLedger(), MemoryObjects(), MemoryManifest()
        self.index, self.aggregates = MemoryIndex(), MemoryAggregates()
        self.stream = MemoryStream(self.clock, "doors")
        self.limits = LoadLimits(cut or CutLimits(), window or WindowLimits())
        self.facts, self.spans = FactList(), list[FinishedSpan]()
        self.lineage = self.register("shardId-000000000000")

    def register(self, shard_id: str, parents: tuple[str, ...] = ()) -> Lineage:
        """Register a shard."""
        return self.ledger.register("doors", "1", shard_id, parents)

    def loader(
        self,
        perform: Perform | None = None,
        lineage: Lineage | None = None,
        judged_by: Rules | NewestRules | None = None,
    ) -> Loader:
        """Return a new loader, as a worker that starts makes one."""
        watch = perform or ActionLog()
        ports = WritePorts(
            ledger=WatchedLedger(self.ledger, watch),
            objects=WatchedObjects(self.objects, watch),
            manifest=WatchedManifest(self.manifest, watch),
            index=WatchedIndex(self.index, watch),
            aggregates=WatchedAggregates(self.aggregates, watch),
            clock=WatchedClock(self.clock, watch),
            facts=self.facts,
            each=_in_order,
            spans=self.spans.append,
        )
        return Loader(lineage or self.lineage, judged_by or rules(), self.limits, ports)

    def put(self, *events: bytes, arrived_us: int | None = None) -> list[Record]:
        """Put plain records."""
        return [self.stream.append(self.lineage.shard_id, one, "key", arrived_us) for one in events]

    def rows(self) -> list[StoredRow | StoredRefusal]:
        """Return every stored unit, by position."""
        found: list[StoredRow | StoredRefusal] = []
        for key, stored in self.objects.stored.items():
            if is_data(key):
                file = read_file(key, stored.body)
                found += [*file.rows, *file.refusals]
        return sorted(found, key=lambda one: (int(one.place.sequence_number), one.place))

    def flags(self) -> list[bool]:
        """Return which stored rows are flagged as duplicates, by position."""
        return [one.is_duplicate for one in self.rows() if isinstance(one, StoredRow)]


def event(number: int, event_type: str = "door.opened", day: str = "2024-03-09") -> bytes:
    """Return one valid event; equal numbers have equal ids."""
    return (
        f'{{"event_id":"e{number}","tenant_id":"acme","entity_id":"thing","event_type":"{event_type}",'
        f'"schema_version":1,"source":"test","event_time":"{day}T08:00:00Z","data":{{"n":{number}}}}}'
    ).encode()


def _in_order(write: Callable[[StagedObject], None], objects: Iterable[StagedObject]) -> None:
    for one in objects:
        write(one)
