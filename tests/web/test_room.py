"""Memory for bodies that many requests share, over real connections: each is answered, none keeps what it held, and no tenant fills it."""

import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from pipeline.machine.processes import wait_until
from pipeline.web.entry import Room
from tests.web.doors import MemorySink, make_door, web_settings
from tests.web.serving import Served, event, lines, serving

_HEAD = "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Tenant: demo\r\nContent-Type: application/x-ndjson\r\n"
_CHUNKED = f"{_HEAD}Transfer-Encoding: chunked\r\n\r\n".encode()
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


def test_bodies_of_one_tenant_leave_room_for_another(served: Served) -> None:
    """A tenant that holds bodies open without end is refused at half of the room; another one's events go on."""
    with ExitStack() as held:

        def one_more_is_refused() -> bool:
            connection = held.enter_context(socket.create_connection(("127.0.0.1", served.port), _SECONDS))
            with suppress(ConnectionError):  # refused meanwhile
                connection.sendall(_CHUNKED + b"186a0\r\n" + b" " * 100_000)
            return _ask(served, _body(40_000), 41_000) == 503

        assert wait_until(one_more_is_refused, _SECONDS)
        with served.client("other") as client:
            answers = [client.post("/v1/events", json=event(tenant_id="other")) for _ in range(20)]
    assert {one.status_code for one in answers} == {202}
    assert _ask_alone(served) == 202


@pytest.mark.parametrize("others", [0, 1, 2, 5])
def test_each_tenant_may_hold_as_much_as_is_free_besides(others: int) -> None:
    """Of several that take what they can get, each has the same; half of what is left is there for the next one."""
    room, names = Room(60_000), [f"tenant-{number}" for number in range(others + 1)]
    takes = set(names)
    while takes:
        for name in sorted(takes):
            if not room.hold(name, 10):
                room.let_go(name, 10)
                takes.remove(name)
    share = room.max_bytes // (len(names) + 1)
    assert all(abs(room.by_tenant[name] - share) <= 10 * len(names) for name in names)
    assert room.hold("another", share // 2 - 10 * len(names))


def test_a_room_forgets_tenants_that_hold_nothing() -> None:
    """Many tenants come and go."""
    room = Room(1_000)
    for number in range(100):
        assert room.hold(f"tenant-{number}", 400)
        room.let_go(f"tenant-{number}", 400)
    assert (room.used_bytes, room.by_tenant) == (0, {})
