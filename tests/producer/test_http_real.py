"""The client against the real API over a stream in memory: both shells, batching, fates, order, credentials."""

import asyncio
import threading
from collections import defaultdict
from typing import Any

import orjson
import pytest

from pipeline.core.errors import ConfigProblem, InvalidEvent, Transient
from pipeline.core.kpl import split
from pipeline.producer import Event, Report, connect_http, connect_http_async
from tests.producer.http_server import KEY, KeyGate, real_api
from tests.web.doors import MemorySink
from tests.web.serving import _DATA, event

_SECONDS = 20.0


def _stream(sink: MemorySink) -> list[dict[str, Any]]:
    return [orjson.loads(part) for record in sink.records for part in split(record.data)]


def _typed(number: int, **given: Any) -> Event:
    fields: dict[str, Any] = {
        "tenant_id": "demo",
        "entity_id": f"gate-{number % 7}",
        "event_type": "weather.observed",
        "schema_version": 1,
        "source": "IAH",
        "event_id": f"e{number:05}",
        "data": {**_DATA},
    }
    return Event(**{**fields, **given})


def _check_order(sink: MemorySink) -> None:
    by_entity = defaultdict(list)
    for one in _stream(sink):
        by_entity[one["entity_id"]].append(one["event_id"])
    assert all(ids == sorted(ids) for ids in by_entity.values())


def _sync(url: str, events: list[Event], **options: Any) -> Report:
    with connect_http(url, api_key=KEY, **options) as producer:
        tickets = [producer.put(one) for one in events]
        report = producer.flush(_SECONDS)
    assert sorted(ticket for ticket, _ in report.fates()) == tickets
    return report


def _async(url: str, events: list[Event], **options: Any) -> Report:
    async def run() -> Report:
        async with connect_http_async(url, api_key=KEY, **options) as producer:
            tickets = [await producer.put(one) for one in events]
            report = await producer.flush(_SECONDS)
        assert sorted(ticket for ticket, _ in report.fates()) == tickets
        return report

    return asyncio.run(run())


SHELLS = pytest.mark.parametrize("run", [_sync, _async])


@SHELLS
def test_every_event_arrives_once_in_its_entitys_order(run: Any) -> None:
    """Two thousand events of seven entities by four lanes: all acknowledged with receipts, each entity in order."""
    sink = MemorySink()
    with real_api(sink) as url:
        report = run(url, [_typed(number) for number in range(2_000)], max_batch_events=100)
    assert str(report) == "2,000 acknowledged"
    assert sorted(one["event_id"] for one in _stream(sink)) == [f"e{number:05}" for number in range(2_000)]
    _check_order(sink)
    assert len(report.receipts) >= 20


@SHELLS
def test_a_small_plan_halves_the_batches(run: Any) -> None:
    """A plan that takes 30 events a request: 413 halves them until they fit; nothing is lost or out of order."""
    sink = MemorySink()
    with real_api(sink, KeyGate(max_batch_events=30)) as url:
        report = run(url, [_typed(number) for number in range(400)], max_batch_events=200)
    assert report.acknowledged == 400
    _check_order(sink)
    assert len(_stream(sink)) == 400


@SHELLS
def test_memory_is_bounded(run: Any) -> None:
    """With room for four events a thousand pass, each waiting for room."""
    sink = MemorySink()
    with real_api(sink) as url:
        report = run(
            url, [_typed(number) for number in range(200)], max_buffer_bytes=2_000, linger_seconds=0.0
        )
    assert report.acknowledged == 200


def test_the_server_refuses_by_event() -> None:
    """A refused event has the server's code, pointer and message; its neighbours are acknowledged."""
    sink = MemorySink()
    with real_api(sink) as url:
        producer = connect_http(url, api_key=KEY)
        good, bad = producer.put(_typed(1)), producer.put(_typed(2, data={"visib": "far"}))
        other = producer.put(_typed(3, tenant_id="other"))
        report = producer.close(_SECONDS)
    assert report.of(good).kind == "acknowledged"
    assert (report.of(bad).kind, report.of(bad).code) == ("refused", "schema_mismatch")
    assert report.of(bad).pointer.startswith("/data")
    assert report.of(other).code == "wrong_tenant"
    assert report.of(bad).status == 0


def test_what_is_missing_is_filled_in_before_the_first_attempt() -> None:
    """An envelope in part, pretty JSON, a CloudEvent: ids and times are the client's."""
    sink = MemorySink()
    cloud = {
        "specversion": "1.0",
        "id": "ce-1",
        "type": "weather.observed",
        "source": "IAH",
        "subject": "IAH",
        "dataschema": "https://example.com/weather.observed/1",
        "data": _DATA,
    }
    with real_api(sink) as url, connect_http(url, api_key=KEY) as producer:
        producer.put_json(event())
        producer.put_json(orjson.dumps(event(event_id="mine"), option=orjson.OPT_INDENT_2))
        producer.put_json(cloud)
        with pytest.raises(InvalidEvent, match="not JSON"):
            producer.put_json(b"{")
        with pytest.raises(InvalidEvent, match="not an event"):
            producer.put_json(b"[1]")
        assert producer.flush(_SECONDS).acknowledged == 3
    ids = {one["event_id"] for one in _stream(sink)}
    assert {"mine", "ce-1"} < ids
    assert len(ids) == 3


def test_a_wrong_key_is_told_once_and_the_key_never() -> None:
    """Every event is refused with the server's reason; no text holds the key."""
    with real_api(MemorySink()) as url:
        producer = connect_http(url, api_key="hr-wrong")
        ticket = producer.put(_typed(1))
        report = producer.close(_SECONDS)
    fate = report.of(ticket)
    assert (fate.kind, fate.code, fate.status) == ("refused", "unauthenticated", 401)
    assert "hr-wrong" not in f"{fate} {report} {producer!r} {vars(producer)}"


def test_a_block_that_loses_events_raises() -> None:
    """Whoever does not look at reports hears of it at the block's end."""
    with real_api(MemorySink()) as url, pytest.raises(Transient, match="1 refused"):  # noqa: SIM117
        with connect_http(url, api_key=KEY) as producer:
            producer.put(_typed(1, tenant_id="other"))


def test_many_threads_put() -> None:
    """Eight threads share a producer; every ticket has one fate, and on_batch hears of each event."""
    sink, told = MemorySink(), list[int]()
    with real_api(sink) as url:
        producer = connect_http(url, api_key=KEY, on_batch=lambda fate: told.extend(fate.tickets))
        threads = [
            threading.Thread(
                target=lambda k: [
                    producer.put(_typed(number, entity_id=f"t{k}", event_id=f"{k}-{number:04}"))
                    for number in range(200)
                ],
                args=(k,),
            )
            for k in range(8)
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
        report = producer.close(_SECONDS)
    assert report.acknowledged == 1_600
    assert sorted(told) == list(range(1_600))
    _check_order(sink)


def test_a_closed_producer_takes_nothing() -> None:
    """Closing twice is fine; putting then is a mistake, and says so."""
    with real_api(MemorySink()) as url:
        producer = connect_http(url, api_key=KEY)
        producer.close(_SECONDS)
        producer.close(_SECONDS)
    with pytest.raises(ConfigProblem, match="closed"):
        producer.put(_typed(1))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://events.example.com", "in the clear"),
        ("ftp://events.example.com", "must be like"),
        ("https://user:pass@events.example.com", "before @"),
        ("https://events.example.com/?key=1", "leave out"),
        ("events.example.com", "must be like"),
    ],
)
def test_a_url_that_is_not_safe(url: str, words: str) -> None:
    """A credential goes nowhere by mistake, and a URL with one in it is not repeated."""
    with pytest.raises(ConfigProblem, match=words) as caught:
        connect_http(url, api_key=KEY)
    assert "pass" not in str(caught.value)


def test_one_credential() -> None:
    """None, or a key with a line end, is said at once."""
    with pytest.raises(ConfigProblem, match="one credential"):
        connect_http("https://events.example.com")
    with pytest.raises(ConfigProblem, match="line end") as caught:
        connect_http("https://events.example.com", api_key=KEY + "\n")
    assert KEY not in str(caught.value)
