"""Memory for bodies that many requests share, over real connections: each is answered, and none keeps what it held."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.web.doors import MemorySink, make_door, web_settings
from tests.web.serving import Served, event, lines, serving

_HEAD = "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Tenant: demo\r\nContent-Type: application/x-ndjson\r\n"
_PIECE = 50_000
_SECONDS = 20.0


@pytest.fixture
def served() -> Iterator[Served]:
    """Return a server with room for 1 MiB of bodies."""
    settings = web_settings(web={"max_buffer_bytes": 2**20, "deadline_seconds": 2})
    with serving(make_door(MemorySink(), settings)) as running:
        yield running


def _body(size: int) -> bytes:
    """Return one event behind so many blanks."""
    return b" " * size + b"\n" + lines(event())


def _ask(served: Served, body: bytes, sent: int, *, breaks_off: bool = False) -> int:
    """Send the first bytes of a body, piece by piece; return the status, 0 where the connection ended without."""
    with socket.create_connection(("127.0.0.1", served.port), timeout=_SECONDS) as connection:
        try:
            connection.sendall(f"{_HEAD}Content-Length: {len(body)}\r\n\r\n".encode())
            for at in range(0, sent, _PIECE):
                connection.sendall(body[at : min(at + _PIECE, sent)])
            if breaks_off:
                return 0
        except ConnectionError:
            pass  # refused while it was sent: the answer is there
        try:
            return int((connection.recv(65_536) or b"HTTP/1.1 0 ").split(b" ", 2)[1])
        except ConnectionError:
            return 0


def _ask_alone(served: Served) -> int:
    """Return the status of a body larger than the room; refused while anything else is held."""
    body, until, status = _body(3 * 2**19), time.monotonic() + _SECONDS, 0
    while status != 202 and time.monotonic() < until:  # those that broke off are noticed soon
        status = _ask(served, body, len(body))
    return status


def test_bodies_that_grow_at_once_are_all_answered_and_leave_the_room_empty(served: Served) -> None:
    """Whole bodies are taken or refused as busy, one that stops is told so, one that breaks off is forgotten."""
    body, answers = _body(300_000), Counter[tuple[str, int]]()

    def client(kind: str) -> None:
        sent = len(body) if kind == "whole" else 200_000
        for _ in range(1 if kind == "stops" else 5):
            answers[kind, _ask(served, body, sent, breaks_off=kind == "breaks off")] += 1

    kinds = ("whole", "whole", "stops", "whole", "breaks off", "whole", "stops", "whole")
    threads = [threading.Thread(target=client, args=(kind,)) for kind in kinds]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS)
        assert not thread.is_alive()
    assert set(answers) <= {
        ("whole", 202),
        ("whole", 503),
        ("whole", 0),  # the refusal was lost: what we still sent met a closed connection
        ("stops", 408),
        ("stops", 503),
        ("breaks off", 0),
    }
    assert _ask_alone(served) == 202


def test_of_two_bodies_either_may_be_refused_and_the_other_goes_on(served: Served) -> None:
    """Whichever comes upon the end of the room is told so: a large body that came first has no claim to it."""
    large, small = _body(900_000), _body(300_000)
    with socket.create_connection(("127.0.0.1", served.port), timeout=_SECONDS) as holding:
        holding.sendall(f"{_HEAD}Content-Length: {len(large)}\r\n\r\n".encode() + large[:800_000])
        status = _ask(served, small, len(small))
        assert status in (202, 503)
        if status == 503:
            holding.sendall(large[800_000:])
            assert holding.recv(65_536).startswith(b"HTTP/1.1 202")
    assert _ask_alone(served) == 202
