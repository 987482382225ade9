"""The only file that joins flows to adapters."""

import random
import secrets
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pipeline.aws.aggregates import DynamoAggregates
from pipeline.aws.client import Connection, make_client, unheard
from pipeline.aws.entity_days import DynamoEntityDays
from pipeline.aws.index import DynamoIndex
from pipeline.aws.jobs import DynamoJobs
from pipeline.aws.kinesis import KinesisSink, KinesisStream, create_stream
from pipeline.aws.ledger import DynamoLedger
from pipeline.aws.manifest import DynamoManifest, DynamoReceipts
from pipeline.aws.meter import Meter
from pipeline.aws.s3 import S3Objects, create_bucket
from pipeline.aws.sqs import SqsQueue, create_queues
from pipeline.aws.tables import create_tables
from pipeline.config import Settings
from pipeline.core.audit import Report
from pipeline.core.days import HOUR_US
from pipeline.core.errors import ConfigProblem
from pipeline.core.event import Limits
from pipeline.core.gap import Keeping
from pipeline.core.rules import Rules, make_rules
from pipeline.core.segment import CutLimits
from pipeline.core.staging import StagedObject
from pipeline.facts import FactSink
from pipeline.flows.audit import AuditPorts, run_audit
from pipeline.flows.find import FindPorts
from pipeline.flows.load import LoadLimits
from pipeline.flows.process import ProcessLimits, ProcessPorts
from pipeline.flows.quarantine import QuarantinePorts
from pipeline.flows.redrive import RedrivePorts
from pipeline.flows.replay import ReplayPorts
from pipeline.flows.replay_plan import PlanPorts
from pipeline.flows.rows import RowReader
from pipeline.flows.sight import TracePorts
from pipeline.flows.window import WindowLimits
from pipeline.flows.write import WritePorts
from pipeline.laptop.child_probe import ChildProbe
from pipeline.laptop.object_cache import ObjectCache
from pipeline.laptop.schema_files import load_envelope, load_schemas
from pipeline.ports.clock import Clock, SystemClock
from pipeline.ports.sql import SqlEngine
from pipeline.sending import Producer, ProducerSettings
from pipeline.sending.batches import MAX_EVENT_BYTES
from pipeline.sending.fates import BatchFate
from pipeline.sending.threaded import EventProducer, ProducerOptions
from pipeline.sending.worker import WorkerPorts

_WRITERS = 8  # objects written at once by one worker
_READERS = 8  # segments audited, or runs of rows read, at once: hides the latency of S3
_LOCAL_READERS = 2  # an emulator has none, and each segment takes memory
_AHEAD = 4  # data files read ahead of a processor
LOCAL_RETENTION_HOURS = 8_760  # the emulator's iterators skip records once it drops old ones


def connection(settings: Settings) -> Connection:
    """Return where AWS is."""
    aws = settings.aws
    return Connection(
        region=aws.region,
        endpoint_url=aws.endpoint_url,
        access_key_id=aws.access_key_id.get_secret_value() if aws.access_key_id else None,
        secret_access_key=aws.secret_access_key.get_secret_value() if aws.secret_access_key else None,
        connect_timeout_seconds=aws.connect_timeout_seconds,
        read_timeout_seconds=aws.read_timeout_seconds,
        max_attempts=aws.max_attempts,
        retry_seconds=aws.retry_seconds,
    )


def provision(settings: Settings) -> None:
    """Make stream, bucket and tables where they are missing (the local stack; in the cloud Terraform does it)."""
    where, meter = connection(settings), Meter()
    create_stream(
        make_client("kinesis", where, meter),
        settings.stream.name,
        settings.stream.shards,
        LOCAL_RETENTION_HOURS if settings.aws.endpoint_url else settings.stream.retention_hours,
    )
    create_bucket(make_client("s3", where, meter), settings.storage.bucket, settings.aws.region)
    create_tables(make_client("dynamodb", where, meter), settings.storage.table_prefix)
    create_queues(
        make_client("sqs", where, meter),
        *_queue_names(settings),
        visibility_seconds=settings.replay.visibility_seconds,
        max_attempts=settings.replay.max_attempts,
    )


def _queue_names(settings: Settings) -> tuple[str, str]:
    """Return the names of the replay queue and its dead-letter queue; SQS allows no dots."""
    prefix, replay = settings.storage.table_prefix.replace(".", "-"), settings.replay
    return prefix + replay.queue, prefix + replay.dead_queue


def rules(settings: Settings) -> Rules:
    """Return what events are judged by."""
    events = settings.events
    limits = Limits(
        max_event_bytes=events.max_event_bytes,
        max_depth=events.max_depth,
        max_keys=events.max_keys,
        max_items=events.max_items,
        max_string_bytes=events.max_string_bytes,
        max_future_seconds=events.max_future_minutes * 60,
        max_record_events=events.max_record_events,
        max_inflated_bytes=events.max_inflated_bytes,
        max_inflation=events.max_inflation,
    )
    schemas = settings.paths.schemas
    return make_rules(load_schemas(schemas), events.tenants, limits, load_envelope(schemas))


@dataclass(frozen=True)
class Archive:
    """The stores of one deployment, ready to use, and what their writes cost so far."""

    objects: S3Objects
    manifest: DynamoManifest
    index: DynamoIndex
    aggregates: DynamoAggregates
    ledger: DynamoLedger
    receipts: DynamoReceipts
    meter: Meter


def archive(settings: Settings, facts: FactSink = unheard) -> Archive:
    """Return the stores; `facts` is told of every request that is sent again."""
    where, meter, prefix = connection(settings), Meter(), settings.storage.table_prefix
    dynamodb = make_client("dynamodb", where, meter, facts=facts)
    return Archive(
        objects=S3Objects(make_client("s3", where, meter, facts=facts), settings.storage.bucket),
        manifest=DynamoManifest(dynamodb, prefix),
        index=DynamoIndex(dynamodb, prefix),
        aggregates=DynamoAggregates(dynamodb, prefix),
        ledger=DynamoLedger(dynamodb, prefix),
        receipts=DynamoReceipts(dynamodb, prefix),
        meter=meter,
    )


def stream(settings: Settings, facts: FactSink = unheard) -> KinesisStream:
    """Return the stream."""
    client = make_client("kinesis", connection(settings), Meter(), facts=facts)
    return KinesisStream(client, settings.stream.name)


@dataclass(frozen=True)
class LoaderParts:
    """What a loading worker is made of."""

    rules: Rules
    limits: LoadLimits
    ports: WritePorts
    stream: KinesisStream
    meter: Meter


def loader_parts(settings: Settings, clock: Clock, facts: FactSink) -> LoaderParts:
    """Return the parts of a loading worker."""
    stores, source, judged_by = archive(settings, facts), stream(settings, facts), rules(settings)
    probe = ChildProbe(judged_by, settings.worker.probe_memory_bytes, settings.worker.probe_seconds)
    return LoaderParts(
        rules=judged_by,
        limits=replace(load_limits(settings), keeping=Keeping(source.retention_us())),
        ports=replace(write_ports(stores, clock, facts), probe=probe),
        stream=source,
        meter=stores.meter,
    )


def load_limits(settings: Settings) -> LoadLimits:
    """Return when segments are cut, and how far duplicates are looked for."""
    segment, duplicates = settings.segment, settings.duplicates
    return LoadLimits(
        CutLimits(
            max_rows=segment.max_rows,
            max_bytes=segment.max_bytes,
            max_age_seconds=segment.max_age_seconds,
            max_idle_seconds=segment.max_idle_seconds,
            max_files=segment.max_files,
        ),
        WindowLimits(int(duplicates.window_hours * HOUR_US), duplicates.max_ids),
    )


def write_ports(stores: Archive, clock: Clock, facts: FactSink) -> WritePorts:
    """Return what deciding segments writes to."""
    pool = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writer")

    def each(call: Callable[[StagedObject], None], items: Iterable[StagedObject]) -> None:
        for _ in pool.map(call, items):
            pass

    return WritePorts(
        ledger=stores.ledger,
        objects=stores.objects,
        manifest=stores.manifest,
        index=stores.index,
        aggregates=stores.aggregates,
        clock=clock,
        facts=facts,
        each=each,
    )


def redriving(settings: Settings, facts: FactSink, progress: Callable[[int], None]) -> RedrivePorts:
    """Return what a redrive needs; `progress` is told of units that were looked at."""
    return RedrivePorts(write_ports(archive(settings, facts), SystemClock(), facts), progress)


def quarantine(settings: Settings, progress: Callable[[int], None]) -> QuarantinePorts:
    """Return what reading the quarantine needs; `progress` is told of files that were read."""
    stores = archive(settings)
    return QuarantinePorts(
        stores.ledger, stores.manifest, stores.objects, SystemClock(), lambda _fact: None, progress
    )


@dataclass(frozen=True)
class SendingParts:
    """What every producer is made of; the id is new each time."""

    producer_id: str
    stream: tuple[str, str]
    sink: KinesisSink
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
    client = make_client("kinesis", connection(settings), stores.meter, max_attempts=1)
    return SendingParts(
        secrets.token_hex(6),
        (source.name, source.epoch),
        KinesisSink(client, settings.stream.name),
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
    ports = WorkerPorts(parts.sink, sending_receipts(settings), SystemClock(), random.random, facts, on_batch)
    largest = min(settings.events.max_event_bytes, MAX_EVENT_BYTES)
    return EventProducer(parts.producer_id, parts.stream, ports, parts.settings, options, largest, judged_by)


def sending_receipts(settings: Settings, facts: FactSink = unheard) -> DynamoReceipts:
    """Return the receipts of a sending thread: a call gives up within half a second, for the thread tries again itself.

    A receipt that waits out the patience of other calls (16 s) would hold up what is to go to disk meanwhile.
    """
    client = make_client("dynamodb", connection(settings), Meter(), facts=facts, max_attempts=3)
    return DynamoReceipts(client, settings.storage.table_prefix)


@dataclass(frozen=True)
class ReplayParts:
    """What replay is made of: planning, starting, processing, and the stores they share."""

    plan: PlanPorts
    start: ReplayPorts
    process: ProcessPorts
    limits: ProcessLimits
    jobs: DynamoJobs
    days: DynamoEntityDays
    queue: SqsQueue
    meter: Meter


def replay_parts(
    settings: Settings, clock: Clock, facts: FactSink, stopping: Callable[[], bool] = lambda: False
) -> ReplayParts:
    """Return the parts of replay; `stopping` turns true when the process is asked to stop."""
    stores, where, meter = archive(settings, facts), connection(settings), Meter()
    dynamodb, prefix = make_client("dynamodb", where, meter, facts=facts), settings.storage.table_prefix
    jobs, days = DynamoJobs(dynamodb, prefix), DynamoEntityDays(dynamodb, prefix)
    visibility = settings.replay.visibility_seconds
    queue = SqsQueue(make_client("sqs", where, meter, facts=facts), *_queue_names(settings), visibility)
    pool = ThreadPoolExecutor(_READERS, thread_name_prefix="reader")
    reader = _readers(stores.objects)

    def read(key: str, first_row: int, rows: int, columns: Sequence[str]) -> Any:
        return reader().read(key, first_row, rows, columns)

    def ahead(call: Callable[[Any], Any], items: Iterable[Any]) -> Iterator[Any]:
        return map_ahead(pool, call, items, _AHEAD)

    return ReplayParts(
        plan=PlanPorts(stores.ledger, stores.manifest, stores.index, read, pool.map, clock, facts),
        start=ReplayPorts(jobs, queue, read, lambda: secrets.token_hex(3), clock, facts),
        process=ProcessPorts(queue, jobs, days, read, ahead, clock, facts, stopping),
        limits=ProcessLimits(settings.replay.max_attempts, visibility),
        jobs=jobs,
        days=days,
        queue=queue,
        meter=meter,
    )


def _readers(objects: S3Objects) -> Callable[[], RowReader]:
    """Return a function that gives each thread a reader of its own."""
    mine = threading.local()

    def reader() -> RowReader:
        if not hasattr(mine, "reader"):
            mine.reader = RowReader(objects)
        found: RowReader = mine.reader
        return found

    return reader


def map_ahead(
    pool: ThreadPoolExecutor, call: Callable[[Any], Any], items: Iterable[Any], width: int
) -> Iterator[Any]:
    """Map in order, at most `width` results ahead of whoever takes them: their memory is bounded."""
    futures: deque[Future[Any]] = deque()
    for item in items:
        futures.append(pool.submit(call, item))
        if len(futures) >= width:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def sql_engine(settings: Settings, engine: str | None) -> SqlEngine:
    """Return the SQL engine: the one named, else the one of the settings."""
    chosen, query = engine or settings.query.engine, settings.query
    if chosen == "athena":
        from pipeline.aws.athena import AthenaEngine  # noqa: PLC0415 - only where it is used

        client = make_client("athena", connection(settings), Meter())
        return AthenaEngine(
            client,
            workgroup=query.athena_workgroup,
            database=query.athena_database,
            output=query.athena_output,
        )
    from pipeline.laptop.duck import DuckEngine  # noqa: PLC0415 - duckdb is part of the extra `local`

    stores = archive(settings)
    cache = object_cache(settings, stores)
    return DuckEngine(
        rules(settings).schemas, stores.manifest, cache, database=query.athena_database, clock=SystemClock()
    )


def object_cache(settings: Settings, stores: Archive) -> ObjectCache:
    """Return this machine's copies of the archive's objects: a folder of its own for every archive."""
    place = "local" if settings.aws.endpoint_url else settings.aws.region  # a local stack's port changes
    name = f"{place}-{settings.storage.bucket}"
    return ObjectCache(stores.objects, settings.paths.home / "cache" / name)


def audit(settings: Settings, progress: Callable[[int], None]) -> Report:
    """Run the audit; `progress` is told of every object read, from any thread."""
    stores = archive(settings)
    cache = object_cache(settings, stores)
    readers = _LOCAL_READERS if settings.aws.endpoint_url else _READERS
    with ThreadPoolExecutor(readers, thread_name_prefix="audit") as pool:
        ports = AuditPorts(
            ledger=stores.ledger,
            manifest=stores.manifest,
            objects=stores.objects,
            index=stores.index,
            aggregates=stores.aggregates,
            receipts=stores.receipts,
            fetch=cache.verified,
            each=pool.map,
            progress=progress,
        )
        return run_audit(ports)


@contextmanager
def finding(settings: Settings, progress: Callable[[int], None]) -> Iterator[TracePorts]:
    """Give what look-ups, counts and traces read; `progress` is told of every read, from any thread."""
    stores = archive(settings)
    reader = _readers(stores.objects)
    with ThreadPoolExecutor(_READERS, thread_name_prefix="find") as pool:
        find = FindPorts(
            ledger=stores.ledger,
            manifest=stores.manifest,
            index=stores.index,
            aggregates=stores.aggregates,
            read=lambda *wanted: reader().read(*wanted),
            each=pool.map,
            progress=progress,
        )
        yield TracePorts(find, stores.objects, stores.receipts, lambda *row: reader().row_group(*row))
