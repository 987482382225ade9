"""The closed set of facts: everything the workers say about themselves.

One fact is one log line and its metrics. Names are `<Noun><PastVerb>`; a fact speaks of a batch, never of one
event, and never carries a payload. Level: INFO as planned, WARN nothing lost but look, ERROR lost or needs a person.
Metrics count what a process told, once or not at all: the ledger is the truth, they are how one notices.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from pipeline.core.histogram import Histogram
from pipeline.core.metric import Metric
from pipeline.facts.answering import (
    EventsAcknowledged,
    LinesWithheld,
    RequestsAnswered,
    RequestsRefused,
    SpansDropped,
    TenantServed,
)
from pipeline.facts.fact import Fact, FactSink, Level, place_of
from pipeline.facts.limiting import (
    AccountFoundAhead,
    ClockCorrected,
    ClockFoundWrong,
    DecisionsDropped,
    LimitItemUnreadable,
    LimitStoreAnswered,
    LimitStoreFailed,
)
from pipeline.facts.loading import (
    CallRetried,
    DeadlyRecordFound,
    GapFound,
    LagMeasured,
    LoaderOpened,
    ParentsAwaited,
    PlanRefused,
    ProbeDoubted,
    RecordsProbed,
    SegmentCommitted,
    SegmentFinished,
    ShardEnded,
    ShardReleased,
    UnitsRedriven,
    UnitsRefused,
    WindowLoaded,
    WritesMetered,
)
from pipeline.facts.reading import DamageFound, ReadsStopped
from pipeline.facts.replaying import (
    ReplayChunkDone,
    ReplayJobFinished,
    ReplayJobStarted,
    ReplayJobStopped,
    ReplayMessageRefused,
    ReplaySendingFailed,
)
from pipeline.facts.running import (
    DaemonEnded,
    DaemonReported,
    DaemonStarted,
    RulesChanged,
    RulesNotRefreshed,
    SchemaLeftOut,
    ShardsAwaited,
    WorkerCrashed,
    WorkerStarted,
    WorkerStopped,
)
from pipeline.facts.sending import (
    EventsSpilled,
    LinesIngested,
    SpillDrained,
    SpillOpened,
    SpillTorn,
    StreamMadeAnew,
)
from pipeline.facts.serving import ApiDrained, ApiStarted, EventsReceived, RequestFailed, StoreMissed
from pipeline.facts.web import (
    AnswerUnstored,
    CredentialsRefused,
    LookUpsFailed,
    TenantCrossed,
    TokenKeysRead,
)

FACTS: tuple[type[Fact], ...] = tuple(
    Fact.__subclasses__()
)  # all of them, in the order of their files, as imported here
METRICS: Mapping[str, Metric] = {metric.name: metric for fact in FACTS for metric in fact.metrics}


class Reading(NamedTuple):
    """One value of one metric.

    Attributes:
        key: the value of its label, "" where it has none.
        value: a number, or, of a histogram, what was counted.
        more: the values of its further labels.
    """

    metric: Metric
    key: str
    value: float | Histogram
    more: tuple[str, ...] = ()

    @property
    def amount(self) -> float:
        """Return the number; of a histogram, how many values it has counted."""
        return self.value.count if isinstance(self.value, Histogram) else self.value


def readings(fact: Fact) -> Iterator[Reading]:
    """Yield the numbers that a fact carries."""
    for metric in fact.metrics:
        value = 1 if metric.field is None else getattr(fact, metric.field)
        if isinstance(value, dict):
            yield from (Reading(metric, str(key), number) for key, number in value.items())
        else:
            key = getattr(fact, metric.label) if metric.label else ""
            yield Reading(metric, key, value, tuple(getattr(fact, name) for name in metric.more))


__all__ = [
    "Fact",
    "FactSink",
    "Level",
    "Reading",
    "FACTS",
    "METRICS",
    "place_of",
    "readings",
    "LoaderOpened",
    "WindowLoaded",
    "SegmentCommitted",
    "SegmentFinished",
    "PlanRefused",
    "UnitsRefused",
    "UnitsRedriven",
    "CallRetried",
    "ShardEnded",
    "GapFound",
    "RecordsProbed",
    "ProbeDoubted",
    "DeadlyRecordFound",
    "ParentsAwaited",
    "ShardReleased",
    "LagMeasured",
    "WritesMetered",
    "LinesIngested",
    "EventsSpilled",
    "SpillOpened",
    "SpillDrained",
    "SpillTorn",
    "StreamMadeAnew",
    "ReplayJobStarted",
    "ReplayChunkDone",
    "ReplayMessageRefused",
    "ReplayJobFinished",
    "ReplayJobStopped",
    "ReplaySendingFailed",
    "WorkerStarted",
    "WorkerStopped",
    "WorkerCrashed",
    "RulesChanged",
    "RulesNotRefreshed",
    "SchemaLeftOut",
    "DaemonStarted",
    "ShardsAwaited",
    "DaemonReported",
    "DaemonEnded",
    "CredentialsRefused",
    "TenantCrossed",
    "LookUpsFailed",
    "TokenKeysRead",
    "AnswerUnstored",
    "LimitStoreFailed",
    "LimitStoreAnswered",
    "ClockFoundWrong",
    "ClockCorrected",
    "AccountFoundAhead",
    "LimitItemUnreadable",
    "DecisionsDropped",
    "DamageFound",
    "ReadsStopped",
    "ApiStarted",
    "EventsReceived",
    "RequestFailed",
    "StoreMissed",
    "ApiDrained",
    "RequestsAnswered",
    "RequestsRefused",
    "TenantServed",
    "EventsAcknowledged",
    "LinesWithheld",
    "SpansDropped",
]
