"""Spans on their way to a collector: what it gets, and what happens when it is slow or gone."""

import subprocess
import sys
import threading
from collections.abc import Sequence

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult

from pipeline.core.tracing import FinishedSpan, TraceContext
from pipeline.facts import SpansDropped
from pipeline.telemetry import tracing
from pipeline.telemetry.tracing import Tracer, otlp_exporter
from tests.fakes.collector import collecting
from tests.fakes.facts import FactList

PARENT = TraceContext("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", sampled=True)
SPAN = FinishedSpan("archive event", PARENT, 1_000_000, 3_000_000, {"tenant_id": "acme", "chunk": 2})


def _dropped(facts: FactList) -> int:
    return sum(one.spans for one in facts.told if isinstance(one, SpansDropped))


def test_a_collector_gets_every_span() -> None:
    """By OTLP over HTTP: name, ids, times and attributes as they were told, and who told it."""
    facts = FactList()
    with collecting() as collector:
        tracer = Tracer(otlp_exporter(collector.url), "shop", "reader", facts)
        for _ in range(1_000):
            tracer(SPAN)
        tracer(
            FinishedSpan(
                "GET /healthz", None, 1, 2, {}, span_id="0" * 15 + "7", trace_id="a" * 32, serves=True
            )
        )
        tracer.close()
    assert len(collector.spans) == 1_001
    first, last = collector.spans[0], collector.spans[-1]
    assert (first.service, first.scope, first.name) == ("shop", "headrace.reader", "archive event")
    assert (first.trace_id, first.parent_id) == (PARENT.trace_id, PARENT.span_id)
    assert (first.start_ns, first.end_ns) == (1_000_000_000, 3_000_000_000)
    assert first.attributes == {"tenant_id": "acme", "chunk": 2}
    assert (last.trace_id, last.span_id, last.parent_id) == ("a" * 32, "0" * 15 + "7", "")
    assert len({one.span_id for one in collector.spans}) == 1_001
    assert facts.told == []


def test_a_collector_that_refuses_costs_spans_alone() -> None:
    """They are dropped and counted; telling one raises nothing."""
    facts = FactList()
    with collecting() as collector:
        collector.status = 400
        tracer = Tracer(otlp_exporter(collector.url), "shop", "reader", facts)
        for _ in range(10):
            tracer(SPAN)
        tracer.close()
    assert _dropped(facts) == 10


class Stuck:
    """An exporter that takes for ever, until it is let go; or breaks."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.go, self.got, self._breaks = threading.Event(), 0, breaks

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Wait."""
        self.go.wait(20)
        if self._breaks:
            raise OSError("the network is gone")
        self.got += len(spans)
        return SpanExportResult.SUCCESS

    def shutdown(self) -> None:
        """Finish."""


def test_a_stuck_collector_fills_a_queue_of_fixed_length(monkeypatch: pytest.MonkeyPatch) -> None:
    """What finds no room is dropped at once; every span is either sent or counted."""
    monkeypatch.setattr(tracing, "MAX_QUEUED", 100)
    facts, stuck = FactList(), Stuck()
    tracer = Tracer(stuck, "shop", "reader", facts)
    for _ in range(5_000):
        tracer(SPAN)
    stuck.go.set()
    tracer.close()
    assert stuck.got + _dropped(facts) == 5_000
    assert 100 <= stuck.got <= 100 + 512


def test_an_exporter_that_raises_ends_nothing() -> None:
    """The thread goes on, and counts."""
    facts, broken = FactList(), Stuck(breaks=True)
    broken.go.set()
    tracer = Tracer(broken, "shop", "reader", facts)
    tracer(SPAN)
    tracer.close()
    assert _dropped(facts) == 1


class Outrun(Stuck):
    """An exporter that fails, while more spans come than it takes."""

    def __init__(self, facts: FactList) -> None:
        super().__init__()
        self._facts, self.batches = facts, 0
        self.tracer: Tracer | None = None

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Fail, and leave the queue with another span, until the first ones are told of."""
        del spans
        self.go.wait(20)
        self.batches += 1
        if self.tracer is not None and self.batches < 10 and not _dropped(self._facts):
            self.tracer(SPAN)
        return SpanExportResult.FAILURE


def test_drops_are_told_while_the_queue_never_empties() -> None:
    """A collector that fails for as long as there is work is heard of with its first batch, not when the work is over."""
    facts = FactList()
    outrun = Outrun(facts)
    outrun.tracer = tracer = Tracer(outrun, "shop", "reader", facts)
    tracer(SPAN)
    outrun.go.set()
    tracer.close()
    assert outrun.batches == 2
    assert _dropped(facts) == 2


def test_without_a_collector_nothing_is_imported() -> None:
    """A process that traces nothing does not bring OpenTelemetry."""
    code = (
        "import sys; from consumers.telemetry import Telemetry; from pipeline.config import load_settings\n"
        "import pipeline.wiring.front_door, pipeline.web.serve, consumers.reader\n"
        "with Telemetry(load_settings(environ={}), 'reader') as one: assert one.spans is None\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_missing_extra_is_named() -> None:
    """With an endpoint and without the packages the process says what to install."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "from consumers.telemetry import Telemetry; from pipeline.config import load_settings\n"
        "settings = load_settings({'tracing': {'otlp_endpoint': 'http://localhost:4318'}}, environ={})\n"
        "from pipeline.core.errors import ConfigProblem\n"
        "try: Telemetry(settings, 'reader').__enter__()\n"
        "except ConfigProblem as exc: assert 'headrace[otel]' in str(exc)\n"
        "else: sys.exit('entered')"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
