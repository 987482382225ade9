"""The simulated world: streams, time, seals and the stores; everything but the workers."""

from dataclasses import dataclass
from random import Random

from pipeline.core.event import Record
from pipeline.core.segment import Lineage, Position
from tests.fakes.clock import SteppedClock
from tests.fakes.index import MemoryIndex
from tests.fakes.manifest import MemoryManifest
from tests.fakes.stream import MemoryStream
from tests.sim.events import BEGIN_US, DAYS, Produced, Producer, deadly
from tests.sim.guards import Guard
from tests.sim.monitor import Monitor
from tests.sim.scenario import Scenario

_NAMES = ("gate", "mill")


class SimClock(SteppedClock):
    """Only the world moves time: a worker's pause lets others go on and takes none."""

    def pause(self, seconds: float) -> None:
        """Return at once, at the same time (`seconds` come from an unseeded jitter)."""


@dataclass(frozen=True)
class Shard:
    """One shard of one stream of one creation, and its lineage."""

    stream: MemoryStream
    lineage: Lineage

    @property
    def records(self) -> list[Record]:
        """Return what it holds."""
        return self.stream.by_id[self.lineage.shard_id].records

    @property
    def closed(self) -> bool:
        """True when nothing more will come."""
        return self.stream.by_id[self.lineage.shard_id].closed


class World:
    """What the workers work on."""

    def __init__(self, random: Random, scenario: Scenario, guard: Guard) -> None:
        self.random, self.scenario, self.guard = random, scenario, guard
        self.clock = SimClock(BEGIN_US)
        self.ledger, self.objects, self.manifest = guard.ledger(), guard.objects(), MemoryManifest()
        self.index, self.aggregates = MemoryIndex(), guard.aggregates()
        self.monitor = Monitor(self.ledger, self.objects)
        self.producer = Producer(random, scenario.days, scenario.repeats, scenario.refusals)
        self.shards: list[Shard] = []
        self.produced: dict[str, list[Produced]] = {}
        self.checkpoints: dict[str, list[Position]] = {}
        self.draining = False
        self._everywhere: list[MemoryStream] = []  # old creations too
        self._left = {
            "record": scenario.records,
            "reshard": scenario.reshardings,
            "seal": scenario.seals,
            "recreate": scenario.recreations,
        }
        self._streams = [self._create(name, "1") for name in _NAMES[: scenario.streams]]

    def _create(self, name: str, epoch: str) -> MemoryStream:
        stream = MemoryStream(self.clock, name, epoch, self.scenario.shards)
        stream.kept_us = self.scenario.retention_seconds * 1_000_000
        stream.refuses_trimmed = self.scenario.refuses_trimmed
        self._everywhere.append(stream)
        self._register(stream)
        return stream

    def _register(self, stream: MemoryStream) -> None:
        shorts = {one.lineage.shard_id: one.lineage.short for one in self.shards if one.stream is stream}
        for info in stream.shards():
            if info.shard_id not in shorts:
                parents = tuple(shorts[parent] for parent in info.parents)
                lineage = self.ledger.register(stream.name, stream.epoch, info.shard_id, parents)
                shorts[info.shard_id] = lineage.short
                self.shards.append(Shard(stream, lineage))
                self.produced[lineage.name] = []
                self.checkpoints[lineage.name] = []

    def ready(self) -> list[Shard]:
        """Return the shards that a worker may be started on: children only after their parents."""
        ended = {
            one.lineage for one in self.ledger.rows.values() if one.shard_end and one.state == "committed"
        }
        return [
            shard
            for shard in self.shards
            if shard.lineage.short not in ended and all(parent in ended for parent in shard.lineage.parents)
        ]

    def act(self) -> str:
        """Let one thing happen in the world; return what."""
        left = self._left
        choices = ["time", *["record"] * (6 * bool(left["record"]))]
        choices += [name for name in ("reshard", "seal", "recreate") if left[name]]
        if left["record"] and self.random.random() < self.scenario.lag_rate:
            return self._backlog()
        chosen = self.random.choice(choices)
        if chosen != "time":
            left[chosen] -= 1
        return {
            "time": self._pass_time,
            "record": self._produce,
            "reshard": self._reshard,
            "seal": self._seal,
            "recreate": self._recreate,
        }[chosen]()

    @property
    def quiet(self) -> bool:
        """True when nothing more is to be produced."""
        return not self._left["record"]

    def _pass_time(self) -> str:
        seconds = self.random.uniform(0, self.scenario.longest_pause_seconds)
        self.clock.advance(round(seconds, 3))
        dropped = sum(stream.trim() for stream in self._everywhere)
        return f"{seconds:.1f} s pass" + f", {dropped} records are dropped" * bool(dropped)

    def _backlog(self) -> str:
        """Records arrive and time passes while all workers stand still."""
        happened = []
        for _ in range(min(self.random.randint(2, 5), self._left["record"])):
            self._left["record"] -= 1
            happened += [self._produce(), self._pass_time()]
        return "; ".join(happened)

    def _produce(self) -> str:
        random = self.random
        current = [one for one in self.shards if one.stream in self._streams and not one.closed]
        shard = random.choice(current)
        name = shard.lineage.name
        kin = list(self.produced) if random.random() < 0.2 else self.family(shard.lineage)
        kills = random.random() < self.scenario.deadly
        payload = deadly(self._left["record"]) if kills else self.producer.payload(name, kin)
        arrived = self.clock.now_us() - random.randint(0, self.scenario.jitter_us)
        record = shard.stream.append(shard.lineage.shard_id, payload.data, payload.partition_key, arrived)
        self.produced[name].append(Produced(record, payload.units, payload.label))
        return f"record {record.sequence_number} of {len(payload.units)} units in {name}"

    def family(self, lineage: Lineage) -> list[str]:
        """Return the names of a lineage and all its ancestors."""
        by_short = {one.lineage.short: one.lineage for one in self.shards}
        found, todo = [lineage.name], list(lineage.parents)
        while todo:
            parent = by_short[todo.pop()]
            found.append(parent.name)
            todo += parent.parents
        return found

    def _reshard(self) -> str:
        stream = self.random.choice(self._streams)
        shards = sorted((one for one in stream.by_id.values() if not one.closed), key=lambda one: one.low)
        index = self.random.randrange(len(shards))
        shard_id = shards[index].info.shard_id
        if index and self.random.random() < 0.5:
            left = shards[index - 1].info.shard_id
            what = f"{left} and {shard_id} merge into {stream.merge(left, shard_id)}"
        else:
            what = f"{shard_id} splits into {stream.split(shard_id)}"
        self._register(stream)
        return f"{stream.name}-{stream.epoch}: {what}"

    def _seal(self) -> str:
        day = self.random.choice([day for day in DAYS if day >= self.ledger.seal.sealing_to])
        self.ledger.raise_seal(day)
        return f"seal raised to {day}, version {self.ledger.seal.version}"

    def _recreate(self) -> str:
        index = self.random.randrange(len(self._streams))
        old = self._streams[index]
        self._streams[index] = self._create(old.name, str(int(old.epoch) + 1))
        return f"stream {old.name} is created anew"
