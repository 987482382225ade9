"""A deployment that falls behind its stream's retention: who reads, who stays away, who dies over a gap."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pipeline.core.gap import Keeping
from pipeline.core.segment import Gap, Lineage, Segment
from pipeline.facts import GapFound
from pipeline.flows.load import LoadLimits
from pipeline.flows.read import ReadPorts, Shards
from tests.core.kit import event, wire
from tests.flows.deployment import Deployment

FIRST = "shardId-000000000000"
HOUR = 3_600
DAY_US = 24 * HOUR * 1_000_000
MARGIN_US = Keeping(DAY_US).margin_us


class House(Deployment):
    """A deployment that knows how long its stream keeps a record."""

    def __init__(self, **more: int) -> None:
        super().__init__(**more)
        self.limits = LoadLimits(self.limits.cut, self.limits.window, Keeping(self.stream.retention_us()))
        self.number = 0

    def put(self, count: int, shard_id: str = FIRST) -> None:
        """Put events one second apart."""
        for _ in range(count):
            self.number += 1
            self.stream.append(shard_id, wire(event(event_id=f"e{self.number}")), "key")
            self.clock.advance(1)

    def away(self, hours: float) -> None:
        """Let nobody read for a while; the stream drops what it need not keep."""
        self.clock.advance(hours * HOUR)
        self.stream.trim()

    def work(self, seconds: float = 1, shard_id: str = FIRST) -> None:
        """Let a worker read for a while."""
        parents = self.stream.by_id[shard_id].info.parents
        shorts = tuple(
            self.ledger.register(self.stream.name, self.stream.epoch, one, ()).short for one in parents
        )
        lineage = self.ledger.register(self.stream.name, self.stream.epoch, shard_id, shorts)
        end = self.clock.monotonic() + seconds
        self.read(lineage, lambda: self.clock.monotonic() >= end, lambda _ms: None)

    def segments(self) -> list[Segment]:
        """Return all segments, oldest first."""
        return [self.ledger.rows[key] for key in sorted(self.ledger.rows)]

    def gaps(self) -> list[Gap]:
        """Return the gaps of the ledger."""
        return [one.gap for one in self.segments() if one.gap is not None]

    def alarms(self) -> list[GapFound]:
        """Return what was told of gaps."""
        return [fact for fact in self.facts.told if isinstance(fact, GapFound)]

    def shards(self) -> Shards:
        """Return the shards as a worker sees them."""
        return Shards(ReadPorts(self.stream, self.ledger, self.clock, self.facts, lambda: False))


class DeadError(BaseException):
    """The process is gone."""


@contextmanager
def dying(house: House) -> Iterator[None]:
    """Let a worker die once it has committed a gap, before it notes that nothing is left."""

    def die(lineage: str, until_us: int) -> None:
        del lineage, until_us
        raise DeadError

    note = house.ledger.note_read
    house.ledger.note_read = die  # type: ignore[method-assign]
    with suppress(DeadError):
        yield
    house.ledger.note_read = note  # type: ignore[method-assign]


def expired(house: House) -> Lineage:
    """Let a shard be split and dropped before it was read to its end; return its lineage."""
    house.put(4)
    house.work()
    house.put(2)
    children = house.stream.split(FIRST)
    house.shards().ready()  # the children are known, and wait
    house.away(30)
    house.stream.expire(FIRST)
    house.put(1, children[0])
    [lineage] = house.shards().ready()
    return lineage
