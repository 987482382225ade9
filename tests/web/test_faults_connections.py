"""Clients that hold on to what they have: slow heads, slow and endless bodies, thousands of idle connections.

While they do, another client is served, and the memory of the process stays within what its settings say.
"""

import os
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pipeline.machine.processes import wait_until
from tests.web.doors import MemorySink, make_door, web_settings
from tests.web.serving import Served, event, serving
from tests.web.wire import CLOSED, connect, head, memory_bytes, one, replies

_POST = ("POST /v1/events HTTP/1.1", "Content-Type: application/json")
_MIB = 2**20
_STORM = os.environ.get("WEB_STORM")
_IDLE = 10_000 if _STORM else 1_000
_SPARE = 200  # descriptors that a test needs beside its connections


@pytest.fixture
def served() -> Iterator[Served]:
    """A server whose connections may be silent for a second, and its requests take two."""
    web = {
        "idle_seconds": 1,
        "deadline_seconds": 2,
        "max_body_bytes": 8 * _MIB,
        "max_buffer_bytes": 16 * _MIB,
    }
    with serving(make_door(MemorySink(), web_settings(web=web))) as found:
        yield found


def _is_served(served: Served) -> None:
    with served.client() as client:
        assert client.post("/v1/events", json=event()).status_code == 202


@contextmanager
def _drip(port: int, count: int, start: bytes) -> Iterator[list[socket.socket]]:
    with ExitStack() as stack:
        found = [stack.enter_context(connect(port)) for _ in range(count)]
        _drop(found, start)
        yield found


def _drop(connections: list[socket.socket], drop: bytes) -> int:
    """Send a little on each; return how many still take it."""
    taken = 0
    for connection in connections:
        try:
            connection.sendall(drop)
            taken += 1
        except OSError:
            pass
    return taken


def test_heads_that_drip_are_closed(served: Served) -> None:
    """However often a byte comes, a head has `web.idle_seconds`; others are served meanwhile."""
    with _drip(served.port, 50, head(*_POST)[:-2]) as slow:
        for _ in range(8):
            _drop(slow, b"X-A: b\r\n")
            _is_served(served)
            time.sleep(0.3)  # the server's own timer, in real time
        assert {len(replies(connection)) for connection in slow} == {0}


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked"])
def test_bodies_that_drip_are_answered_at_the_deadline(served: Served, framing: str) -> None:
    """408 to each after `web.deadline_seconds`, and its connection closes; others are served meanwhile."""
    with _drip(served.port, 50, head(*_POST, framing)) as slow:
        for _ in range(10):
            _drop(slow, b"1\r\n{\r\n")
            _is_served(served)
            time.sleep(0.25)  # as above
        answers = [replies(connection) for connection in slow]
    assert {tuple(one.status for one in each) for each in answers} == {(408,)}
    assert {each[0].headers["connection"] for each in answers} == {"close"}


def test_a_body_without_end_is_too_large(served: Served) -> None:
    """413 once it passes `web.max_body_bytes`; the rest is not read."""
    chunk = b"100000\r\n" + b" " * _MIB + b"\r\n"

    def endless() -> Iterator[bytes]:
        yield head(*_POST, "Transfer-Encoding: chunked")
        for _ in range(64):
            yield chunk

    answer = one(served.port, endless())
    assert answer.status in (
        413,
        CLOSED,
    )  # a client that goes on sending may see the end instead of the answer
    _is_served(served)


def test_bodies_of_all_requests_together_are_bounded(served: Served) -> None:
    """40 requests of 6 MiB of blanks, held open: the memory grows by no more than the room set aside, the others get 503."""
    before_bytes = memory_bytes()
    begun = head(*_POST, f"Content-Length: {6 * _MIB + 1}") + b" " * (6 * _MIB)
    with _drip(served.port, 40, begun) as held:
        _is_small_served(served)
        grown_bytes = memory_bytes() - before_bytes
        answers = [each for connection in held for each in replies(connection)]
    assert {each.code for each in answers} <= {"request_timeout", "busy"}
    assert [each.code for each in answers].count("request_timeout") in (1, 2, 3)
    assert grown_bytes < 100 * _MIB


def _is_small_served(served: Served) -> None:
    with served.client() as client:
        assert client.get("/healthz").status_code == 200


@pytest.fixture
def descriptors() -> Iterator[int]:
    """How many connections the limits of this machine allow this test: both ends are in one process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * _IDLE + _SPARE
    allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))
    yield min(_IDLE, (max(soft, allowed) - _SPARE) // 2)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_idle_connections_cost_little(descriptors: int) -> None:
    """Thousands of connections that say nothing: another client is served, each costs kilobytes, and all are closed."""
    if descriptors < _IDLE:
        print(f"*** only {descriptors} of {_IDLE} connections: raise the limit of open files (ulimit -n) ***")
    with (
        serving(
            make_door(MemorySink(), web_settings(web={"idle_seconds": 60, "max_connections": 16_384}))
        ) as served,
        ExitStack() as stack,
    ):
        _is_served(served)
        before_bytes = memory_bytes()
        idle = [stack.enter_context(connect(served.port)) for _ in range(descriptors)]
        for _ in range(10):
            _is_served(served)
        assert memory_bytes() - before_bytes < descriptors * 40_000 + 10 * _MIB
        idle[0].sendall(head("GET /healthz HTTP/1.1"))
        assert replies(idle[0])[0].status == 200


_FIRST_ROUNDS = 8  # in which the heap grows to what one round needs: level from the eighth on
_ROUNDS = 200 if _STORM else 6
_AT_ONCE = 1_000  # of ten thousand at once, how many the server still holds when the next come varies: 100 MB
_FILES = Path("/proc/self/fd")
_REST_SECONDS = 300.0 if _STORM else 2.0
_BREATH_BYTES = 5 * _MIB  # of a heap that is level: 3 were seen


def _come_and_go(port: int, count: int) -> None:
    """Open so many connections and close them: silent, in the middle of a head, of a body, after an answer, or unread."""
    begun = head(*_POST, "Content-Length: 100") + b"{"
    sends = (b"", head(*_POST)[:-2], begun, head("GET /healthz HTTP/1.1"))
    with ExitStack() as stack:
        for number in range(count):
            connection = stack.enter_context(connect(port))
            connection.sendall(sends[number % len(sends)])
            if number % 8 == 3:
                assert connection.recv(12) == b"HTTP/1.1 200"


def _open_files() -> int:
    return sum(1 for _ in _FILES.iterdir())


def test_connections_that_come_and_go_leave_nothing(descriptors: int) -> None:
    """A thousand at a time, cut off wherever they are, again and again: descriptors and memory are those of before."""
    if not _FILES.is_dir():
        pytest.skip("open files are counted in /proc, which this machine has not: run it on Linux")
    door = make_door(MemorySink(), web_settings(web={"idle_seconds": 1, "deadline_seconds": 2}))
    count = min(descriptors, _AT_ONCE)
    with serving(door) as served:
        _is_served(served)
        files = _open_files()
        for _ in range(_FIRST_ROUNDS):
            _come_and_go(served.port, count)
        assert wait_until(lambda: _open_files() <= files, 20), (files, _open_files())
        before_bytes = memory_bytes()
        for _ in range(_ROUNDS):
            _come_and_go(served.port, count)
        assert wait_until(lambda: _open_files() <= files, 20), (files, _open_files())
        time.sleep(_REST_SECONDS)  # of silence
        _is_served(served)
        assert wait_until(lambda: _open_files() <= files, 20), (files, _open_files())
        assert memory_bytes() - before_bytes < _BREATH_BYTES
