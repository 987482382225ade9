"""What a worker's process says of itself, and of KCL's daemon."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


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


class RulesChanged(Fact, frozen=True):
    """Tenants or schemas were added in the control store: what arrives from now on is judged by these rules."""

    rules: str
    tenants: int
    event_types: int


class RulesNotRefreshed(Fact, frozen=True):
    """The control store could not be asked: events are judged by the rules that were known before.

    An event of a tenant or schema that was added meanwhile is refused, and can be redriven.
    """

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("failed_rules_looks", "counter", "Count", "Looks into the control store that failed."),
    )
    rules: str
    error: str


class SchemaLeftOut(Fact, frozen=True):
    """A published schema is no part of the rules: it is too dear to judge by, or contradicts what was there before it.

    Its events are refused as of an unknown type or version, and kept in quarantine; all other types go on.
    """

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("left_out_schemas", "counter", "Count", "Published schema versions that a process left out."),
    )
    event_type: str
    version: int
    error: str


class DaemonStarted(Fact, frozen=True):
    """KCL's daemon was started; it begins one process for each shard that it leases."""

    application: str
    worker_id: str
    retrieval: str


class ShardsAwaited(Fact, frozen=True):
    """KCL's daemon has begun no shard for `seconds` since its start: what it waits for, and how long that may take."""

    seconds: float
    may_take_seconds: int
    waits_for: str


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
