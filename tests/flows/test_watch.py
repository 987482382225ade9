"""The watch over requests: what is counted, written and traced, and that none of it grows with what clients send."""

from dataclasses import replace

import pytest

from pipeline.core.accept import Accepted
from pipeline.core.request_line import RequestLine
from pipeline.core.tracing import FinishedSpan
from pipeline.facts import (
    EventsAcknowledged,
    Fact,
    LinesWithheld,
    RequestsAnswered,
    RequestsRefused,
    TenantServed,
)
from pipeline.flows.watch import OTHER, RequestWatch, WatchOptions
from tests.fakes.clock import NOON_US, SteppedClock

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Watched:
    """A watch, its clock, and what it wrote."""

    def __init__(self, *, traced: bool = False, chance: float = 0.5, **options: float) -> None:
        self.clock = SteppedClock()
        self.lines, self.spans = list[RequestLine](), list[FinishedSpan]()
        spans = self.spans.append if traced else None
        chosen = replace(WatchOptions(), **options)  # type: ignore[arg-type]
        self.watch = RequestWatch(self.clock, chosen, self.lines.append, spans, lambda: chance)
        self.route = self.watch.route("POST /v1/events")

    def ask(self, status: int = 202, tenant: str = "acme", code: str = "", seconds: float = 0.004) -> None:
        """One request, from begin to end."""
        seen = self.watch.begin()
        seen.tenant, seen.credential, seen.events = tenant, "key:k1", int(status == 202)
        self.clock.advance(seconds)
        self.watch.end(seen, self.route, status, code, 100)


def _of(told: list[Fact], kind: type[Fact]) -> list[Fact]:
    return [one for one in told if isinstance(one, kind)]


def test_counts_by_route_class_code_and_tenant() -> None:
    """Each request is in the histogram of its route and class, in its code's count and in its tenant's; told once."""
    watched = Watched()
    for status, code in ((202, ""), (202, ""), (400, "all_refused"), (429, "rate_limited"), (503, "busy")):
        watched.ask(status, code=code)
    told = watched.watch.take()
    answered = {one.status: one for one in told if isinstance(one, RequestsAnswered)}
    assert {name: (one.requests, one.errors) for name, one in answered.items()} == {
        "2xx": (2, 0),
        "4xx": (2, 0),
        "5xx": (1, 1),
    }
    assert answered["2xx"].seconds.sum == pytest.approx(0.008)
    assert {one.code: one.requests for one in told if isinstance(one, RequestsRefused)} == {
        "all_refused": 1,
        "rate_limited": 1,
        "busy": 1,
    }
    assert _of(told, TenantServed) == [TenantServed("acme", 5, 2, 2, 1, 1)]
    assert watched.watch.take() == []


def test_ten_thousand_tenants_are_as_many_series_as_the_setting_says() -> None:
    """The first ones keep their label, in every turn; the rest is one series, and no request is lost."""
    watched = Watched(tenants=20)
    for turn in range(2):
        for number in range(10_000):
            watched.ask(tenant=f"tenant-{number if turn else 9_999 - number}")
        told = [one for one in watched.watch.take() if isinstance(one, TenantServed)]
        assert {one.tenant for one in told} == {OTHER, *(f"tenant-{9_999 - number}" for number in range(20))}
        assert sum(one.requests for one in told) == 10_000


def test_no_tenant_has_a_label_where_none_is_wanted() -> None:
    """With metrics.tenants = 0 all of them are one."""
    watched = Watched(tenants=0)
    watched.ask(tenant="a")
    watched.ask(tenant="b")
    assert [(one.tenant, one.requests) for one in watched.watch.take() if isinstance(one, TenantServed)] == [
        (OTHER, 2)
    ]


def test_a_line_for_what_was_refused_and_a_share_of_the_rest() -> None:
    """Refused and failed ones are written, with their level; good ones as the share says."""
    watched = Watched(chance=0.5, log_share=0.4)
    for status, code in ((202, ""), (404, "not_found"), (503, "busy"), (500, "internal")):
        watched.ask(status, code=code)
    assert [(one.status, one.code, one.level) for one in watched.lines] == [
        (404, "not_found", "INFO"),
        (503, "busy", "WARN"),
        (500, "internal", "ERROR"),
    ]
    often = Watched(chance=0.3, log_share=0.4)
    often.ask()
    [line] = often.lines
    assert (line.route, line.tenant, line.credential, line.bytes) == (
        "POST /v1/events",
        "acme",
        "key:k1",
        100,
    )
    assert (line.milliseconds, line.share, line.events) == (4.0, 0.4, 1)


def test_a_flood_of_refusals_is_ten_lines_a_second_and_hides_no_failure() -> None:
    """What is left out is counted; another kind has lines of its own."""
    watched = Watched(lines_per_second=10)
    for _ in range(5_000):
        watched.ask(401, tenant="", code="unauthenticated", seconds=0.001)
    watched.ask(500, code="internal")
    refused = [one for one in watched.lines if one.status == 401]
    assert 50 <= len(refused) <= 61
    assert watched.lines[-1].status == 500
    assert [one.lines for one in watched.watch.take() if isinstance(one, LinesWithheld)] == [
        5_000 - len(refused)
    ]


def test_the_line_of_one_event_names_it() -> None:
    """Its id, entity and correlation id are there, and nothing else of it."""
    watched = Watched(log_share=1.0)
    seen = watched.watch.begin()
    payload = b'{"event_id":"e1","correlation_id":"c1","data":{"secret":"vault"}}'
    seen.event = Accepted("e1", "acme", "door-1", payload)
    watched.watch.end(seen, watched.route, 202)
    [line] = watched.lines
    assert (line.event_id, line.entity_id, line.correlation_id) == ("e1", "door-1", "c1")
    assert "vault" not in repr(line)


def test_a_span_goes_on_where_the_caller_is() -> None:
    """Trace and parent are the caller's, times are the request's, and its events carry the span's id on."""
    watched = Watched(traced=True)
    seen = watched.watch.begin([PARENT])
    seen.tenant = "acme"
    assert (seen.trace_id, seen.traceparent) == (TRACE, f"00-{TRACE}-{seen.span_id}-01")
    watched.clock.advance(0.25)
    watched.watch.end(seen, watched.route, 202)
    [span] = watched.spans
    assert span.parent is not None
    assert (span.parent.trace_id, span.parent.span_id, span.span_id) == (TRACE, SPAN, seen.span_id)
    assert (span.start_us, span.end_us) == (NOON_US, NOON_US + 250_000)
    assert span.attributes == {
        "request_id": seen.request_id,
        "endpoint": "POST /v1/events",
        "status": 202,
        "events": 0,
        "tenant_id": "acme",
    }


@pytest.mark.parametrize(
    ("traced", "headers", "trace"),
    [
        (True, [f"00-{TRACE}-{SPAN}-00"], TRACE),
        (True, ["nonsense"], None),
        (True, [PARENT, PARENT], None),
        (False, [PARENT], TRACE),
    ],
)
def test_what_is_not_traced_has_a_trace_id_all_the_same(
    traced: bool, headers: list[str], trace: str | None
) -> None:
    """The caller's, where it is well-formed and alone, else the request's own; no span, nothing in events."""
    watched = Watched(traced=traced, trace_share=0.0)
    seen = watched.watch.begin(headers)
    watched.watch.end(seen, watched.route, 200)
    assert seen.trace_id == (trace or seen.request_id)
    assert (seen.traceparent, watched.spans) == ("", [])


def test_the_lag_of_the_stream() -> None:
    """From taking events to their acknowledgement, told when there was one."""
    watched = Watched()
    began = watched.watch.now()
    watched.clock.advance(0.02)
    watched.watch.acknowledged(began)
    [told] = watched.watch.take()
    assert isinstance(told, EventsAcknowledged)
    assert told.seconds.count == 1
    assert told.seconds.sum == pytest.approx(0.02)
