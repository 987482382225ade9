"""`POST /v1/events` over the real server: forms of a body, answers by index, limits, a stream that is slow."""

import gzip
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import msgspec
import orjson
import pytest

from pipeline.core.kpl import split
from pipeline.web.entry import Incoming, Room
from pipeline.web.problems import Problem
from pipeline.wiring.front_door import FrontDoor
from tests.web.doors import MemorySink, OpenGate, make_door, web_settings
from tests.web.serving import JSON, LINES, Served, cloud_event, event, lines, post, serving

CLOUD = {"Content-Type": "application/cloudevents+json"}
CLOUDS = {"Content-Type": "application/cloudevents-batch+json"}


@pytest.fixture(scope="module")
def sink() -> MemorySink:
    """The stream of all these tests; each event has an id of its own."""
    return MemorySink()


@pytest.fixture(scope="module")
def served(sink: MemorySink) -> Iterator[Served]:
    """A server whose bodies have at most 64 KiB and its requests 50 events."""
    door = make_door(sink, web_settings(web={"max_body_bytes": 65_536}))
    with serving(door, OpenGate(max_batch_events=50)) as found:
        yield found


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    """A client of the tenant demo."""
    with served.client() as found:
        yield found


def in_stream(sink: MemorySink) -> dict[str, dict[str, Any]]:
    """Return every event of the stream by its id."""
    found = [orjson.loads(part) for record in sink.records for part in split(record.data)]
    return {one["event_id"]: one for one in found}


@pytest.mark.parametrize(
    ("body", "headers", "count"),
    [
        (event(), JSON, 1),
        ([event(), event()], JSON, 2),
        (event(), {"Content-Type": "application/json; charset=UTF-8"}, 1),
        (lines(event(), event(), event()), LINES, 3),
        (b"\n\n" + lines(event()) + b"\r\n" + msgspec.json.encode(event()), LINES, 2),
        (cloud_event(id="one"), CLOUD, 1),
        ([cloud_event(id="two"), cloud_event(id="three")], CLOUDS, 2),
        (gzip.compress(lines(event(), event()), mtime=0), {**LINES, "Content-Encoding": "gzip"}, 2),
    ],
)
def test_every_form_of_a_body_is_taken(
    client: httpx.Client, sink: MemorySink, body: Any, headers: dict[str, str], count: int
) -> None:
    """202, one answer for each event by index, and the stream has each under the id that was told."""
    answer = post(client, body, headers)
    assert answer.status_code == 202
    told = answer.json()
    assert [(one["index"], one["status"]) for one in told["events"]] == [
        (at, "accepted") for at in range(count)
    ]
    assert told["accepted"] == count
    stream = in_stream(sink)
    assert all(stream[one["event_id"]]["tenant_id"] == "demo" for one in told["events"])
    assert answer.headers["X-Request-Id"] == told["request_id"]


@pytest.mark.parametrize(
    ("bare", "own", "media"),
    [
        (event(), event(event_time="2013-01-01T13:00:00Z"), JSON),
        (cloud_event(id="bare"), cloud_event(id="own", time="2013-01-01T13:00:00Z"), CLOUD),
    ],
)
def test_a_time_that_was_filled_in_is_told(
    client: httpx.Client, sink: MemorySink, bare: Any, own: Any, media: dict[str, str]
) -> None:
    """An event without one is answered with the time that the stream has; one that brings its own is not."""
    [told], [untold] = [post(client, body, media).json()["events"] for body in (bare, own)]
    assert told["event_time"] == in_stream(sink)[told["event_id"]]["event_time"]
    assert "event_time" not in untold


def test_a_binary_cloud_event_is_taken(client: httpx.Client, sink: MemorySink) -> None:
    """Its attributes are headers, percent-encoded; its body is the data, byte for byte."""
    attributes = {name: value for name, value in cloud_event(id="b%C3%A9").items() if name != "data"}
    data = b'{ "origin":"IAH","year":2013,"month":1,"day":1,"hour":8,"precip":0.0,"visib":10.0,"time_hour":"2013-01-01T13:00:00Z"}'
    headers = {f"ce-{name}": str(value) for name, value in attributes.items()}
    assert post(client, data, JSON | headers).status_code == 202
    assert any(
        data in part for record in sink.records for part in split(record.data) if "bé".encode() in part
    )


def test_a_mix_is_answered_by_index(client: httpx.Client, sink: MemorySink) -> None:
    """207: what is good is in the stream, what is not says its code, pointer and reason."""
    good = event(event_id="mixed-good")
    answer = post(
        client, [event(schema_version=9), good, event(tenant_id="other"), event(received_time="x")], JSON
    )
    assert answer.status_code == 207
    told = answer.json()
    assert [one.get("code") for one in told["events"]] == [
        "unknown_version",
        None,
        "wrong_tenant",
        "server_field",
    ]
    assert (told["accepted"], told["refused"], told["retry"]) == (1, 3, 0)
    assert "known: 1" in told["events"][0]["message"]
    assert "mixed-good" in in_stream(sink)


def test_when_all_are_refused_nothing_is_sent(client: httpx.Client, sink: MemorySink) -> None:
    """400 all_refused, with the list; the stream gets nothing."""
    before = len(sink.records)
    answer = post(client, lines(event(schema_version=9), event(entity_id="")), LINES)
    assert (answer.status_code, answer.json()["code"]) == (400, "all_refused")
    assert [one["pointer"] for one in answer.json()["events"]] == ["/schema_version", "/entity_id"]
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert len(sink.records) == before


_BOMB = gzip.compress(b" " * 60_000 + b"{}", mtime=0)


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"", JSON, 400, "bad_request"),
        (b"[]", JSON, 400, "bad_request"),
        (b"[1", JSON, 400, "bad_request"),
        (b"\n \n", LINES, 400, "bad_request"),
        (b"{}", {}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported_media_type"),
        (b"{}", {"Content-Type": "application/json; charset=latin1"}, 415, "unsupported_media_type"),
        (b"{}", {**JSON, "Content-Encoding": "br"}, 415, "unsupported_media_type"),
        (b"{}", {**JSON, "Content-Encoding": "gzip, gzip"}, 415, "unsupported_media_type"),
        (b"{}", {**JSON, "Content-Encoding": "gzip"}, 400, "bad_request"),
        (gzip.compress(b"{}", mtime=0)[:-3], {**JSON, "Content-Encoding": "gzip"}, 400, "bad_request"),
        (gzip.compress(b"{}", mtime=0) + b"x", {**JSON, "Content-Encoding": "gzip"}, 400, "bad_request"),
        (gzip.compress(b"{}", mtime=0) * 2, {**JSON, "Content-Encoding": "gzip"}, 400, "bad_request"),
        (
            gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0),
            {**JSON, "Content-Encoding": "gzip"},
            400,
            "all_refused",
        ),
        (b" " * 70_000, JSON, 413, "too_large"),
        (gzip.compress(b" " * 10_000_000, mtime=0), {**JSON, "Content-Encoding": "gzip"}, 413, "too_large"),
        (lines(*[event()] * 51), LINES, 413, "too_large"),
        ([event()] * 51, JSON, 413, "too_large"),
        ([cloud_event()] * 51, CLOUDS, 413, "too_large"),
        ([cloud_event()], CLOUD, 400, "bad_request"),
    ],
)
def test_a_body_that_is_not_taken_says_why(
    client: httpx.Client, sink: MemorySink, body: Any, headers: dict[str, str], status: int, code: str
) -> None:
    """A problem with a stable code, and nothing in the stream."""
    before = len(sink.records)
    answer = post(client, body, headers)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert len(sink.records) == before


def test_fifty_events_are_taken(client: httpx.Client) -> None:
    """The plan's batch size is what may be sent, not one less."""
    assert post(client, lines(*[event()] * 50), LINES).status_code == 202


def test_a_body_of_many_pieces_is_one_body(client: httpx.Client, sink: MemorySink) -> None:
    """Chunked, cut inside lines and inside letters: the events are those of the whole."""
    whole = lines(*(event(event_id=f"piece-\u00e9-{number}") for number in range(20)))
    pieces = (whole[at : at + 37] for at in range(0, len(whole), 37))
    answer = client.post("/v1/events", content=pieces, headers=LINES)
    assert answer.status_code == 202
    assert {f"piece-é-{number}" for number in range(20)} <= set(in_stream(sink))


def test_nobody_is_let_in_without_a_credential(served: Served) -> None:
    """401, whatever the body is."""
    with served.client(None) as nobody:
        assert post(nobody, event(), JSON).status_code == 401


def _raw(served: Served, head: str, body: bytes) -> bytes:
    """Send bytes, end our half, and return all that comes back."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(head.replace("\n", "\r\n").encode() + body)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while part := connection.recv(65_536):
            answer += part
        return answer


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ("", (b"HTTP/1.1 100", b"HTTP/1.1 202")),
        ("X-Tenant: nobody\n", (b"HTTP/1.1 401",)),
        ("Content-Length: 99000000\n", (b"HTTP/1.1 413",)),
    ],
)
def test_who_asks_before_sending_is_refused_before_sending(
    served: Served, changes: str, expected: tuple[bytes, ...]
) -> None:
    """With `Expect: 100-continue` a body is asked for only when the request was let in and fits."""
    body, found = lines(event(event_id=f"asked-{len(changes)}")), list[bytes]()
    fields = {"X-Tenant": "demo", "Content-Type": "application/x-ndjson", "Content-Length": str(len(body))}
    fields |= dict([changes.strip().split(": ")] if changes else [])
    if fields["X-Tenant"] == "nobody":
        del fields["X-Tenant"]
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    with socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection:
        connection.sendall(
            f"POST /v1/events HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n{head}\r\n".encode()
        )
        found.append(connection.recv(65_536)[:12])
        if found[0].endswith(b"100"):
            connection.sendall(body)
            found.append(connection.recv(65_536)[:12])
    assert tuple(found) == expected


_HEAD = "POST /v1/events HTTP/1.1\nHost: x\nX-Tenant: demo\nContent-Type: application/x-ndjson\n"


@pytest.mark.parametrize("framing", ["Content-Length: 5000\n\n", "Transfer-Encoding: chunked\n\n"])
def test_a_body_that_breaks_off_is_not_taken(served: Served, sink: MemorySink, framing: str) -> None:
    """Whole lines that came before the end of the connection are no request: its sender has no answer."""
    part = lines(event(event_id=f"broken-{len(framing)}"))
    body = part if "Length" in framing else b"%x\r\n%b\r\n" % (len(part), part)
    _raw(served, _HEAD + framing, body)
    with served.client() as client:  # a request behind it: the broken one was dealt with
        assert post(client, event(), JSON).status_code == 202
    assert f"broken-{len(framing)}" not in in_stream(sink)


def _held_by(go_on: threading.Event) -> None:
    go_on.wait(20)


def _slow_door(sink: MemorySink, **web: Any) -> FrontDoor:
    return make_door(sink, web_settings(web={"deadline_seconds": 0.5, **web}))


@pytest.mark.parametrize("sent", [b"", b'{"entity_id"'])
def test_a_body_that_does_not_come_ends_at_the_deadline(sent: bytes) -> None:
    """408, and the connection is closed: neither no byte of it nor some hold it open."""
    head = _HEAD + "Content-Length: 500\n\n"
    with (
        serving(_slow_door(MemorySink())) as served,
        socket.create_connection(("127.0.0.1", served.port), timeout=20) as connection,
    ):
        connection.sendall(head.replace("\n", "\r\n").encode() + sent)
        answer = connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b'"code":"request_timeout"' in answer


def test_a_stream_that_is_busy_beyond_the_deadline_leaves_the_outcome_open() -> None:
    """503 with Retry-After and the ids to send again; the events may arrive all the same, and do."""
    sink, go_on = MemorySink(), threading.Event()
    sink.before = lambda: _held_by(go_on)
    with serving(_slow_door(sink)) as served, served.client() as client:
        answer = post(client, [event(event_id="late-1"), event(schema_version=9)], JSON)
        go_on.set()
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert int(answer.headers["Retry-After"]) > 0
    assert [one["status"] for one in answer.json()["events"]] == ["retry", "refused"]
    assert "late-1" in in_stream(sink)


def test_a_full_buffer_refuses_at_once_and_takes_nothing() -> None:
    """503 before anything is taken: memory is bounded, and the request may be repeated as it is."""
    sink, go_on = MemorySink(), threading.Event()
    sink.before = lambda: _held_by(go_on)
    door = make_door(sink, web_settings(web={"deadline_seconds": 10}), max_buffer_bytes=4_000)
    answers: list[int] = []

    def first(running: Served) -> None:
        with running.client() as client:
            answers.append(post(client, lines(*[event()] * 5), LINES).status_code)

    with serving(door) as served:
        waiting = threading.Thread(target=first, args=(served,))
        waiting.start()
        while not door.ingest.waiting():
            time.sleep(0.01)
        with served.client() as client:
            refused = post(client, lines(*[event(event_id="no-room")] * 9), LINES)
        go_on.set()
        waiting.join()
    assert (refused.status_code, refused.json()["code"], answers) == (503, "busy", [202])
    assert "no-room" not in in_stream(sink)


async def _nothing() -> dict[str, Any]:
    return {"type": "http.disconnect"}


def test_bodies_that_fill_the_memory_are_refused_until_others_are_answered() -> None:
    """One request alone always finds room; a second one waits for the first's end."""
    room = Room(1_000)
    first, second = Incoming(_nothing, 0, room), Incoming(_nothing, 0, room)
    first.hold(1_200)
    with pytest.raises(Problem) as refused:
        second.hold(1)
    second.let_go()
    first.let_go()
    assert (refused.value.code, room.used_bytes) == ("busy", 0)
    second.hold(900)


def test_many_requests_share_records() -> None:
    """Single events of many connections travel in few Kinesis records: one for each slot and linger time."""
    sink = MemorySink()
    with serving(make_door(sink, web_settings(web={"linger_ms": 200}))) as served:

        def send() -> None:
            with served.client() as client:
                assert post(client, event(), JSON).status_code == 202

        threads = [threading.Thread(target=send) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert len(in_stream(sink)) == 20
    assert len(sink.records) < 10


def test_what_comes_while_a_call_is_under_way_goes_together_with_the_next() -> None:
    """Without a linger time the first event goes at once, alone; those that came meanwhile, of one entity, share a record."""
    sink, under_way, go_on = MemorySink(), threading.Event(), threading.Event()

    def hold() -> None:
        under_way.set()
        go_on.wait(20)

    sink.before = hold
    door = make_door(sink)
    with serving(door) as served:

        def send() -> None:
            with served.client() as client:
                assert post(client, event(), JSON).status_code == 202

        threads = [threading.Thread(target=send) for _ in range(20)]
        threads[0].start()
        assert under_way.wait(20)
        for thread in threads[1:]:
            thread.start()
        while door.ingest.waiting() < len(threads):
            time.sleep(0.01)
        go_on.set()
        for thread in threads:
            thread.join()
    assert door.settings.web.linger_ms == 0
    assert [len(split(record.data)) for record in sink.records] == [1, 19]
