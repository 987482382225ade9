"""The product's own producer on a simulated stream: partial failures, lost answers, death at any moment, receipts."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.errors import InvalidEvent, OutcomeUnknown
from pipeline.core.event import Record
from pipeline.core.kpl import split
from pipeline.core.retry import Backoff
from pipeline.core.slots import parse_label
from pipeline.ports.stream import OutgoingRecord, PutAnswer
from pipeline.sending import ProducerSettings
from tests.fakes.stream import MemoryStream
from tests.fakes.watched import Effect, Perform, WatchedClock, WatchedReceipts
from tests.sim.events import Produced, Unit
from tests.sim.world import Sent, World

_REFUSED = PutAnswer("", "", "ProvisionedThroughputExceededException")


@dataclass(frozen=True)
class SimSink:
    """Port `RecordSink`: any of the records may be refused, and any may be stored though no answer comes."""

    world: World
    stream: MemoryStream
    units: dict[bytes, Unit]
    perform: Perform

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Put records."""

        def some(parts: Sequence[int]) -> None:
            for part in parts:
                self._store(records[part])

        name = f"stream.put {self.stream.name}-{self.stream.epoch} {[one.partition_key for one in records]}"
        return self.perform(
            Effect(
                name,
                lambda: [self._accept(one) for one in records],
                OutcomeUnknown,
                torn=some,
                parts=len(records),
            )
        )

    def _accept(self, one: OutgoingRecord) -> PutAnswer:
        if self.world.random.random() < self.world.scenario.refused_puts:
            return _REFUSED
        shard_id, record = self._store(one)
        return PutAnswer(shard_id, record.sequence_number, "")

    def _store(self, one: OutgoingRecord) -> tuple[str, Record]:
        [answer] = self.stream.put([one])
        record = self.stream.by_id[answer.shard_id].records[-1]
        units = tuple(self.units[payload] for payload in split(one.data))
        name = f"{self.stream.name}-{self.stream.epoch}-{answer.shard_id}"
        self.world.produced[name].append(Produced(record, units, parse_label(one.partition_key)))
        return answer.shard_id, record


class ProducerLife:
    """What a program does with a producer, from its start to `close`."""

    def __init__(self, world: World, name: str, perform: Perform) -> None:
        self._world, self._random, self._name = world, world.random, name
        self._stream = self._random.choice(world.streams)
        self._units: dict[bytes, Unit] = {}
        self._clock = WatchedClock(world.clock, perform)
        settings = ProducerSettings(
            slots=4, max_batch_events=self._random.choice((1, 2, 5)), backoff=Backoff(attempts=5)
        )
        self._producer = world.guard.producer(
            name,
            (self._stream.name, self._stream.epoch),
            SimSink(world, self._stream, self._units, perform),
            WatchedReceipts(world.receipts, perform),
            self._clock,
            lambda: 0.5,
            settings,
        )
        self._waiting: list[Sent] = []

    def run(self) -> None:
        """Put some events, flush now and then, close."""
        for _ in range(self._random.randint(2, 8)):
            self._put()
            if self._random.random() < 0.3:
                self._producer.flush()
                self._acknowledged()
        self._producer.close()
        self._acknowledged()
        self._world.promises.closed.add(self._name)

    def _put(self) -> None:
        unit = self._world.producer.unit(list(self._units.values()))
        if unit.raw in self._units:
            return  # equal bytes could not be told apart
        entity = ("acme", f"thing-{self._random.randrange(3)}")
        sent = Sent(self._name, entity, unit)
        self._units[unit.raw] = unit
        try:
            self._producer.put(*entity, unit.raw)
        except InvalidEvent:
            return
        self._world.promises.put.append(sent)
        self._waiting.append(sent)

    def _acknowledged(self) -> None:
        self._world.promises.acknowledged += self._waiting
        self._waiting = []
