"""What reads over HTTP say."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


class DamageFound(Fact, frozen=True):
    """A read met stored bytes that contradict each other; the caller was told that the fault is ours."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("damaged_reads", "counter", "Count", "Reads over HTTP that met damage."),
    )
    route: str
    request_id: str
    error: str


class ReadsStopped(Fact, frozen=True):
    """A read over HTTP took longer than a request may, and was given up; the caller was told to ask for less."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("stopped_reads", "counter", "Count", "Reads over HTTP given up at the request's deadline."),
    )
    route: str
    request_id: str
