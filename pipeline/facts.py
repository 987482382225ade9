"""The closed set of facts: everything the workers say about themselves.

One fact is one log line and its metrics. Names are `<Noun><PastVerb>`; a fact speaks of a batch, never of one
event, and never carries a payload. Level: INFO as planned, WARN nothing lost but look, ERROR lost or needs a person.
Metrics count what a process told, once or not at all: the ledger is the truth, they are how one notices.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal, NamedTuple, Protocol

import msgspec

from pipeline.core.metric import Metric

Level = Literal["INFO", "WARN", "ERROR"]


class Fact(msgspec.Struct, frozen=True, tag_field="fact", tag=True):
    """One thing that happened.

    A sampled fact is told at every look: a page shows it at once, the log has a line now and then.
    """

    level: ClassVar[Level] = "INFO"
    metrics: ClassVar[tuple[Metric, ...]] = ()
    sampled: ClassVar[bool] = False


class LoaderOpened(Fact, frozen=True):
    """A loader knows where it goes on: after `ordinal` of its lineage."""

    lineage: str
    shard_id: str
    ordinal: int


class WindowLoaded(Fact, frozen=True):
    """The duplicate window was read back from `ids/`. `reached_us` is the arrival it reaches back to."""

    lineage: str
    segments: int
    ids: int
    bytes: int
    reached_us: int


# Of a segment, whoever wrote it.
_SEGMENT_METRICS = (
    Metric("segments", "counter", "Count", "Segments committed."),
    Metric("records", "counter", "Count", "Kinesis records in committed segments.", "records"),
    Metric("rows", "counter", "Count", "Events archived, duplicates included.", "rows"),
    Metric("duplicates", "counter", "Count", "Archived events that repeat an earlier one.", "duplicates"),
    Metric("quarantined_units", "counter", "Count", "Refused units, kept in quarantine.", "quarantined"),
    Metric("data_files", "counter", "Count", "Parquet files written.", "files"),
    Metric("data_file_bytes", "counter", "Bytes", "Bytes of Parquet files written.", "bytes"),
)


class SegmentCommitted(Fact, frozen=True):
    """A segment is decided, written and committed."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        *_SEGMENT_METRICS,
        Metric("segment_seconds", "counter", "Seconds", "Time from cut to commit.", "seconds"),
    )
    lineage: str
    ordinal: int
    reason: str
    records: int
    rows: int
    duplicates: int
    quarantined: int
    files: int
    bytes: int
    seconds: float


class SegmentFinished(Fact, frozen=True):
    """A segment that somebody had planned and not committed was finished from its staging object."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        *_SEGMENT_METRICS,
        Metric("finished_segments", "counter", "Count", "Segments that another worker had left half done."),
    )
    lineage: str
    ordinal: int
    records: int
    rows: int
    duplicates: int
    quarantined: int
    files: int
    bytes: int


class PlanRefused(Fact, frozen=True):
    """A plan did not hold; raw records are kept and judged again."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("refused_plans", "counter", "Count", "Plans that the ledger refused.", label="answer"),
    )
    lineage: str
    ordinal: int
    answer: str


class UnitsRefused(Fact, frozen=True):
    """Units went to quarantine, by code."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "refused_units",
            "counter",
            "Count",
            "Refused units by code; those of finished segments are counted in `quarantined_units` only.",
            "codes",
            "code",
        ),
    )
    lineage: str
    ordinal: int
    codes: dict[str, int]


class UnitsRedriven(Fact, frozen=True):
    """Refused units went through again, by the code that they had been refused with."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "redriven_units",
            "counter",
            "Count",
            "Refused units that went through again, by the code they had.",
            "codes",
            "code",
        ),
    )
    lineage: str
    ordinal: int
    codes: dict[str, int]


class CallRetried(Fact, frozen=True):
    """A call to the outside will be tried again."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("retried_calls", "counter", "Count", "Failed calls that were tried again.", label="call"),
    )
    call: str
    attempt: int
    error: str


class ShardEnded(Fact, frozen=True):
    """A closed shard was read to its end, and all of it is committed."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ended_shards", "counter", "Count", "Closed shards that are committed to their end."),
    )
    lineage: str
    shard_id: str


class GapFound(Fact, frozen=True):
    """A loader fell behind the stream's retention: what arrived in between may be lost. Told at least once; in the ledger."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("gaps", "counter", "Count", "Gaps: the stream may have dropped records that nobody had read."),
        Metric("gap_seconds", "counter", "Seconds", "Arrival time that lies in gaps.", "seconds"),
    )
    lineage: str
    ordinal: int
    from_us: int
    until_us: int
    seconds: float


class RecordsProbed(Fact, frozen=True):
    """A loader that was started at one position again and again had records tried in a process of their own."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("probed_records", "counter", "Count", "Records tried in a process of their own.", "records"),
    )
    lineage: str
    starts: int
    records: int
    deadly: int


class ProbeDoubted(Fact, frozen=True):
    """Records died where they were tried, and so did good ones: nothing was condemned, the loader takes them in itself."""

    level: ClassVar[Level] = "ERROR"
    lineage: str
    sequence_number: str


class DeadlyRecordFound(Fact, frozen=True):
    """A record that kills the process goes to quarantine whole, as one unit, and is never decoded.

    `death` is crash, or the limit that was reached: memory, processor or clock.
    """

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("deadly_records", "counter", "Count", "Records that kill the process, put into quarantine."),
    )
    lineage: str
    sequence_number: str
    death: str


class ParentsAwaited(Fact, frozen=True):
    """KCL began a shard of whose parents `waiting` are not ended in the ledger; it is held back."""

    level: ClassVar[Level] = "WARN"
    lineage: str
    shard_id: str
    waiting: int


class ShardReleased(Fact, frozen=True):
    """A worker has let go of a shard that KCL had given it.

    `reason` is stop, shard end, lease lost or hung up; `units` were collected, not committed, and are the next worker's.
    """

    lineage: str
    shard_id: str
    reason: str
    units: int


class LagMeasured(Fact, frozen=True):
    """How far a shard's reader was behind the newest record, after its last read."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "lag_seconds",
            "gauge",
            "Seconds",
            "How far reading is behind the newest record.",
            "behind_seconds",
            "shard_id",
        ),
    )
    sampled: ClassVar[bool] = True
    shard_id: str
    behind_seconds: float


class WritesMetered(Fact, frozen=True):
    """What was written since it was last told, in the units that AWS bills."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "dynamodb_write_units",
            "counter",
            "Count",
            "DynamoDB write units consumed.",
            "dynamodb_write_units",
        ),
        Metric("s3_puts", "counter", "Count", "S3 PutObject requests.", "s3_puts"),
    )
    sampled: ClassVar[bool] = True
    dynamodb_write_units: float
    s3_puts: int


class LinesIngested(Fact, frozen=True):
    """Lines were judged since it was last told; the stream has acknowledged the accepted ones."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ingested_events", "counter", "Count", "Events that the stream acknowledged.", "accepted"),
        Metric("refused_lines", "counter", "Count", "Lines refused before they were sent.", "refused"),
    )
    lines: int
    accepted: int
    refused: int


class EventsSpilled(Fact, frozen=True):
    """A producer's stream takes nothing: finished batches went to disk. `bytes` is the size of the spill now."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("spilled_events", "counter", "Count", "Events that a producer put on disk.", "events"),
    )
    path: str
    batches: int
    events: int
    bytes: int


class SpillOpened(Fact, frozen=True):
    """A producer goes on with what an earlier one left on disk."""

    path: str
    batches: int
    events: int


class SpillDrained(Fact, frozen=True):
    """Everything in a producer's spill is acknowledged."""

    path: str


class SpillTorn(Fact, frozen=True):
    """The end of a spill file was cut off: a crash came before anybody was told that it is on disk."""

    level: ClassVar[Level] = "WARN"
    path: str
    bytes: int


class ReplayJobStarted(Fact, frozen=True):
    """A replay job begins or goes on: `chunks` are left of it."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("started_replays", "counter", "Count", "Replay jobs started or resumed."),
        Metric("planned_replay_chunks", "counter", "Count", "Chunks these jobs had before them.", "chunks"),
    )
    job: str
    chunks: int


class ReplayChunkDone(Fact, frozen=True):
    """One chunk of a replay job is done, for good."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("replay_chunks", "counter", "Count", "Chunks of replay jobs done."),
        Metric("replay_events", "counter", "Count", "Events replayed.", "events"),
        Metric("replay_rows", "counter", "Count", "Rows that replay read.", "rows"),
        Metric("replay_messages", "counter", "Count", "Messages that replay sent.", "messages"),
        Metric("replay_seconds", "counter", "Seconds", "Time spent on chunks of replay jobs.", "seconds"),
    )
    job: str
    chunk: int
    events: int
    rows: int
    messages: int
    seconds: float


class ReplayMessageRefused(Fact, frozen=True):
    """Messages of a replay job could not be handled and will not be tried again.

    `reason` is unreadable, unknown, strange rows or given up; in the dead-letter queue each message has its own.
    """

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "refused_replay_messages",
            "counter",
            "Count",
            "Messages of replay jobs that were given up.",
            "messages",
        ),
    )
    job: str
    reason: str
    messages: int


class ReplayJobFinished(Fact, frozen=True):
    """A replay job is through all of its chunks."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("finished_replays", "counter", "Count", "Replay jobs that are through all of their chunks."),
    )
    job: str
    chunks: int
    seconds: float


class ReplayJobStopped(Fact, frozen=True):
    """A replay job goes no further by itself: `state` is stale or failed; the job has the reason."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "stopped_replays", "counter", "Count", "Replay jobs that became stale or failed.", label="state"
        ),
    )
    job: str
    state: str


class WorkerStarted(Fact, frozen=True):
    """A worker process is ready."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("started_workers", "counter", "Count", "Worker processes that became ready."),
    )
    worker: str
    version: str
    rules: str
    endpoint: str


class WorkerStopped(Fact, frozen=True):
    """A worker process ends in order: what it had read is committed, or another worker's now."""

    worker: str


class WorkerCrashed(Fact, frozen=True):
    """A worker process ends because of an unknown error; the ledger makes its restart exact."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("crashed_workers", "counter", "Count", "Worker processes that an unknown error ended."),
    )
    worker: str
    error: str


class DaemonStarted(Fact, frozen=True):
    """KCL's daemon was started; it begins one process for each shard that it leases."""

    application: str
    worker_id: str
    retrieval: str


class DaemonReported(Fact, frozen=True):
    """KCL's daemon warned of something, in its own words; `source` is the class that did."""

    level: ClassVar[Level] = "WARN"
    source: str
    text: str


class DaemonEnded(Fact, frozen=True):
    """KCL's daemon ended by itself; it is started again, unless that has happened too often."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ended_daemons", "counter", "Count", "Times that KCL's daemon ended by itself."),
    )
    status: int
    seconds: float


class FactSink(Protocol):
    """Where facts go. Called from any thread; never raises, never blocks for long."""

    def __call__(self, fact: Fact) -> None:
        """Take one fact."""
        ...


FACTS: tuple[type[Fact], ...] = tuple(Fact.__subclasses__())  # all of them, in the order of this file
METRICS: Mapping[str, Metric] = {metric.name: metric for fact in FACTS for metric in fact.metrics}


class Reading(NamedTuple):
    """One value of one metric; `key` is the value of its label, "" where it has none."""

    metric: Metric
    key: str
    value: float


def readings(fact: Fact) -> Iterator[Reading]:
    """Yield the numbers that a fact carries."""
    for metric in fact.metrics:
        value = 1 if metric.field is None else getattr(fact, metric.field)
        if isinstance(value, dict):
            yield from (Reading(metric, str(key), number) for key, number in value.items())
        else:
            yield Reading(metric, getattr(fact, metric.label) if metric.label else "", value)
