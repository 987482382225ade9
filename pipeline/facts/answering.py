"""What the HTTP API says of the requests it answers, counted; told once a second of whatever moved."""

from typing import ClassVar

from pipeline.core.histogram import Histogram
from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


class RequestsAnswered(Fact, frozen=True):
    """Requests of one route were answered with statuses of one class since it was last told; `errors` are those of 5xx."""

    sampled: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("requests", "counter", "Count", "Requests answered.", "requests", "route", ("status",)),
        Metric(
            "request_errors",
            "counter",
            "Count",
            "Requests answered with a status of 5xx.",
            "errors",
            "route",
            ("status",),
        ),
        Metric(
            "request_seconds",
            "histogram",
            "Seconds",
            "Time from a request's head to its answer.",
            "seconds",
            "route",
            ("status",),
        ),
    )
    route: str
    status: str
    requests: int
    errors: int
    seconds: Histogram


class RequestsRefused(Fact, frozen=True):
    """Requests were refused with one code since it was last told: a client's fault, or ours where the status is 5xx."""

    sampled: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "refused_requests",
            "counter",
            "Count",
            "Requests refused, by the problem's code.",
            "requests",
            "code",
        ),
    )
    code: str
    requests: int


class TenantServed(Fact, frozen=True):
    """What one tenant's requests came to since it was last told; `_other` are those beyond metrics.tenants."""

    sampled: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("tenant_requests", "counter", "Count", "Requests of a tenant.", "requests", "tenant"),
        Metric(
            "tenant_events",
            "counter",
            "Count",
            "Events of a tenant that the stream acknowledged.",
            "events",
            "tenant",
        ),
        Metric(
            "tenant_refused",
            "counter",
            "Count",
            "Requests of a tenant that were refused, throttled ones included.",
            "refused",
            "tenant",
        ),
        Metric(
            "throttled_requests",
            "counter",
            "Count",
            "Requests of a tenant that its plan refused (429).",
            "throttled",
            "tenant",
        ),
        Metric(
            "tenant_errors",
            "counter",
            "Count",
            "Requests of a tenant that were answered with a status of 5xx.",
            "errors",
            "tenant",
        ),
    )
    tenant: str
    requests: int
    events: int
    refused: int
    throttled: int
    errors: int


class EventsAcknowledged(Fact, frozen=True):
    """How long requests waited for the stream since it was last told: from being judged to being acknowledged."""

    sampled: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "ingest_seconds",
            "histogram",
            "Seconds",
            "Time from taking a request's events to the stream's acknowledgement.",
            "seconds",
        ),
    )
    seconds: Histogram


class LinesWithheld(Fact, frozen=True):
    """Log lines of requests that had to be written were left out: more came than web.log_lines_per_second."""

    level: ClassVar[Level] = "WARN"
    sampled: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("withheld_lines", "counter", "Count", "Log lines of requests that were left out.", "lines"),
    )
    lines: int


class SpansDropped(Fact, frozen=True):
    """Spans of traces are lost: what takes them (tracing.otlp_endpoint) is slow or gone. Nothing else is."""

    level: ClassVar[Level] = "WARN"
    sampled: ClassVar[bool] = True
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("dropped_spans", "counter", "Count", "Spans that were not exported.", "spans"),
    )
    spans: int
