"""The settings tree: every field with its default, its limits and what it means.

Frozen, unknown keys refused. Names carry units. A description here is what the reference page and `headrace config`
say, so it is written for the person who sets the value.
"""

from typing import Annotated, Literal

from pydantic import (
    BeforeValidator,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from pipeline.config.front_door import Auth, Control, Limits, Schemas, Web
from pipeline.config.kinds import (
    Folder,
    Seconds,
    Secret,
    Tenant,
    Text,
    Whole,
    checked_endpoint,
    data_folder,
    default_home,
    listed,
    none_if_empty,
)
from pipeline.config.observing import Metrics, Tracing
from pipeline.config.section import KIB, MIB, Section

KINESIS_RECORD_BYTES = MIB  # Kinesis limit: data of one record, unless the stream is set higher
KINESIS_RETENTION_HOURS = 8_760  # Kinesis limit: 365 days
DEMO_TENANTS = (
    "9e",
    "aa",
    "as",
    "b6",
    "dl",
    "ev",
    "f9",
    "fl",
    "ha",
    "mq",
    "oo",
    "ua",
    "us",
    "vx",
    "wn",
    "yv",
    "noaa",
)


class Stream(Section):
    """The Kinesis stream that events travel in."""

    name: str = Field(
        default="headrace-events",
        pattern=r"^[a-zA-Z0-9_.-]{1,128}$",
        description="Name of the Kinesis stream.",
    )
    shards: Whole = Field(
        default=2, ge=1, le=10_000, description="Shards of a new stream; an existing one is not resharded."
    )
    slots: Whole = Field(
        default=64,
        ge=1,
        le=10_000,
        description="Virtual slots, fixed for the life of a stream: at least the shards ever wanted.",
    )
    retention_hours: Whole = Field(
        default=24, ge=24, le=KINESIS_RETENTION_HOURS, description="How long Kinesis keeps a record."
    )

    @field_validator("slots")
    @classmethod
    def _cover_shards(cls, slots: int, info: ValidationInfo) -> int:
        shards = info.data.get("shards", 1)
        if slots < shards:
            raise ValueError(
                f"must be at least stream.shards ({shards}): raise stream.slots or lower stream.shards"
            )
        return slots


class Storage(Section):
    """Where objects and tables live."""

    bucket: str = Field(
        default="headrace-archive",
        pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$",
        description="S3 bucket of the archive.",
    )
    table_prefix: str = Field(
        default="headrace-",
        pattern=r"^[a-zA-Z0-9_.-]{0,100}$",
        description="Put before the name of every DynamoDB table.",
    )


class Aws(Section):
    """How AWS, or the emulator in its place, is reached."""

    region: str = Field(
        default="us-east-1", pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]+$", description="AWS region."
    )
    endpoint_url: Text = Field(
        default=None, description="Endpoint of all services; unset: the local stack's, or AWS itself."
    )
    access_key_id: Secret = Field(
        default=None, description="Access key; unset: the usual AWS credential chain."
    )
    secret_access_key: Secret = Field(
        default=None, description="Secret of `aws.access_key_id`; both are set, or neither."
    )
    connect_timeout_seconds: Seconds = Field(
        default=5, gt=0, le=300, description="Longest wait for a connection."
    )
    read_timeout_seconds: Seconds = Field(default=60, gt=0, le=900, description="Longest wait for an answer.")
    max_attempts: Whole = Field(
        default=12, ge=1, le=100, description="Tries of one request to AWS, the first included."
    )
    retry_seconds: Seconds = Field(
        default=75,
        ge=0,
        le=900,
        description="No further try of a request begins later than this after the first.",
    )

    _check_endpoint = field_validator("endpoint_url")(checked_endpoint)

    @field_validator("secret_access_key")
    @classmethod
    def _pair_keys(cls, secret: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if "access_key_id" in info.data and (secret is None) != (info.data["access_key_id"] is None):
            raise ValueError("must be set together with aws.access_key_id: set both, or neither")
        return secret


class Segment(Section):
    """When the loader cuts a segment: at the first of these limits."""

    max_rows: Whole = Field(default=65_536, ge=1, le=10_000_000, description="Events in one segment.")
    max_bytes: Whole = Field(
        default=64 * MIB,
        ge=KIB,
        le=1024 * MIB,
        description="Bytes of raw records in one segment, gzipped ones inflated.",
    )
    max_age_seconds: Seconds = Field(
        default=60, gt=0, le=86_400, description="Age of the oldest record in a segment."
    )
    max_idle_seconds: Seconds = Field(
        default=60,
        gt=0,
        le=86_400,
        description="Quiet time after which a segment is cut early; the local stack sets 1 second.",
    )
    max_files: Whole = Field(default=1_000, ge=1, le=10_000, description="Data files one segment may write.")


class Duplicates(Section):
    """How far back a repeated event is recognised."""

    window_hours: Whole = Field(
        default=24, ge=1, le=8_760, description="Arrival time within which a repeat is flagged."
    )
    max_ids: Whole = Field(
        default=5_000_000, ge=1, le=100_000_000, description="Fingerprints kept in memory by one loader."
    )


class Events(Section):
    """Which events are accepted; the rest goes to quarantine."""

    tenants: Annotated[tuple[Tenant, ...], BeforeValidator(listed)] = Field(
        default=DEMO_TENANTS,
        min_length=1,
        description="Tenants whose events are accepted; in the environment: a,b,c.",
    )
    max_event_bytes: Whole = Field(
        default=256 * KIB, ge=KIB, le=KINESIS_RECORD_BYTES, description="Bytes of one event."
    )
    max_future_minutes: Whole = Field(
        default=60, ge=0, le=525_600, description="How far event time may lie after arrival."
    )
    max_depth: Whole = Field(default=32, ge=1, le=256, description="Nesting of one event's JSON.")
    max_keys: Whole = Field(
        default=1_000, ge=1, le=1_000_000, description="Keys in one event's JSON, over all its objects."
    )
    max_items: Whole = Field(
        default=10_000, ge=1, le=1_000_000, description="Items in one event's JSON, over all its arrays."
    )
    max_string_bytes: Whole = Field(
        default=64 * KIB, ge=1, le=KINESIS_RECORD_BYTES, description="Bytes of one JSON string."
    )
    max_record_events: Whole = Field(
        default=10_000,
        ge=1,
        le=1_000_000,
        description="Events in one record that is NDJSON or a JSON array; an aggregate has as many for each of its records.",
    )
    max_inflated_bytes: Whole = Field(
        default=4 * MIB, ge=KIB, le=64 * MIB, description="Bytes of a gzipped record once it is inflated."
    )
    max_inflation: Whole = Field(
        default=50,
        ge=1,
        le=1_032,
        description="How many times its own bytes a gzipped record may inflate to.",
    )
    max_packed_bytes: Whole = Field(
        default=8 * MIB,
        ge=KIB,
        le=64 * MIB,
        description="What the gzips, lines and arrays of one Kinesis record may come to, each event counted with 256 bytes at least.",
    )


class Producer(Section):
    """How the producer packs events into Kinesis records."""

    max_batch_bytes: Whole = Field(
        default=256 * KIB, ge=KIB, le=KINESIS_RECORD_BYTES, description="Bytes of one aggregate."
    )
    max_batch_events: Whole = Field(default=2_000, ge=1, le=100_000, description="Events in one aggregate.")
    linger_ms: Whole = Field(
        default=200, ge=0, le=60_000, description="How long an aggregate waits to be filled."
    )


class Query(Section):
    """Which engine answers SQL."""

    engine: Literal["duckdb", "athena"] = Field(
        default="duckdb", description="duckdb on one machine, athena on AWS."
    )
    athena_workgroup: str = Field(
        default="headrace", pattern=r"^[a-zA-Z0-9._-]{1,128}$", description="Athena workgroup."
    )
    athena_database: str = Field(
        default="headrace", pattern=r"^[a-z0-9_]{1,255}$", description="Glue database of the tables."
    )
    athena_output: Annotated[str | None, Field(pattern=r"^s3://.+"), BeforeValidator(none_if_empty)] = Field(
        default=None, description="Where Athena writes results (s3://...); unset: what the workgroup says."
    )


class Replay(Section):
    """The queue of replay jobs, and how its processors handle messages."""

    queue: str = Field(
        default="replay",
        pattern=r"^[a-zA-Z0-9_-]{1,60}$",
        description="Name of the SQS queue, after storage.table_prefix.",
    )
    dead_queue: str = Field(
        default="replay-dead",
        pattern=r"^[a-zA-Z0-9_-]{1,60}$",
        description="Name of its dead-letter queue, after storage.table_prefix.",
    )
    max_attempts: Whole = Field(
        default=5,
        ge=1,
        le=900,
        description="Attempts at a chunk before its messages go to the dead-letter queue.",
    )
    visibility_seconds: Whole = Field(
        default=120,
        ge=10,
        le=43_200,
        description="How long a message stays hidden from others; renewed while its chunk is worked on.",
    )


class Worker(Section):
    """How a worker deals with records that kill or stop the process."""

    probe_memory_bytes: Whole = Field(
        default=1536 * MIB,
        ge=512 * MIB,
        le=64 * 1024 * MIB,
        description="Address space of the child process in which suspected records are tried.",
    )
    probe_seconds: Whole = Field(
        default=60,
        ge=5,
        le=3_600,
        description="Processor time that such a child may use over the records of one read.",
    )
    hang_seconds: Seconds = Field(
        default=300,
        gt=0,
        le=86_400,
        description="A worker that computes so long over one batch hangs, and is ended. Under KCL kcl.timeout_seconds says "
        "it instead.",
    )


class Kcl(Section):
    """KCL's daemon, which shares the shards of a stream among workers: `headrace worker --kcl`."""

    application: str = Field(
        default="headrace-loader",
        pattern=r"^[a-zA-Z0-9_.-]{1,150}$",
        description="Name of the KCL application: workers of one name share the shards. With the stream's creation time it "
        "names KCL's tables in DynamoDB.",
    )
    retrieval: Literal["polling", "fanout"] = Field(
        default="polling",
        description="How records are read; fanout has a throughput of its own on each shard, and a price.",
    )
    idle_ms: Whole = Field(
        default=1_000, ge=200, le=60_000, description="Pause between two reads of a shard, when polling."
    )
    timeout_seconds: Whole = Field(
        default=300,
        ge=90,
        le=3_600,
        description="Longest time a shard's process may take over one batch, commits included: ten seconds before it the "
        "process hangs, and is ended; the daemon is started again. Three fifths of it are for a search for records that kill.",
    )
    shutdown_seconds: Whole = Field(
        default=25, ge=1, le=27, description="Time a stop has to cut, commit and checkpoint every shard."
    )
    failover_seconds: Whole = Field(
        default=10,
        ge=1,
        le=300,
        description="Time after which a shard whose worker went silent is another one's.",
    )
    metrics_level: Literal["none", "summary", "detailed"] = Field(
        default="none", description="KCL's own metrics in CloudWatch."
    )
    java_options: Text = Field(
        default=None, description="Further options of Java, separated by blanks, such as -Xmx512m."
    )
    properties: Text = Field(
        default=None,
        description="Further properties of KCL: name=value, separated by commas; those that headrace sets are refused.",
    )


class Paths(Section):
    """Folders on this machine."""

    home: Folder = Field(
        default_factory=default_home,
        description="Home of the local stack: its data, logs and headrace.toml. Set it by HEADRACE_HOME or --home.",
    )
    schemas: Folder = Field(
        default_factory=lambda: data_folder("schemas"), description="JSON Schemas of the events."
    )
    athena: Folder = Field(
        default_factory=lambda: data_folder("athena"), description="DDL and queries for Athena."
    )


class Settings(Section):
    """Everything that can be set, in one value."""

    stream: Stream = Field(default_factory=Stream)
    storage: Storage = Field(default_factory=Storage)
    aws: Aws = Field(default_factory=Aws)
    segment: Segment = Field(default_factory=Segment)
    duplicates: Duplicates = Field(default_factory=Duplicates)
    events: Events = Field(default_factory=Events)
    producer: Producer = Field(default_factory=Producer)
    query: Query = Field(default_factory=Query)
    replay: Replay = Field(default_factory=Replay)
    worker: Worker = Field(default_factory=Worker)
    kcl: Kcl = Field(default_factory=Kcl)
    metrics: Metrics = Field(default_factory=Metrics)
    tracing: Tracing = Field(default_factory=Tracing)
    web: Web = Field(default_factory=Web)
    control: Control = Field(default_factory=Control)
    auth: Auth = Field(default_factory=Auth)
    limits: Limits = Field(default_factory=Limits)
    schemas: Schemas = Field(default_factory=Schemas)
    paths: Paths = Field(default_factory=Paths)

    _sources: dict[str, str] = PrivateAttr(default_factory=dict)

    def source(self, key: str) -> str:
        """Say where a setting came from: `default`, `flag`, `environment NAME` or `file PATH`."""
        return self._sources.get(key, "default")


SECTIONS: dict[str, type[Section]] = {
    name: field.annotation
    for name, field in Settings.model_fields.items()
    if isinstance(field.annotation, type) and issubclass(field.annotation, Section)
}
