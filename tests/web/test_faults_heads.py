"""Requests that no client library sends: each is answered by a problem, or its connection closes; nothing is taken by mistake."""

import gzip
import random
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any

import msgspec
import pytest

from pipeline.core.kpl import split
from pipeline.facts import RequestFailed
from tests.web.doors import MemorySink, make_door, web_settings
from tests.web.kit import Api, Town, settings_of
from tests.web.serving import Served, event, serving
from tests.web.wire import CLOSED, ask, connect, head, one

_POST, _JSON = "POST /v1/events HTTP/1.1", "Content-Type: application/json"
_BODY = msgspec.json.encode(event())
_LENGTH = f"Content-Length: {len(_BODY)}"
_CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(_BODY), _BODY)
_TE = "Transfer-Encoding: chunked"


@pytest.fixture(scope="module")
def sink() -> MemorySink:
    """The stream of all these tests."""
    return MemorySink()


@pytest.fixture(scope="module")
def served(sink: MemorySink, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with every read, and little patience."""
    settings = web_settings(web={"max_body_bytes": 65_536, "idle_seconds": 1, "deadline_seconds": 2})
    api = Api(Town(), settings_of(tmp_path_factory.mktemp("heads")))
    with serving(make_door(sink, settings, reads=api.reads)) as found:
        yield found
        assert not [told for told in _facts(found) if isinstance(told, RequestFailed)]


def _facts(served: Served) -> list[Any]:
    told: list[Any] = served.door.facts.told  # type: ignore[attr-defined]
    return told


def _taken(sink: MemorySink) -> int:
    return sum(len(list(split(record.data))) for record in sink.records)


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (head(_POST, _JSON, "Content-Length: -1") + _BODY, 400),
        (head(_POST, _JSON, "Content-Length: +5") + _BODY, 400),
        (head(_POST, _JSON, f"Content-Length: {10**30}") + _BODY, 400),
        (head(_POST, _JSON, _LENGTH, "Content-Length: 5") + _BODY, 400),
        (head(_POST, _JSON, f"Content-Length: {len(_BODY)}, {len(_BODY)}") + _BODY, 400),
        (head(_POST, _JSON, f"Content-Length: {len(_BODY) - 5}") + _BODY, 400),
        (head(_POST, _JSON, f"Content-Length: {len(_BODY) + 5}") + _BODY, 408),
        (head(_POST, _JSON, "Content-Length: 65537") + _BODY, 413),
        (head(_POST, _JSON, "Transfer-Encoding: xchunked", _LENGTH) + _BODY, 400),
        (head(_POST, _JSON, "Transfer-Encoding: identity", _LENGTH) + _BODY, 400),
        (head(_POST, _JSON, "Transfer-Encoding: gzip, chunked") + _CHUNKED, 400),
        (head(_POST, _JSON, "Transfer-Encoding: chunked, chunked") + _CHUNKED, 400),
        (head(_POST, _JSON, _TE, _TE) + _CHUNKED, 400),
        (head(_POST, _JSON, "Transfer-Encoding : chunked", _LENGTH) + _BODY, 400),
        (head(_POST, _JSON, "Transfer-Encoding:\r\n chunked", _LENGTH) + _BODY, 400),
        (head(_POST, _JSON, _TE) + b"ffffffffffffffff\r\nabc", 408),
        (head(_POST, _JSON, "Content-Encoding: gzip, gzip", _LENGTH) + _BODY, 415),
        (head(_POST, _JSON, "Content-Encoding: \xff", _LENGTH) + _BODY, 415),
        (head(_POST, _JSON, "Content-Type: text/plain", _LENGTH) + _BODY, 415),
        (head(_POST, _JSON, "Idempotency-Key: \xff", _LENGTH) + _BODY, 400),
        (head("GET /healthz\0 HTTP/1.1"), 400),
        (head("GET /v1/events/%00?entity=door-1 HTTP/1.1"), 404),
        (head("GET /v1/events/%ff%fe?entity=door-1 HTTP/1.1"), 404),
        (head("GET /v1/events/\xff?entity=door-1 HTTP/1.1"), 400),
        (head("GET /v1/events?entity=%00 HTTP/1.1"), 422),
        (head("GET /v1/events?entity=a&entity=b HTTP/1.1"), 422),
        (head("GET /v1/events HTTP/1.1", "X-A: a\0b"), 400),
        (head("GET /v1/events?entity=" + "a" * 60_000 + " HTTP/1.1"), 422),
        (head("GET /" + "a" * 70_000 + " HTTP/1.1"), 414),
        (head("GET /healthz HTTP/1.1", *[f"X-{number}: 1" for number in range(2_000)]), 431),
        (head("GET /healthz HTTP/1.1", "X-Big: " + "a" * 1_000_000), 431),
        (head("FROB /v1/events HTTP/1.1"), 400),
        (head("A" * 5_000 + " /v1/events HTTP/1.1"), 400),
        (head("PATCH /v1/events HTTP/1.1"), 405),
        (head("TRACE /v1/events HTTP/1.1"), 405),
        (head("CONNECT x:80 HTTP/1.1"), 404),
        (head("GET /../../etc/passwd HTTP/1.1"), 404),
        (head("GET /healthz HTTP/2.0"), 400),
        (b"GET /healthz\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", CLOSED),
        (b"\x16\x03\x01\x00\xa5\x01\x00" + b"x" * 200, 400),
        (head(_POST, _JSON)[:-4], CLOSED),
    ],
)
def test_what_is_wrong_is_refused(served: Served, sink: MemorySink, sent: bytes, status: int) -> None:
    """A problem document, or, where the server itself cannot read the head, a bare status and the connection's end."""
    before = _taken(sink)
    answer = one(served.port, sent)
    assert answer.status == status
    if answer.body:
        assert answer.headers["content-type"] == "application/problem+json"
    else:
        assert answer.status == CLOSED or answer.headers["connection"] == "close"
    assert _taken(sink) == before


@pytest.mark.parametrize("framing", ["zz", "fffffffffffffffff", "5;" + "a" * 100_000, "-1"])
def test_a_chunk_that_cannot_be_read_ends_the_connection(
    served: Served, sink: MemorySink, framing: str
) -> None:
    """The server says so itself, and reads nothing more of that connection."""
    before = _taken(sink)
    sent = head(_POST, _JSON, _TE) + f"{framing}\r\n".encode() + _BODY + head("GET /healthz HTTP/1.1")
    assert [answer.status for answer in ask(served.port, sent, 3)] in ([], [400], [500])
    assert _taken(sink) == before


@pytest.mark.parametrize("order", [1, -1])
def test_a_length_beside_chunks_smuggles_no_second_request(
    served: Served, sink: MemorySink, order: int
) -> None:
    """The chunks count, and the connection closes: what follows, whoever sent it, is no request."""
    before = _taken(sink)
    smuggled = head(_POST, _JSON, _LENGTH) + _BODY
    answers = ask(
        served.port, head(_POST, _JSON, *["Content-Length: 4", _TE][::order]) + _CHUNKED + smuggled, 3
    )
    assert [answer.status for answer in answers] == [202]
    assert answers[0].headers["connection"] == "close"
    assert _taken(sink) == before + 1


def test_what_is_odd_but_right_is_answered(served: Served) -> None:
    """HTTP/1.0, absolute targets, pipelining, `Expect: 100-continue`, bare line feeds."""
    port, ok = served.port, head(_POST, _JSON, _LENGTH)
    assert one(port, head("GET /healthz HTTP/1.0")).status == 200
    assert one(port, ok.replace(b"HTTP/1.1", b"HTTP/1.0") + _BODY).status == 202
    assert one(port, head("GET http://elsewhere/healthz HTTP/1.1")).status == 200
    assert [each.status for each in ask(port, (ok + _BODY) * 5, 5)] == [202] * 5
    assert one(port, head(_POST, _JSON, _LENGTH, "Expect: 100-continue") + _BODY).status == 202
    assert one(port, ok.replace(b"\r\n", b"\n") + _BODY).status == 202


@pytest.mark.parametrize(
    "packed", [gzip.compress(b"0" * 30_000_000), gzip.compress(gzip.compress(_BODY))], ids=["zeros", "twice"]
)
def test_a_bomb_is_inflated_once_and_to_its_limit(served: Served, sink: MemorySink, packed: bytes) -> None:
    """A large one is too large; a gzip in a gzip is no event."""
    before = _taken(sink)
    length = f"Content-Length: {len(packed)}"
    answer = one(served.port, head(_POST, _JSON, "Content-Encoding: gzip", length) + packed)
    assert (answer.status, answer.code) in {(413, "too_large"), (400, "all_refused")}
    assert _taken(sink) == before


def test_random_bytes_stop_nobody(served: Served, sink: MemorySink) -> None:
    """Noise, and good requests with some bytes changed: after two thousand of them the server answers as before."""
    chance, good, before = random.Random(7), head(_POST, _JSON, _LENGTH) + _BODY, _taken(sink)
    changed_at = 0
    for number in range(2_000):
        if number % 2:
            sent = chance.randbytes(chance.randrange(1, 400))
        else:
            broken = bytearray(good)
            for _ in range(3):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            sent = bytes(broken)
            changed_at += 1
        _throw(served.port, sent)
    assert one(served.port, good).status == 202
    assert _taken(sink) - before <= changed_at + 1


def _throw(port: int, sent: bytes) -> None:
    """Send and hang up."""
    with connect(port) as connection:
        connection.sendall(sent)


def test_a_connection_that_was_refused_can_go_on(served: Served) -> None:
    """A refusal after the whole body was read leaves the connection open for the next request."""
    client = HTTPConnection("127.0.0.1", served.port, timeout=20)
    for _ in range(3):
        client.request("POST", "/v1/events", b"[]", {"X-Tenant": "demo", "Content-Type": "application/json"})
        answer = client.getresponse()
        assert (answer.status, answer.read()[:1]) == (400, b"{")
    client.close()
