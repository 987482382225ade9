"""What the HTTP API says."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


class ApiStarted(Fact, frozen=True):
    """A process of the HTTP API takes requests."""

    url: str
    version: str
    rules: str


class EventsReceived(Fact, frozen=True):
    """Requests brought events since it was last told; the stream has acknowledged the accepted ones."""

    sampled: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("received_requests", "counter", "Count", "Requests that brought events.", "requests"),
        Metric("received_events", "counter", "Count", "Events that the stream acknowledged.", "accepted"),
        Metric(
            "refused_events",
            "counter",
            "Count",
            "Events that the HTTP API refused, by the code in their answer.",
            "refused",
            "code",
        ),
        Metric(
            "retry_events", "counter", "Count", "Events whose outcome was unknown at the deadline.", "retry"
        ),
    )
    requests: int
    accepted: int
    refused: dict[str, int]
    retry: int


class RequestFailed(Fact, frozen=True):
    """A request ended in an error of ours, status 500; `error` says where, the caller has the request id."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("failed_requests", "counter", "Count", "Requests that ended in an error of ours."),
    )
    request_id: str
    route: str
    error: str


class StoreMissed(Fact, frozen=True):
    """A request needed a table, bucket or queue that is missing, or closed to this role, and was answered 503; `error` names it."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "requests_without_store",
            "counter",
            "Count",
            "Requests that needed a store which is missing, or closed to this role.",
        ),
    )
    request_id: str
    route: str
    error: str


class ApiDrained(Fact, frozen=True):
    """A process of the HTTP API has answered all it took, and stops; `lost` events have no answer from the stream."""

    requests: int
    lost: int
    seconds: float
