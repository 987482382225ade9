"""The end of a server under load: what was answered 202 is in the stream, and what was read is answered."""

import asyncio
import re
import socket
import threading
import time
from pathlib import Path

import httpx
import orjson
import pytest

from pipeline.core import ending
from pipeline.core.errors import NotFound
from pipeline.core.kpl import split
from pipeline.facts import ApiDrained
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.ports.clock import SystemClock
from pipeline.ports.limits import AccountKey
from pipeline.web import serve
from pipeline.wiring.front_door import FrontDoor
from tests.fakes.facts import FactList
from tests.fakes.limits import MemoryLimits
from tests.web.doors import MemorySink, OpenGate, make_door, web_settings
from tests.web.serving import Served, event, lines, serving

_CLIENTS = 8


def _ids(sink: MemorySink) -> set[str]:
    return {orjson.loads(part)["event_id"] for record in sink.records for part in split(record.data)}


def _drained(door: FrontDoor) -> list[ApiDrained]:
    assert isinstance(door.facts, FactList)
    return [one for one in door.facts.told if isinstance(one, ApiDrained)]


def _send_until_refused(served: Served, name: str, told: list[str], broken: list[str]) -> None:
    number = 0
    with httpx.Client(base_url=served.url, headers={"X-Tenant": "demo"}, timeout=20) as client:
        while True:
            number += 1
            body = lines(*(event(event_id=f"{name}-{number}-{part}") for part in range(3)))
            try:
                answer = client.post(
                    "/v1/events", content=body, headers={"Content-Type": "application/x-ndjson"}
                )
            except httpx.ConnectError:
                return  # nobody listens any more
            except httpx.TransportError as exc:
                broken.append(f"{name}-{number}: {exc!r}")
                return
            assert answer.status_code == 202, answer.text
            told += [one["event_id"] for one in answer.json()["events"]]


@pytest.mark.parametrize("slow_seconds", [0.0, 0.05])
def test_an_end_under_load_loses_nothing_that_was_acknowledged(slow_seconds: float) -> None:
    """Every id of a 202 is in the stream, whatever the moment of the stop; a repeated stop changes nothing."""
    sink = MemorySink()
    sink.before = lambda: time.sleep(slow_seconds)
    door = make_door(sink, web_settings(web={"linger_ms": 2}))
    told: list[str] = []
    broken: list[str] = []
    with serving(door) as served:
        threads = [
            threading.Thread(target=_send_until_refused, args=(served, f"c{number}", told, broken))
            for number in range(_CLIENTS)
        ]
        for thread in threads:
            thread.start()
        while len(told) < 200:
            time.sleep(0.01)
        served.ask_to_stop()
        for thread in threads:
            thread.join()
        served.join()
    assert served.ended is True
    assert set(told) <= _ids(sink)
    # A connection that is closed while the next request is on its way was never read by anybody.
    assert all(name.split(":")[0] + "-0" not in _ids(sink) for name in broken), broken
    assert [one.lost for one in _drained(door)] == [0]


def test_a_request_that_was_read_is_answered_after_the_stop() -> None:
    """The stream answers only after the stop was asked for; the client has its 202 before the connection closes."""
    sink, asked = MemorySink(), threading.Event()

    def held() -> None:
        asked.wait(20)
        time.sleep(0.2)  # the stop is under way by then

    sink.before = held
    answers: list[int] = []
    with serving(make_door(sink)) as served:

        def send() -> None:
            with served.client() as client:
                answers.append(client.post("/v1/events", json=event()).status_code)

        thread = threading.Thread(target=send)
        thread.start()
        while not served.door.ingest.waiting():
            time.sleep(0.01)
        served.ask_to_stop()
        asked.set()
        thread.join()
        served.join()
    assert (answers, served.ended) == ([202], True)


def test_idle_and_half_open_connections_do_not_hold_up_the_end() -> None:
    """One that sent nothing, one that waits between requests, one whose head breaks off: closed, and the server ends."""
    door = make_door(MemorySink(), web_settings(web={"idle_seconds": 1, "deadline_seconds": 2}))
    with serving(door) as served:
        silent = socket.create_connection(("127.0.0.1", served.port))
        half = socket.create_connection(("127.0.0.1", served.port))
        half.sendall(b"POST /v1/events HTTP/1.1\r\nHost:")
        with served.client() as between:
            assert between.post("/v1/events", json=event()).status_code == 202
            served.ask_to_stop()
            served.join()
        silent.close()
        half.close()
    assert served.ended is True


def test_an_end_that_takes_a_while_is_no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """That its own producer is closed by then is how a process ends in order, however often it looks for faults."""
    monkeypatch.setattr(serve, "_TALLY_SECONDS", 0.005)
    door = make_door(MemorySink())
    close = door.ingest.close

    def slow(seconds: float) -> bool:
        done = close(seconds)
        time.sleep(0.1)  # some twenty looks
        return done

    monkeypatch.setattr(door.ingest, "close", slow)
    with serving(door) as served, served.client() as client:
        assert client.post("/v1/events", json=event()).status_code == 202
    assert (served.ended, served.error) == (True, None)


def test_a_stream_that_is_gone_ends_the_process() -> None:
    """What was taken is answered as open, and the error says why: whoever keeps the process alive starts it again."""
    sink = MemorySink()

    def gone() -> None:
        raise NotFound("stream events does not exist")

    sink.before = gone
    with serving(make_door(sink)) as served, served.client() as client:
        answer = client.post("/v1/events", json=event())
        served.join()
    assert (answer.status_code, answer.json()["events"][0]["status"]) == (503, "retry")
    assert "stream events does not exist" in str(served.error)


def test_at_the_end_what_was_not_used_is_given_back() -> None:
    """Of the plan's leases only the requests that were made are used, however large the leases were."""
    store, clock = MemoryLimits(), SystemClock()
    limiter = Limiter(Leases(store, clock, FactList()), clock, 2**20)
    with serving(make_door(MemorySink(), limiter=limiter)) as served, served.client() as client:
        answers = [client.post("/v1/events", json=event()) for _ in range(3)]
        assert {one.status_code for one in answers} == {202}
        leased = store.accounts[AccountKey("demo", "plan")].used
        served.ask_to_stop()
        served.join()
    assert leased > store.accounts[AccountKey("demo", "plan")].used == 3


class _HangingGate(OpenGate):
    """The control store does not take the last uses of keys."""

    async def close(self) -> None:
        """Never return."""
        await asyncio.Event().wait()


class _HangingLimiter(Limiter):
    """The table of limits does not take leases back."""

    def __init__(self, ends: threading.Event) -> None:
        clock = SystemClock()
        super().__init__(Leases(MemoryLimits(), clock, FactList()), clock, 2**20)
        self._ends = ends

    def close(self) -> None:
        """Return at the end of the test."""
        self._ends.wait(60)


def test_an_end_comes_whatever_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stream, control store and table of limits hang: each phase has its time, and what is lost is told."""
    for phase in ("ANSWERS_SECONDS", "DECISIONS_SECONDS", "EVENTS_SECONDS", "ACCOUNTS_SECONDS"):
        monkeypatch.setattr(ending, phase, 0.1)
    sink, ends = MemorySink(), threading.Event()

    def hang() -> None:
        ends.wait(60)

    sink.before = hang
    door = make_door(sink, web_settings(web={"deadline_seconds": 1}), limiter=_HangingLimiter(ends))
    try:
        with serving(door, _HangingGate()) as served, served.client() as client:
            assert client.post("/v1/events", json=event()).status_code == 503
            served.ask_to_stop()
            served.join()
    finally:
        ends.set()
    assert served.ended is False
    assert [one.lost for one in _drained(door)] == [1]


def test_the_longest_end_is_the_sum_of_its_phases() -> None:
    """Each phase is in it, and the documents name the same number."""
    phases = [value for name, value in vars(ending).items() if name.endswith("_SECONDS")]
    assert ending.longest_end_seconds(25.0) == 25.0 + sum(phases) + ending.ACCOUNTS_SECONDS  # of two kinds
    more = ending.longest_end_seconds(0.0)
    text = (Path(__file__).parents[2] / "docs" / "http.md").read_text(encoding="utf-8")
    assert re.findall(r"`web\.deadline_seconds` and (\d+) seconds more", text) == [f"{more:g}"]
