"""A user's program that is killed: some events go out, the others to disk, and it ends in the middle of draining."""

import json
import os
import random
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from pipeline import wiring
from pipeline.config import load_settings
from pipeline.core.retry import Backoff
from pipeline.ports.clock import SystemClock
from pipeline.ports.stream import OutgoingRecord, PutAnswer, RecordSink
from pipeline.producer import EventProducer, ProducerOptions
from pipeline.sending.batches import ProducerSettings
from pipeline.sending.worker import WorkerPorts

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "flights.ndjson"
ENTITIES = 20


def lines(first: int, count: int) -> list[bytes]:
    """Return good events of twenty entities, numbered by event id."""
    read = map(json.loads, EXAMPLES.read_text(encoding="utf-8").splitlines())
    example = next(one for one in read if one["event_type"] == "weather.observed")
    return [
        json.dumps(
            {**example, "event_id": f"e{number}", "entity_id": f"station-{number % ENTITIES}"}
        ).encode()
        for number in range(first, first + count)
    ]


class _Moody:
    """The real stream, which takes nothing after some calls, then again a few records a call, and then kills."""

    def __init__(self, sink: RecordSink, good_calls: int, calls_to_live: int) -> None:
        self._sink, self._good, self._life = sink, good_calls, calls_to_live
        self.again = False

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        if not self.again:
            self._good -= 1
            if self._good < 0:
                return [PutAnswer("", "", "ProvisionedThroughputExceededException")] * len(records)
            return self._sink.put(records)
        self._life -= 1
        answers = self._sink.put(records[:5])
        if self._life < 0:
            os.kill(os.getpid(), signal.SIGKILL)  # the stream has them, and nobody was told
        return answers + [PutAnswer("", "", "ProvisionedThroughputExceededException")] * (len(records) - 5)


def main(folder: str, seed: int, count: int) -> None:
    """Put so many events; print what the report says; drain until the end comes."""
    chance = random.Random(seed)
    settings = load_settings()
    stores = wiring.archive(settings)
    parts = wiring.sending_parts(settings, stores)
    sink = _Moody(parts.sink, chance.randrange(1, 6), chance.randrange(8))
    quick = ProducerSettings(parts.settings.slots, 4_096, 20, 0.01, Backoff(3, 0.001, 0.01))
    ports = WorkerPorts(sink, stores.receipts, SystemClock(), random.random, lambda _fact: None)
    options = ProducerOptions(spill=Path(folder))
    producer = EventProducer(parts.producer_id, parts.stream, ports, quick, options)
    for line in lines(0, count):
        producer.put_json(line)
    report = producer.flush(60)
    print(report.acknowledged, report.spilled, report.waiting + report.refused, flush=True)
    sink.again = True
    producer.drain()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
