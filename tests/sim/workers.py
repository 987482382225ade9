"""Workers: one greenlet each, driving the real loader the way real consumers do.

Drivers: `reader` is the product's own loop; `checkpoint` keeps positions of its own, `apart` takes aggregates apart before
the loader sees them, and `kcl` does what KCL does: a lease with a counter and a checkpoint, a lease that is lost without
notice, a checkpoint that is refused then, batches that were fetched some time before they are handed over, a shutdown that
is asked for.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from greenlet import greenlet

from pipeline.core.errors import InvalidEvent, LeaseLost, Transient
from pipeline.core.event import Record
from pipeline.core.kpl import is_aggregate, split
from pipeline.core.segment import Position
from pipeline.core.staging import StagedObject
from pipeline.flows.read import ReadPorts, load_shard
from pipeline.flows.retrying import again
from pipeline.flows.write import WritePorts
from pipeline.ports.stream import Batch, ShardInfo
from tests.fakes.facts import FactList
from tests.fakes.stream import MemoryShardReader
from tests.fakes.watched import (
    Effect,
    Perform,
    WatchedAggregates,
    WatchedClock,
    WatchedIndex,
    WatchedLedger,
    WatchedManifest,
    WatchedObjects,
    WatchedReader,
)
from tests.sim.events import rules
from tests.sim.fetching import FetchedAhead
from tests.sim.trouble import FakeProbe, arm
from tests.sim.world import Lease, OwnClock, Shard, World

SOON = 0
NEVER = 10**9  # wakes only when somebody wakes it


@dataclass
class Worker:
    """One worker on one shard, or a producer; `pending` is the effect it waits for, None once it is gone."""

    name: str
    shard: Shard | None
    driver: str
    greenlet: "greenlet[Any]"
    pending: Effect[Any] | None = None
    wake_at: int = SOON
    fresh: bool = False  # started after the last fault
    life: "Life | None" = None  # a producer has none


class Life:
    """What a worker does from its start to its end."""

    def __init__(self, world: World, shard: Shard, name: str, driver: str, perform: Perform) -> None:
        self._world, self._shard, self._perform, self._name = world, shard, perform, name
        self._random: Random = world.random
        self._caught_up = False
        self._from_checkpoint, self._kcl, self._obeys = (
            "checkpoint" in driver,
            driver == "kcl",
            driver == "obey",
        )
        self.order = "stop"  # what one that obeys does next: read, cut or stop
        self._apart = "apart" in driver or self._kcl
        self.clock, self.code = OwnClock(world.clock, world.clock_error()), world.code()
        self._clock, self._facts = WatchedClock(self.clock, perform), FactList()
        self._ledger = WatchedLedger(world.ledger, perform)
        ports = WritePorts(
            ledger=self._ledger,
            objects=WatchedObjects(world.objects, perform),
            manifest=WatchedManifest(world.manifest, perform),
            index=WatchedIndex(world.index, perform),
            aggregates=WatchedAggregates(world.aggregates, perform),
            clock=self._clock,
            facts=self._facts,
            each=self._each,
            probe=FakeProbe(),
        )
        judged_by, limits = rules(self.code.version), self.code.limits
        self._loader = world.guard.loader(shard.lineage, judged_by, limits, ports)
        arm(self._loader, judged_by)
        self.lost = False  # its lease, to another worker

    def run(self) -> None:
        """Load the shard, as `consumers/reader.py` does or as a consumer with checkpoints does."""
        if self._obeys:
            self._obey()
        elif self._kcl:
            try:
                self._hold_lease()
            except LeaseLost:
                self.lost = True  # the record processor is dropped as it stands
        elif self._from_checkpoint or self._apart:
            self._consume()
        else:
            ports = ReadPorts(_Source(self), self._ledger, self._clock, self._facts, self._stopping)
            load_shard(self._loader, ports, idle_seconds=1.0, behind=lambda _: self._perhaps_cut())

    def _obey(self) -> None:
        loader = self._loader
        reader = self.open(loader.start())
        order = Effect("order", lambda: "stop" if self._world.draining else self.order)
        while (what := self._perform(order)) != "stop":
            if what == "cut":
                loader.cut("any moment")
                continue
            if self._read(reader).ended:
                return
        loader.stop()

    def _perhaps_cut(self) -> None:
        if self._random.random() < 0.1:
            self._loader.cut("any moment")

    def _each(self, write: Callable[[StagedObject], None], objects: Iterable[StagedObject]) -> None:
        shuffled = list(objects)
        self._random.shuffle(shuffled)
        for one in shuffled:
            write(one)

    def _stopping(self) -> bool:
        if self._world.draining:
            return self._caught_up
        return self._random.random() < self._world.scenario.stop_rate

    def _consume(self) -> None:
        loader = self._loader
        after = loader.start()
        if self._from_checkpoint:
            after = self._stale_checkpoint()
        reader = self.open(after)
        while not self._stopping():
            batch = self._read(reader, after)
            if batch.ended:
                return
            self._perhaps_cut()
            if self._random.random() < 0.5:
                self._checkpoint(batch)
            if not batch.records:
                self._clock.pause(1.0)
        loader.stop()

    def _read(self, reader: "_Tracking", after: Position | None = None) -> Batch:
        """Read once and do with it what every driver does."""
        loader, asked_us = self._loader, self._clock.now_us()
        batch = again("read", reader.read, clock=self._clock, facts=self._facts)
        loader.process(self._handed_over(batch.records, after), trimmed=batch.trimmed)
        if batch.ended:
            loader.cut("shard end", shard_end=True)
            return batch
        if not batch.records and batch.behind_ms == 0:
            loader.caught_up(asked_us, trimmed=batch.trimmed)
        loader.tick()
        return batch

    # as KCL does -----------------------------------------------------------------------------------------

    def _hold_lease(self) -> None:
        lease, loader = self._world.leases[self._shard.lineage.name], self._loader
        if self._shard.expired:  # KCL gives it to nobody: whoever begins with a child closes it
            loader.start()
            loader.cut("shard end", shard_end=True)
            return
        self._change_lease("taken", lambda: _take(lease, self._name))
        loader.start()
        after = lease.checkpoint
        asked_now = self._world.guard.asked_at_delivery
        reader = FetchedAhead(self.open(after), self._clock, self._random, asked_now=asked_now)
        while not self._stopping():
            if self._random.random() < 0.2:  # else the loss of a lease goes unnoticed for a while
                self._change_lease("renewed", lambda: self._keep(lease))
            batch = self._take_delivery(reader, after)
            if batch.ended:
                self._change_lease("ended", lambda: self._end(lease))
                return
            self._perhaps_cut()
            if self._random.random() < 0.4:
                self._checkpoint_lease(lease, batch)
            if not batch.records:
                self._clock.pause(1.0)
        loader.stop()
        self._checkpoint_lease(lease, None)

    def _take_delivery(self, reader: FetchedAhead, after: Position | None) -> Batch:
        """Take what was fetched some time ago; that a position was refused KCL does not tell."""
        loader = self._loader
        batch = again("read", reader.read, clock=self._clock, facts=self._facts)
        loader.process(self._handed_over(batch.records, after))
        if batch.ended:
            loader.cut("shard end", shard_end=True)
            return batch
        asked_us, self._caught_up = reader.asked_us, False
        if not batch.records and batch.behind_ms == 0 and asked_us is not None:
            loader.caught_up(asked_us)
            self._caught_up = True
        loader.tick()
        reader.answered()
        return batch

    def _checkpoint_lease(self, lease: Lease, batch: Batch | None) -> None:
        at = self._reached(batch)

        def store() -> None:
            self._keep(lease)
            lease.checkpoint = at

        if at is not None:
            self._change_lease(f"checkpoint {at.sequence_number}/{at.subsequence_number}", store)

    def _change_lease(self, what: str, change: Callable[[], None]) -> None:
        """Change the lease; raises LeaseLost (KCL's ShutdownException) when it is another's by now."""
        effect = Effect(
            f"lease.{what.split(maxsplit=1)[0]} {self._shard.lineage.short} {what}", change, Transient
        )
        again("lease", lambda: self._perform(effect), clock=self._clock, facts=self._facts)

    def _keep(self, lease: Lease) -> None:
        if lease.owner != self._name:
            raise LeaseLost(f"the lease is {lease.owner}'s")
        lease.counter += 1

    def _end(self, lease: Lease) -> None:
        self._keep(lease)
        lease.ended = True

    # reading ---------------------------------------------------------------------------------------------

    def open(self, after: Position | None) -> "_Tracking":
        """Open the shard at a position, the record itself included where only part of it was covered."""
        self._last: list[Record] = []
        if self._apart and after is not None:
            after = Position(str(int(after.sequence_number) - 1), 0)
        shard_id = self._shard.lineage.shard_id
        return _Tracking(self, self._shard.stream.reader(shard_id, after), self._perform, shard_id)

    def read(self, reader: MemoryShardReader, watched: WatchedReader) -> Batch:
        """Read some records, as many as the seed says."""
        reader.limit = self._random.choice((1, 2, 4, 100))
        batch = watched.read()
        self._caught_up = not batch.records
        # What the stream dropped it cannot give again.
        before = [one for one in self._last if one in self._shard.records]
        self._last = batch.records
        if before and batch.records and self._random.random() < self._world.scenario.reread_rate:
            return batch._replace(records=before + batch.records)  # delivered at least once
        return batch

    def _handed_over(self, records: list[Record], after: Position | None) -> list[Record]:
        if not self._apart:
            return records
        found = [one for record in records for one in taken_apart(record)]
        return [one for one in found if after is None or after < _position(one)]

    def _stale_checkpoint(self) -> Position | None:
        known = self._world.checkpoints[self._shard.lineage.name]
        if known and self._random.random() < 0.6:
            return known[-1]
        return self._random.choice([None, *known])

    def _checkpoint(self, batch: Batch) -> None:
        at = self._reached(batch)
        if at is None:
            return
        known = self._world.checkpoints[self._shard.lineage.name]
        name = f"checkpoint {self._shard.lineage.short} at {at.sequence_number}/{at.subsequence_number}"
        effect = Effect(name, lambda: known.append(at), Transient)
        again("checkpoint", lambda: self._perform(effect), clock=self._clock, facts=self._facts)

    def _reached(self, batch: Batch | None) -> Position | None:
        """Return what may be checkpointed; with the guard off, what was delivered."""
        if self._world.guard.checkpoint_ahead and batch is not None and batch.records:
            return _position(list(taken_apart(batch.records[-1]))[-1])
        return self._loader.committed


def _take(lease: Lease, name: str) -> None:
    lease.owner, lease.counter = name, lease.counter + 1


@dataclass(frozen=True)
class _Tracking:
    """Port `ShardReader` whose batch sizes the seed chooses."""

    life: Life
    inner: MemoryShardReader
    perform: Perform
    shard_id: str

    def read(self) -> Batch:
        return self.life.read(self.inner, WatchedReader(self.inner, self.perform, self.shard_id))


@dataclass(frozen=True)
class _Source:
    """Port `Stream`, as far as `load_shard` needs it."""

    life: Life
    name: str = ""
    epoch: str = ""

    def shards(self) -> list[ShardInfo]:
        return []

    def retention_us(self) -> int:
        return 0

    def reader(self, _shard_id: str, after: Position | None) -> _Tracking:
        return self.life.open(after)


def taken_apart(record: Record) -> list[Record]:
    """Return the user records of a Kinesis record, as KCL hands them over."""
    parts = [record.data]
    if is_aggregate(record.data):
        with suppress(InvalidEvent):  # KCL takes a broken one for a plain record
            parts = split(record.data)
    number, key, arrived = record.sequence_number, record.partition_key, record.arrived_us
    return [Record(number, key, part, arrived, index) for index, part in enumerate(parts)]


def _position(record: Record) -> Position:
    return Position(record.sequence_number, record.subsequence_number or 0)
