"""The producers over a null stream: events in, aggregates and receipts out, processor time of all threads."""

import statistics
from collections.abc import Sequence
from typing import Any

import orjson
from aws_kinesis_agg.aggregator import RecordAggregator

from pipeline.core.receipt import Receipt
from pipeline.ports.clock import SystemClock
from pipeline.ports.stream import OutgoingRecord, PutAnswer
from pipeline.producer import Event, EventProducer, ProducerOptions
from pipeline.sending import Producer, ProducerSettings
from pipeline.sending.worker import WorkerPorts
from tests.bench.data import events
from tests.bench.figure import Figure, cpu_seconds, paired


class _NullSink:
    def put(self, put: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        return [PutAnswer("shard", "1", "")] * len(put)


class NullReceipts:
    """Forgets every receipt."""

    def put(self, receipt: Receipt) -> None:
        """Forget it."""

    def of(self, producer: str) -> list[Receipt]:
        del producer
        return []

    def all(self) -> list[Receipt]:
        return []


def producer(count: int, rounds: int) -> list[Figure]:
    """Finished bytes into the producer of one thread; typed events into the threaded one, against aws_kinesis_agg."""
    payloads = events(count)
    keys = [(f"tenant-{number % 20:02d}", f"customer-{number % 20_000}") for number in range(count)]
    documents: list[dict[str, Any]] = [orjson.loads(payload) for payload in payloads]

    def finished() -> None:
        sender = Producer("bench", ("s", "1"), _NullSink(), NullReceipts(), SystemClock(), lambda: 0.0)
        for (tenant, entity), payload in zip(keys, payloads, strict=True):
            sender.put(tenant, entity, payload)
        sender.close()

    def typed() -> None:
        ports = WorkerPorts(_NullSink(), NullReceipts(), SystemClock(), lambda: 0.0, lambda _fact: None)
        options = ProducerOptions(max_buffer_bytes=2**30)  # processor time is measured, not waiting
        with EventProducer("bench", ("s", "1"), ports, ProducerSettings(), options) as sender:
            for one in documents:
                sender.put(
                    Event(
                        tenant_id=one["tenant_id"],
                        entity_id=one["entity_id"],
                        event_type=one["event_type"],
                        schema_version=one["schema_version"],
                        source=one["source"],
                        data=one["data"],
                    )
                )

    def theirs() -> None:
        aggregator = RecordAggregator()
        for one in documents:
            full = aggregator.add_user_record(one["entity_id"], orjson.dumps(one), "0")
            if full is not None:
                full.get_contents()
        aggregator.clear_and_get().get_contents()

    plain = statistics.median(cpu_seconds(finished) for _ in range(rounds))
    ours, other, ratio = paired(typed, theirs, rounds)
    return [
        Figure(
            "producer, finished bytes into aggregates, null stream",
            count / plain,
            "events/s/core",
            ">= 100,000",
        ),
        Figure(
            "producer, typed events, checked and encoded, threaded",
            count / ours,
            "events/s/core",
            ">= 100,000",
        ),
        Figure("aws_kinesis_agg, dicts encoded, one thread, no receipts", count / other, "events/s/core"),
        Figure("typed producer / aws_kinesis_agg, processor time", ratio, "x"),
    ]
