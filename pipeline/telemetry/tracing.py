"""Spans to a collector: OpenTelemetry's form, by OTLP over HTTP, from a thread of its own. Needs the extra `otel`.

Whoever tells a span never waits: spans stand in a queue of fixed length, and what finds no room, or is not taken by the
collector, is dropped and counted by a fact. The SDK's own pipeline of tracers and processors is not used: spans come here
finished, and its processor drops without a count.
"""

import logging
import secrets
import threading
from collections import deque
from collections.abc import Sequence
from typing import Protocol

from pipeline.core.errors import ConfigProblem
from pipeline.core.tracing import FinishedSpan, TraceContext
from pipeline.facts import FactSink, SpansDropped

try:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.export import SpanExportResult
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags
except ImportError as exc:
    raise ConfigProblem(
        "tracing.otlp_endpoint is set, and the extra `otel` is not installed: pip install 'headrace[otel]', or unset it"
    ) from exc

MAX_QUEUED = 4_096  # spans, about 2 KB each
_MAX_BATCH = 512
_EVERY_SECONDS = 1.0  # between two batches, unless one is full
_TIMEOUT_SECONDS = 10.0  # of one batch, the exporter's own tries included
_CLOSE_SECONDS = 5.0  # for what is left at the end
_NANOSECONDS = 1_000


class Exporter(Protocol):
    """What takes batches of spans; OpenTelemetry's `SpanExporter`."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them; may take seconds."""
        ...

    def shutdown(self) -> None:
        """Give up what is under way."""
        ...


def otlp_exporter(endpoint: str) -> Exporter:
    """Return what sends to a collector's address, as `http://localhost:4318`."""
    log = logging.getLogger("opentelemetry")  # what it says of failures is a fact here
    log.addHandler(logging.NullHandler())
    log.propagate = False
    return OTLPSpanExporter(endpoint=endpoint.rstrip("/") + "/v1/traces", timeout=_TIMEOUT_SECONDS)


class Tracer:
    """Port `SpanSink`: takes spans from any thread, and sends them from its own.

    Args:
        exporter: sends batches.
        service: name of the deployment.
        worker: which kind of process this is.
        facts: told how many spans were dropped.
    """

    def __init__(self, exporter: Exporter, service: str, worker: str, facts: FactSink) -> None:
        self._exporter, self._facts = exporter, facts
        self._resource = Resource({"service.name": service, "service.instance.id": secrets.token_hex(8)})
        self._scope = InstrumentationScope(f"headrace.{worker}")
        self._queue: deque[FinishedSpan] = deque()
        self._dropped, self._counting = 0, threading.Lock()
        self._work, self._closed = threading.Event(), False
        self._thread = threading.Thread(target=self._run, name="tracer", daemon=True)
        self._thread.start()

    def __call__(self, span: FinishedSpan) -> None:
        """Take one span."""
        if len(self._queue) >= MAX_QUEUED:
            self._drop(1)
            return
        self._queue.append(span)
        if len(self._queue) >= _MAX_BATCH:
            self._work.set()

    def close(self) -> None:
        """Send what is left, for some seconds; what is not sent by then is dropped and counted."""
        self._closed = True
        self._work.set()
        self._thread.join(_CLOSE_SECONDS)
        self._exporter.shutdown()
        self._drop(len(self._queue))
        self._queue.clear()
        self._tell()

    def _drop(self, spans: int) -> None:
        with self._counting:
            self._dropped += spans

    def _tell(self) -> None:
        with self._counting:
            dropped, self._dropped = self._dropped, 0
        if dropped:
            self._facts(SpansDropped(dropped))

    def _run(self) -> None:
        while not self._closed or self._queue:
            self._work.wait(_EVERY_SECONDS)
            self._work.clear()
            while self._queue:
                self._send([self._queue.popleft() for _ in range(min(len(self._queue), _MAX_BATCH))])
                self._tell()  # after each: while a collector is slow the queue is never empty

    def _send(self, spans: list[FinishedSpan]) -> None:
        try:
            sent = self._exporter.export([self._readable(one) for one in spans])
        except Exception:  # noqa: BLE001 - a foreign library over a network: the work that is traced goes on
            sent = SpanExportResult.FAILURE
        if sent is not SpanExportResult.SUCCESS:
            self._drop(len(spans))

    def _readable(self, span: FinishedSpan) -> ReadableSpan:
        parent = span.parent
        trace_id = parent.trace_id if parent is not None else span.trace_id or secrets.token_hex(16)
        own = TraceContext(trace_id, span.span_id or secrets.token_hex(8), sampled=True)
        return ReadableSpan(
            name=span.name,
            context=_context(own, is_remote=False),
            parent=None if parent is None else _context(parent, is_remote=True),
            resource=self._resource,
            attributes=span.attributes,
            kind=SpanKind.SERVER if span.serves else SpanKind.CONSUMER,
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=span.start_us * _NANOSECONDS,
            end_time=span.end_us * _NANOSECONDS,
            instrumentation_scope=self._scope,
        )


def _context(context: TraceContext, *, is_remote: bool) -> SpanContext:
    flags = TraceFlags(TraceFlags.SAMPLED if context.sampled else TraceFlags.DEFAULT)
    return SpanContext(int(context.trace_id, 16), int(context.span_id, 16), is_remote, flags)
