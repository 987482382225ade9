"""What a request leaves behind, by the real server: ids in the answer, one line, counts on the page, a context in its event."""

from dataclasses import replace
from typing import Any

import httpx
import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.core.kpl import split
from pipeline.core.tracing import FinishedSpan, parse_traceparent
from pipeline.facts import EventsReceived, Fact
from pipeline.flows.watch import RequestWatch, WatchOptions
from pipeline.laptop.emulator import free_port
from pipeline.ports.clock import SystemClock
from pipeline.telemetry.page import Page
from pipeline.telemetry.request_log import JsonRequestLog
from pipeline.wiring.front_door import FrontDoor, Tally
from tests.web.doors import MemorySink, make_door
from tests.web.serving import cloud_event, event, lines, serving

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}
SECRET = "the-vaults-combination"  # in payloads, headers and queries


class Observed:
    """A door over a stream in memory, and what its requests leave behind."""

    def __init__(self, **options: Any) -> None:
        self.sink, self.page = MemorySink(), Page("api")
        self.written, self.spans = list[bytes](), list[FinishedSpan]()
        self.options = replace(WatchOptions(log_share=1.0, trace_share=0.0), **options)
        self.door = self._door()

    def _door(self) -> FrontDoor:
        log = JsonRequestLog(write=self.written.append)
        watch = RequestWatch(SystemClock(), self.options, log, self.spans.append)
        return replace(make_door(self.sink), watch=watch, facts=self.tell)

    def tell(self, fact: Fact) -> None:
        """Show a fact on the page."""
        self.page.take(fact)

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Return the lines of the log."""
        return [orjson.loads(one) for one in self.written]

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return what the stream got."""
        return [orjson.loads(part) for record in self.sink.records for part in split(record.data)]

    def samples(self) -> dict[tuple[str, ...], float]:
        """Return the page's numbers, as Prometheus reads them."""
        port = free_port()
        self.page.serve("127.0.0.1", port)
        text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
        self.page.close()
        return {
            (
                sample.name,
                *(f"{name}={value}" for name, value in sorted(sample.labels.items()) if name != "worker"),
            ): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }


def test_every_answer_names_request_and_trace() -> None:
    """Taken, refused, unknown path and method, what a path takes: two headers, and a line with both."""
    seen = Observed()
    with serving(seen.door) as served, served.client() as client:
        answers = [
            client.post("/v1/events", json=event()),
            client.post("/v1/events", content=b"{", headers={"Content-Type": "application/json"}),
            client.get("/nowhere"),
            client.delete("/healthz"),
            client.get("/healthz", headers=SAMPLED),
            httpx.get(f"{served.url}/v1/usage"),
            client.request("BREW", "/healthz"),
            client.options("/v1/events"),
        ]
    assert [one.status_code for one in answers] == [202, 400, 404, 405, 200, 401, 400, 200]
    named = [(one.headers["x-request-id"], one.headers["x-trace-id"]) for one in answers]
    assert [(line["request"], line["trace"]) for line in seen.lines] == named
    assert answers[4].headers["x-trace-id"] == TRACE
    assert all(request == trace for request, trace in (*named[:4], *named[5:]))
    assert answers[7].headers.get_list("allow") == ["GET, HEAD, OPTIONS, POST"]
    assert "no method of HTTP" in answers[6].json()["detail"]
    routes = [
        "POST /v1/events",
        "POST /v1/events",
        "none",
        "none",
        "GET /healthz",
        "GET /v1/usage",
        "none",
        "none",
    ]
    assert [line["route"] for line in seen.lines] == routes
    codes = [
        None,
        "all_refused",
        "not_found",
        "method_not_allowed",
        None,
        "unauthenticated",
        "bad_request",
        None,
    ]
    assert [line.get("code") for line in seen.lines] == codes


def test_a_line_of_one_event_names_it_and_holds_nothing_of_it() -> None:
    """Ids, tenant, credential and sizes; no payload, header, query or secret in any line, whatever was sent where."""
    seen = Observed()
    hidden = {"X-Secret": SECRET, "Cookie": SECRET, "User-Agent": SECRET, "traceparent": SECRET}
    with serving(seen.door) as served, served.client() as client:
        body = event(event_id="e-1", correlation_id="c-1", source=SECRET)
        client.post("/v1/events", json=body, headers=hidden)
        client.post("/v1/events", json=event(data={"origin": SECRET}), headers=hidden)
        client.post("/v1/events", content=SECRET, headers={"Content-Type": SECRET})
        client.post(f"/v1/events?{SECRET}={SECRET}", json=body, headers={"Idempotency-Key": SECRET})
        client.get(f"/{SECRET}/{SECRET}?{SECRET}")
        client.get(
            f"/v1/receipts/{SECRET}", headers={"X-API-Key": SECRET, "Authorization": f"Bearer {SECRET}"}
        )
    first = seen.lines[0]
    assert (first["event_id"], first["entity_id"], first["correlation_id"]) == ("e-1", "IAH", "c-1")
    assert (first["tenant"], first["credential"], first["status"], first["events"]) == (
        "demo",
        "key:test",
        202,
        1,
    )
    assert first["bytes"] == len(httpx.Request("POST", "http://x", json=body).content)
    assert first["milliseconds"] > 0
    assert len(seen.lines) == 6
    assert not [line for line in seen.written if SECRET.encode() in line]
    assert not [span for span in seen.spans if SECRET in repr(span)]


@pytest.mark.parametrize("trace_share", [0.0, 1.0])
def test_events_of_sampled_requests_carry_the_context(trace_share: float) -> None:
    """In every form of an event, with the request's own span as parent; others carry nothing."""
    seen = Observed(trace_share=trace_share)
    cloud = {"Content-Type": "application/cloudevents+json"}
    with serving(seen.door) as served, served.client() as client:
        for headers in (SAMPLED, {}):
            client.post("/v1/events", json=event(event_id="a"), headers=headers)
            told = lines(event(event_id="b"), event())
            client.post(
                "/v1/events", content=told, headers={**headers, "Content-Type": "application/x-ndjson"}
            )
            ours = cloud_event(traceparent=f"00-{'b' * 32}-{SPAN}-01")
            client.post("/v1/events", content=orjson.dumps(ours), headers={**headers, **cloud})
    contexts = [
        parse_traceparent(one["traceparent"]) if "traceparent" in one else None for one in seen.events
    ]
    assert len(contexts) == 8
    spans = {span.span_id: span for span in seen.spans}
    for context in contexts[:4]:
        assert context is not None
        assert context.trace_id == TRACE
        assert spans[context.span_id].parent == parse_traceparent(SAMPLED["traceparent"])
    for context in contexts[4:]:
        assert (context is not None) == bool(trace_share)
        assert context is None or (spans[context.span_id].parent, context.trace_id != TRACE) == (None, True)
    assert [span.attributes["events"] for span in seen.spans[:3]] == [1, 2, 1]


def test_a_client_does_not_say_the_trace_of_an_event() -> None:
    """It is a field of the server's, refused by name; a trace begins at the request's header."""
    seen = Observed()
    with serving(seen.door) as served, served.client() as client:
        answer = client.post("/v1/events", json=event(**SAMPLED))
    assert answer.status_code == 400
    [refused] = answer.json()["events"]
    assert (refused["code"], refused["pointer"]) == ("server_field", "/traceparent")


def test_the_page_tells_of_requests() -> None:
    """Histogram by route and class, refusals by code, tenants, the stream's lag; Prometheus' own parser reads it."""
    seen = Observed(tenants=1)
    with serving(seen.door) as served, served.client() as client, served.client("other") as other:
        for _ in range(3):
            client.post("/v1/events", json=event())
        client.post("/v1/events", json=event(source=""))
        client.post("/v1/events", json=[event(), event(schema_version=9), event(tenant_id="other")])
        other.post("/v1/events", json=event())
        client.get("/nowhere")
    found, route = seen.samples(), "route=POST /v1/events"
    assert found["headrace_requests_total", route, "status=2xx"] == 5
    assert found["headrace_requests_total", route, "status=4xx"] == 1
    assert found["headrace_requests_total", "route=none", "status=4xx"] == 1
    assert found["headrace_request_seconds_count", route, "status=2xx"] == 5
    assert found["headrace_request_seconds_bucket", "le=60.0", route, "status=2xx"] == 5
    assert found["headrace_refused_requests_total", "code=all_refused"] == 1
    for code in ("bad_envelope", "unknown_version", "wrong_tenant"):
        assert found["headrace_refused_events_total", f"code={code}"] == 1
    assert found["headrace_tenant_requests_total", "tenant=demo"] == 5
    assert found["headrace_tenant_requests_total", "tenant=_other"] == 1
    assert found["headrace_tenant_events_total", "tenant=demo"] == 4
    assert found["headrace_ingest_seconds_count",] == 5


def test_events_of_requests_that_end_later_are_counted() -> None:
    """A look at the counts in a second in which no request begins loses none."""
    tally = Tally(requests=1)
    assert tally.take() == EventsReceived(1, 0, {}, 0)
    tally.count(900, 0, {"schema_mismatch": 100})
    assert tally.take() == EventsReceived(0, 900, {"schema_mismatch": 100}, 0)
    assert tally.take() is None
