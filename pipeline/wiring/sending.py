"""What producers are made of."""

import random
import secrets
from collections.abc import Callable
from dataclasses import dataclass

from pipeline.aws.client import make_client, unheard
from pipeline.aws.kinesis import KinesisCheck, KinesisSink
from pipeline.aws.manifest import DynamoReceipts
from pipeline.aws.meter import Meter
from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.core.rules import Rules
from pipeline.facts import FactSink
from pipeline.ports.clock import Clock, SystemClock
from pipeline.sending import Producer, ProducerSettings
from pipeline.sending.batches import MAX_EVENT_BYTES
from pipeline.sending.fates import BatchFate
from pipeline.sending.threaded import EventProducer, ProducerOptions
from pipeline.sending.worker import WorkerPorts
from pipeline.wiring.stores import Archive, archive, connection, hasty, stream

_RECEIPT_SECONDS = 2.0  # of one try to write a receipt
_RECEIPT_ATTEMPTS, _RECEIPT_RETRY_SECONDS = (
    3,
    0.5,
)  # refused calls are tried again within it; one that timed out is not


@dataclass(frozen=True)
class SendingParts:
    """What every producer is made of; the id is new each time."""

    producer_id: str
    stream: tuple[str, str]
    sink: KinesisSink
    check: KinesisCheck
    settings: ProducerSettings


def sending_parts(settings: Settings, stores: Archive) -> SendingParts:
    """Return the parts of a producer to the configured stream.

    Raises:
        ConfigProblem: `stream.slots` is not the number that this stream began with.
    """
    source, batches = stream(settings), settings.producer
    fixed = stores.ledger.fix_slots(source.name, source.epoch, settings.stream.slots)
    if fixed != settings.stream.slots:
        raise ConfigProblem(
            f"stream.slots is {settings.stream.slots}, but stream {source.name} began with {fixed}, and an entity's "
            f"place follows from it: set stream.slots to {fixed}, or begin a new stream"
        )
    client = make_client("kinesis", connection(settings), stores.meter, max_attempts=1)  # `Outbox` repeats
    return SendingParts(
        secrets.token_hex(6),
        (source.name, source.epoch),
        KinesisSink(client, source.name),
        source.check(),
        ProducerSettings(
            slots=settings.stream.slots,
            max_batch_bytes=batches.max_batch_bytes,
            max_batch_events=batches.max_batch_events,
            linger_seconds=batches.linger_ms / 1000,
        ),
    )


def producer(settings: Settings, stores: Archive, clock: Clock | None = None) -> Producer:
    """Return a producer of its own id to the configured stream; for one thread."""
    parts = sending_parts(settings, stores)
    return Producer(
        parts.producer_id,
        parts.stream,
        parts.sink,
        stores.receipts,
        clock or SystemClock(),
        random.random,
        parts.settings,
        parts.check,
    )


def event_producer(
    settings: Settings,
    options: ProducerOptions,
    facts: FactSink,
    on_batch: Callable[[BatchFate], None] | None,
    judged_by: Rules | None,
) -> EventProducer:
    """Return a producer for a user's program, its sending thread started."""
    stores = archive(settings)
    parts = sending_parts(settings, stores)
    ports = WorkerPorts(
        parts.sink, sending_receipts(settings), SystemClock(), random.random, facts, on_batch, parts.check
    )
    largest = min(settings.events.max_event_bytes, MAX_EVENT_BYTES)
    return EventProducer(parts.producer_id, parts.stream, ports, parts.settings, options, largest, judged_by)


def sending_receipts(settings: Settings, facts: FactSink = unheard) -> DynamoReceipts:
    """Return the receipts of a sending thread: a call gives up within two seconds, for the thread tries again itself.

    A receipt that waits out the patience of other calls (a minute for a table that hangs) would hold up the events that are
    to be sent, or to go to disk, meanwhile.
    """
    where = hasty(settings, _RECEIPT_SECONDS, _RECEIPT_ATTEMPTS, _RECEIPT_RETRY_SECONDS)
    client = make_client("dynamodb", where, Meter(), facts=facts)
    return DynamoReceipts(client, settings.storage.table_prefix)
