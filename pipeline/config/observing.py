"""Settings of what a process says of itself: metrics and traces. Log lines of requests are the HTTP API's own (`web`)."""

from pydantic import Field, field_validator

from pipeline.config.kinds import (
    Seconds,
    Share,
    Switch,
    Text,
    Whole,
    checked_endpoint,
    checked_namespace,
)
from pipeline.config.section import Section


class Metrics(Section):
    """Where a worker's metrics go, beside the log."""

    emf: Switch = Field(
        default=False,
        description="Log lines carry their metrics in CloudWatch's Embedded Metric Format.",
    )
    namespace: str = Field(
        default="headrace",
        pattern=r"^[A-Za-z0-9._/#-]{1,255}$",
        description="CloudWatch namespace of the metrics: one for each deployment in an account.",
    )
    sample_seconds: Seconds = Field(
        default=60, gt=0, le=3_600, description="Time between two log lines of a shard's lag, and of writes."
    )
    prometheus_port: Whole = Field(
        default=0,
        ge=0,
        le=65_535,
        description="Port of the worker's page for Prometheus, one for each worker of a machine; 0: no page. Of an API with several processes (web.workers) each has a page: the first at the next port, and so on.",
    )
    prometheus_host: str = Field(
        default="127.0.0.1",
        pattern=r"^[A-Za-z0-9.:_-]{1,253}$",
        description="Address the page listens on. It asks for no password: whoever reaches the address reads it.",
    )

    tenants: Whole = Field(
        default=50,
        ge=0,
        le=10_000,
        description="Tenants that have a label of their own in the API's metrics: those that each process serves first; the rest "
        "is `_other`.",
    )

    _check_namespace = field_validator("namespace")(checked_namespace)


class Tracing(Section):
    """Traces of requests, from the HTTP API through the stream to the data file: OpenTelemetry, extra `otel`."""

    otlp_endpoint: Text = Field(
        default=None,
        description="Where spans are sent: OTLP over HTTP, as http://localhost:4318; unset: nothing is traced. Loaders of every "
        "version before this setting refuse events of traced requests: set it for the API last.",
    )
    sample: Share = Field(
        default=0.01,
        ge=0,
        le=1,
        description="Share of requests that are traced, where their callers do not say.",
    )
    max_per_second: Seconds = Field(
        default=100,
        ge=0,
        le=100_000,
        description="Requests a second that one process traces at most, also of those whose callers say so (traceparent).",
    )
    service_name: str = Field(
        default="headrace",
        pattern=r"^[A-Za-z0-9._-]{1,255}$",
        description="What traces call this deployment (service.name); a worker's kind is beside it.",
    )

    _check_endpoint = field_validator("otlp_endpoint")(checked_endpoint)
