"""What loaders say: segments, gaps, records that kill, the shards they read."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


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
