"""Where AWS is, and the stores of one deployment on it."""

from dataclasses import dataclass, replace

from pipeline.aws.aggregates import DynamoAggregates
from pipeline.aws.client import Connection, make_client, unheard
from pipeline.aws.entity_days import DynamoEntityDays
from pipeline.aws.index import DynamoIndex
from pipeline.aws.jobs import DynamoJobs
from pipeline.aws.kinesis import KinesisStream, create_stream
from pipeline.aws.ledger import DynamoLedger
from pipeline.aws.manifest import DynamoManifest, DynamoReceipts
from pipeline.aws.meter import Meter
from pipeline.aws.s3 import S3Objects, create_bucket
from pipeline.aws.sqs import create_queues
from pipeline.aws.tables import create_tables
from pipeline.config import Settings
from pipeline.facts import FactSink
from pipeline.machine.object_cache import ObjectCache

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


def hasty(
    settings: Settings, try_seconds: float, max_attempts: int, retry_seconds: float | None = None
) -> Connection:
    """Return where AWS is, for calls that somebody waits for.

    Args:
        settings: where they say less, less it is.
        try_seconds: longest wait for a connection, and for its answer.
        max_attempts: of one call.
        retry_seconds: in which it is tried again; None: as the settings say.
    """
    usual = connection(settings)
    return replace(
        usual,
        connect_timeout_seconds=min(try_seconds, usual.connect_timeout_seconds),
        read_timeout_seconds=min(try_seconds, usual.read_timeout_seconds),
        max_attempts=max_attempts,
        retry_seconds=usual.retry_seconds if retry_seconds is None else retry_seconds,
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
        *queue_names(settings),
        visibility_seconds=settings.replay.visibility_seconds,
        max_attempts=settings.replay.max_attempts,
    )


def queue_names(settings: Settings) -> tuple[str, str]:
    """Return the names of the replay queue and its dead-letter queue; SQS allows no dots."""
    prefix, replay = settings.storage.table_prefix.replace(".", "-"), settings.replay
    return prefix + replay.queue, prefix + replay.dead_queue


@dataclass(frozen=True)
class Archive:
    """The stores of one deployment, ready to use, and what their writes cost so far."""

    objects: S3Objects
    manifest: DynamoManifest
    index: DynamoIndex
    aggregates: DynamoAggregates
    ledger: DynamoLedger
    receipts: DynamoReceipts
    jobs: DynamoJobs
    days: DynamoEntityDays
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
        jobs=DynamoJobs(dynamodb, prefix),
        days=DynamoEntityDays(dynamodb, prefix),
        meter=meter,
    )


def stream(settings: Settings, facts: FactSink = unheard) -> KinesisStream:
    """Return the stream."""
    client = make_client("kinesis", connection(settings), Meter(), facts=facts)
    return KinesisStream(client, settings.stream.name)


def object_cache(settings: Settings, stores: Archive) -> ObjectCache:
    """Return this machine's copies of the archive's objects: a folder of its own for every archive."""
    place = "local" if settings.aws.endpoint_url else settings.aws.region  # a local stack's port changes
    name = f"{place}-{settings.storage.bucket}"
    return ObjectCache(stores.objects, settings.paths.home / "cache" / name)
