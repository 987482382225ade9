"""What a worker process tells the outside: one sink for its facts, fanned out to log, page and whoever else listens."""

from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Self

from pipeline.config import Settings
from pipeline.facts import Fact, FactSink, WorkerStopped, WritesMetered
from pipeline.ports.spans import SpanSink, nowhere
from pipeline.telemetry.log import FactLog, to_stderr
from pipeline.telemetry.request_log import JsonRequestLog

if TYPE_CHECKING:
    from pipeline.telemetry.page import Page
    from pipeline.telemetry.tracing import Tracer


class Telemetry:
    """The facts of one process, from its first to its last; `fact` is safe from any thread.

    Serves the page on entry. On exit everything held is written; the last fact is `WorkerStopped` when nothing went wrong.

    Args:
        settings: section `metrics` says where facts go beside the log.
        worker: what the process is called: `reader`, `sqs`.
        page: which page that the settings may ask for is this process' to serve: at metrics.prometheus_port plus it; None: none.

    Raises:
        ConfigProblem: (on entry) the port of the page cannot be had, or traces are wanted and the extra `otel` is missing.

    Attributes:
        requests: writes lines about single requests.
        spans: takes the spans of traces; None: nobody wants them.
    """

    def __init__(self, settings: Settings, worker: str, *, page: int | None = 0) -> None:
        self.worker = worker
        self._number, self._tracing = page, settings.tracing
        self.requests = JsonRequestLog()
        self.spans: SpanSink | None = None
        self._tracer: Tracer | None = None
        self._metrics = metrics = settings.metrics
        self._log = FactLog(worker, metrics.namespace if metrics.emf else None, metrics.sample_seconds)
        self._sinks: list[FactSink] = [self._log]
        self._page: Page | None = None
        self._told = WritesMetered(0.0, 0)

    def __enter__(self) -> Self:
        metrics = self._metrics
        if self._tracing.otlp_endpoint is not None:
            from pipeline.telemetry.tracing import Tracer, otlp_exporter  # noqa: PLC0415 - an extra

            exporter = otlp_exporter(self._tracing.otlp_endpoint)
            self._tracer = Tracer(exporter, self._tracing.service_name, self.worker, self.fact)
            self.spans = self._tracer
        if metrics.prometheus_port and self._number is not None:
            self._made_page().serve(metrics.prometheus_host, metrics.prometheus_port + self._number)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._tracer is not None:
            self._tracer.close()
        self._log.close()
        if kind is None:
            self.fact(WorkerStopped(worker=self.worker))
        if self._page is not None:
            self._page.close()

    @property
    def span_sink(self) -> SpanSink:
        """Return where spans go, also where nobody wants them."""
        return self.spans or nowhere

    def page(self) -> Callable[[], bytes]:
        """Return what writes this process' page, for whoever shows it elsewhere; call before the first fact."""
        return self._made_page().text

    def _made_page(self) -> "Page":
        from pipeline.telemetry.page import Page  # noqa: PLC0415 - only where a page is wanted

        if self._page is None:
            self._page = Page(self.worker)
            self.add(self._page.take)
        return self._page

    def add(self, sink: FactSink) -> None:
        """Let somebody else hear the facts too; call before the first."""
        self._sinks.append(sink)

    def fact(self, fact: Fact) -> None:
        """Tell one fact (port `FactSink`)."""
        for sink in self._sinks:
            sink(fact)

    def relay(self, line: bytes, fact: Fact) -> None:
        """Pass on a line that another process of ours wrote, and show its numbers on our page."""
        to_stderr(line)
        for sink in self._sinks[1:]:
            sink(fact)

    def writes(self, dynamodb_write_units: float, s3_puts: int) -> None:
        """Tell what was written, from the running totals of a meter; call now and then, from one thread."""
        told, self._told = self._told, WritesMetered(dynamodb_write_units, s3_puts)
        self.fact(WritesMetered(dynamodb_write_units - told.dynamodb_write_units, s3_puts - told.s3_puts))
