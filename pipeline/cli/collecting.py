"""Where the facts of a command go."""

from pipeline.config import Settings
from pipeline.facts import FactSink


def fact_sink(settings: Settings, worker: str) -> FactSink:
    """Return where facts go: to the log of whoever collects metrics, and nowhere when a person looks on."""
    if not settings.metrics.emf:
        return lambda _: None
    from pipeline.telemetry.log import FactLog

    return FactLog(worker, settings.metrics.namespace)
