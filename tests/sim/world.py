"""The simulated world: streams, time, seals, leases and the stores; everything but who works on them."""

from dataclasses import dataclass, field
from random import Random

from pipeline.core.event import Record
from pipeline.core.segment import Lineage, Position
from pipeline.flows.load import LoadLimits
from pipeline.flows.read import ReadPorts
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.receipts import MemoryReceipts
from tests.fakes.stream import MemoryStream
from tests.sim.events import BEGIN_US, DAYS, Produced, Producer, Unit, deadly
from tests.sim.guards import Guard
from tests.sim.monitor import Monitor
from tests.sim.scenario import Scenario

_NAMES = ("gate", "mill")


class SimClock(SteppedClock):
    """Only the world moves time: a worker's pause lets others go on and takes none."""

    def pause(self, seconds: float) -> None:
        """Return at once, at the same time (`seconds` come from an unseeded jitter)."""


class OwnClock(SimClock):
    """One worker's clock: its wall may be wrong and may jump, its monotonic time is everybody's."""

    def __init__(self, inner: SimClock, wrong_us: int = 0) -> None:
        super().__init__()
        self._inner, self.wrong_us = inner, wrong_us

    def now_us(self) -> int:
        """Return what this worker's wall says."""
        return self._inner.now_us() + self.wrong_us

    def monotonic(self) -> float:
        """Return seconds that never run backwards."""
        return self._inner.monotonic()


@dataclass
class Lease:
    """One row of KCL's lease table: whoever changes it raises the counter."""

    owner: str = ""
    counter: int = 0
    checkpoint: Position | None = None
    ended: bool = False


@dataclass(frozen=True)
class Code:
    """What a worker runs: a version of the rules, and its limits."""

    version: int
    limits: LoadLimits


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

    @property
    def expired(self) -> bool:
        """True when the stream names it no more."""
        return self.lineage.shard_id in self.stream.expired


@dataclass(frozen=True)
class Sent:
    """What one real producer was told of one event: it was put, and later it was acknowledged."""

    producer: str
    entity: tuple[str, str]
    unit: Unit


@dataclass
class Promises:
    """What the real producers were promised."""

    put: list[Sent] = field(default_factory=list)
    acknowledged: list[Sent] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)


class World:
    """What the workers work on."""

    def __init__(self, random: Random, scenario: Scenario, guard: Guard) -> None:
        self.random, self.scenario, self.guard = random, scenario, guard
        self.clock = SimClock(BEGIN_US)
        self.ledger, self.objects, self.manifest = guard.ledger(), guard.objects(), guard.manifest()
        self.index, self.aggregates, self.receipts = guard.index(), guard.aggregates(), MemoryReceipts()
        self.monitor = Monitor(self.ledger, self.objects, self.manifest, self.index, self.aggregates)
        self.producer = Producer(random, scenario.days, scenario.repeats, scenario.refusals, scenario.news)
        self.promises = Promises()
        self.shards: list[Shard] = []
        self._every_stream: list[MemoryStream] = []
        self._looked_at = (0, 0)
        self._ready: list[Shard] = []
        self.produced: dict[str, list[Produced]] = {}
        self.checkpoints: dict[str, list[Position]] = {}
        self.leases: dict[str, Lease] = {}
        self.unpromised: set[tuple[str, str]] = (
            set()
        )  # dropped before the first start, by short form and number
        self._closed_us: dict[str, int] = {}
        self.draining = self.deployed = False
        self._left = {
            "record": scenario.records,
            "reshard": scenario.reshardings,
            "seal": scenario.seals,
            "recreate": scenario.recreations,
            "deploy": scenario.deploys,
        }
        self.streams = [self._create(name, "1") for name in _NAMES[: scenario.streams]]

    def _create(self, name: str, epoch: str) -> MemoryStream:
        stream = MemoryStream(self.clock, name, epoch, self.scenario.shards)
        stream.kept_us = self.scenario.retention_seconds * 1_000_000
        stream.refuses_trimmed = self.scenario.refuses_trimmed
        self._every_stream.append(stream)
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
                self.leases[lineage.name] = Lease()

    def ready(self) -> list[Shard]:
        """Return the shards that a worker may be started on, as the product says, without those that are read to their end."""
        now = (len(self.shards), len(self.monitor.committed))
        if now != self._looked_at:  # nothing else changes the answer, and it is asked for at every step
            self._looked_at, self._ready = now, self._look()
        return self._ready

    def _look(self) -> list[Shard]:
        found: set[str] = set()
        for stream in self._every_stream:
            ports = ReadPorts(stream, self.ledger, self.clock, FactList(), lambda: False)
            found |= {lineage.name for lineage in self.guard.shards(ports).ready()}
        return [
            one for one in self.shards if one.lineage.name in found and not self._ended(one.lineage.short)
        ]

    def _ended(self, short: str) -> bool:
        newest = self.ledger.open(short).newest
        return newest is not None and newest.shard_end and newest.state == "committed"

    def code(self) -> Code:
        """Return what a worker runs that starts now: a deployment goes from worker to worker."""
        later = self.deployed and self.random.random() < 0.6
        return Code(int(later), self.scenario.deployed_limits if later else self.scenario.limits)

    def act(self) -> str:
        """Let one thing happen in the world; return what."""
        left = self._left
        choices = ["time", *["record"] * (6 * bool(left["record"]))]
        choices += [name for name in ("reshard", "seal", "recreate", "deploy") if left[name]]
        if left["record"] and self.random.random() < self.scenario.lag_rate:
            return self._backlog()
        chosen = self.random.choice(choices)
        if chosen != "time":
            left[chosen] -= 1
        return self.let(chosen)

    def let(self, chosen: str) -> str:
        """Let this happen; return what did."""
        return {
            "time": self._pass_time,
            "record": self._produce,
            "reshard": self._reshard,
            "seal": self._seal,
            "recreate": self._recreate,
            "deploy": self._deploy,
        }[chosen]()

    @property
    def quiet(self) -> bool:
        """True when nothing more is to be produced."""
        return not self._left["record"]

    def _pass_time(self) -> str:
        seconds = self.random.uniform(0, self.scenario.longest_pause_seconds)
        self.clock.advance(round(seconds, 3))
        dropped = sum(stream.trim() for stream in self._every_stream)
        expired = [one.lineage.short for one in self.shards if self._expire(one)]
        what = f", {dropped} records are dropped" * bool(dropped) + f", {expired} expire" * bool(expired)
        return f"{seconds:.1f} s pass{what}"

    def _expire(self, shard: Shard) -> bool:
        """Let the stream forget a shard that was closed a retention ago; True when it does so now."""
        closed_us = self._closed_us.setdefault(shard.lineage.name, self.clock.now_us()) if shard.closed else 0
        old = self.clock.now_us() - closed_us > shard.stream.kept_us
        if not shard.closed or shard.expired or not old:
            return False
        shard.stream.expire(shard.lineage.shard_id)
        self._looked_at = (0, 0)
        return True

    def clock_error(self) -> int:
        """Return how wrong a wall clock is from now on, in microseconds."""
        scenario = self.scenario
        wrong = self.random.random() < scenario.clock_rate
        return self.random.choice(scenario.clock_errors) * 1_000_000 if wrong else 0

    def _backlog(self) -> str:
        """Records arrive and time passes while all workers stand still."""
        happened = []
        for _ in range(min(self.random.randint(2, 5), self._left["record"])):
            self._left["record"] -= 1
            happened += [self._produce(), self._pass_time()]
        return "; ".join(happened)

    def _produce(self) -> str:
        return self.produce(self.random.choice(self.open_shards()))

    def open_shards(self) -> list[Shard]:
        """Return the shards that take records."""
        return [one for one in self.shards if one.stream in self.streams and not one.closed]

    def produce(self, shard: Shard) -> str:
        """Store one record, as anybody's PutRecord does."""
        random, name = self.random, shard.lineage.name
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
        return self.reshard(self.random.choice(self.streams))

    def reshard(self, stream: MemoryStream) -> str:
        """Split a shard or merge two, whatever they came from themselves."""
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

    def _deploy(self) -> str:
        self.deployed = True
        return "other limits, a schema version, an event type and a tenant are deployed"

    def _seal(self) -> str:
        day = self.random.choice([day for day in DAYS if day >= self.ledger.seal.sealing_to])
        self.ledger.raise_seal(day)
        return f"seal raised to {day}, version {self.ledger.seal.version}"

    def _recreate(self) -> str:
        index = self.random.randrange(len(self.streams))
        old = self.streams[index]
        self.streams[index] = self._create(old.name, str(int(old.epoch) + 1))
        return f"stream {old.name} is created anew"
