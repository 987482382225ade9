"""A stream that throttles, and stores that are down: every route answers as documented, and no 202 is a lie."""

import os
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest

from pipeline.core.errors import Transient
from pipeline.core.kpl import split
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.machine.processes import wait_until
from pipeline.ports.stream import OutgoingRecord, PutAnswer
from tests.web.doors import MemorySink, make_door, web_settings
from tests.web.serving import Served, event, lines, serving
from tests.web.whole import Whole
from tests.web.wire import memory_bytes

_SECONDS = 60.0 if os.environ.get("WEB_STORM") else 3.0  # of throttling
_MIB = 2**20
_LINES = {"Content-Type": "application/x-ndjson"}
_CLIENTS = 8


class ThrottlingSink(MemorySink):
    """Takes three calls, then refuses every record until it is let go; after that one in four is refused once more."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.open, self.ids = 0, threading.Event(), set[str]()

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Keep what is not refused."""
        self.calls += 1
        if self.calls > 3 and not self.open.is_set():
            return [PutAnswer("", "", "ProvisionedThroughputExceededException") for _ in records]
        kept = [number % 4 != 0 or self.calls % 2 == 0 for number in range(len(records))]
        taken = [one for one, keep in zip(records, kept, strict=True) if keep]
        self.ids |= {orjson.loads(part)["event_id"] for one in taken for part in split(one.data)}
        answers = iter(super().put(taken))
        refused = PutAnswer("", "", "ProvisionedThroughputExceededException")
        return [next(answers) if keep else refused for keep in kept]


class _Client(threading.Thread):
    """Sends batches one after the other and notes every answer."""

    def __init__(self, served: Served, sink: ThrottlingSink, name: str, until: threading.Event) -> None:
        super().__init__()
        self._sink = sink
        self.untrue: list[str] = []  # told to be accepted, and not in the stream at that moment
        self._served, self._name, self._until = served, name, until
        self.accepted: list[str] = []
        self.refusals: list[tuple[str, str]] = []  # Retry-After and code
        self.statuses: set[int] = set()

    def run(self) -> None:
        """Send until told to stop; by a client that leaves no cycles, for memory is measured meanwhile."""
        number, client = 0, HTTPConnection("127.0.0.1", self._served.port, timeout=20)
        with closing(client):
            while not self._until.is_set():
                number += 1
                batch = [event(event_id=f"{self._name}-{number}-{part}") for part in range(200)]
                client.request("POST", "/v1/events", lines(*batch), {**_LINES, "X-Tenant": "demo"})
                answer = client.getresponse()
                said = orjson.loads(answer.read())
                self.statuses.add(answer.status)
                if answer.status == 503:
                    self.refusals.append((answer.headers["Retry-After"], said["code"]))
                    self._until.wait(0.05)  # Retry-After says seconds; this client presses on
                for one in said.get("events", []):
                    if one["status"] == "accepted":
                        self.accepted.append(one["event_id"])
                        self.untrue += [] if one["event_id"] in self._sink.ids else [one["event_id"]]


def test_a_stream_that_throttles_is_told_and_loses_nothing() -> None:
    """503 with Retry-After while it is busy, 202 again after; every acknowledged id is in the stream."""
    sink, stop = ThrottlingSink(), threading.Event()
    settings = web_settings(web={"deadline_seconds": 1})
    door = make_door(sink, settings, max_buffer_bytes=_MIB)
    with serving(door) as served:
        clients = [_Client(served, sink, f"c{number}", stop) for number in range(_CLIENTS)]
        before_bytes = memory_bytes()
        for client in clients:
            client.start()
        time.sleep(_SECONDS)  # the stream's bad time, in which the clients press on
        with served.client() as other:
            assert other.get("/healthz").status_code == 200
        grown_bytes = memory_bytes() - before_bytes
        sink.open.set()
        with served.client() as after:
            assert wait_until(lambda: after.post("/v1/events", json=event()).status_code == 202, 20)
        stop.set()
        for client in clients:
            client.join()
    assert grown_bytes < 20 * _MIB
    refusals = [one for client in clients for one in client.refusals]
    assert len(refusals) >= _CLIENTS
    assert set(refusals) == {("2", "busy")}
    assert set.union(*(client.statuses for client in clients)) <= {202, 207, 503}
    assert sum(len(client.accepted) for client in clients) > 0
    assert [client.untrue for client in clients] == [[]] * _CLIENTS


@pytest.fixture
def whole(tmp_path: Path) -> Whole:
    """The API, whose parts a test takes away."""
    return Whole(tmp_path, deadline_seconds=2)


def _ask(client: httpx.Client, method: str, path: str, **more: Any) -> tuple[int, str]:
    answer = client.request(method, path, **more)
    if answer.status_code < 400:
        return answer.status_code, ""
    assert answer.headers["Content-Type"] == "application/problem+json"
    if answer.status_code == 503:
        assert answer.headers["Retry-After"].isdecimal()
    return answer.status_code, answer.json()["code"]


_SENT = {"content": orjson.dumps({**event(), "event_type": "door.opened", "data": {"n": 1}})}
_UNAVAILABLE = (503, "unavailable")


def test_without_the_control_store_known_callers_go_on(whole: Whole) -> None:
    """A key that was seen works on; one that was not cannot be checked (503, not 401); open routes need nothing."""
    door = whole.door()
    json_type = {"Content-Type": "application/json"}
    with serving(door, whole.gate(door)) as served, served.client(None) as client:
        known, fresh = ({"X-API-Key": whole.keys[scope]} for scope in ("all", "read"))
        assert _ask(client, "POST", "/v1/events", headers=known | json_type, **_SENT)[0] == 202
        whole.control.down = True
        assert _ask(client, "POST", "/v1/events", headers=known | json_type, **_SENT)[0] == 202
        assert _ask(client, "GET", "/v1/counts", headers=known)[0] == 200
        assert _ask(client, "GET", "/v1/counts", headers=fresh) == _UNAVAILABLE
        assert _ask(client, "GET", "/healthz")[0] == 200
        whole.control.down = False
        assert _ask(client, "GET", "/v1/counts", headers=fresh)[0] == 200


class _Down:
    """Stands for a store that does not answer."""

    def __getattr__(self, name: str) -> Any:
        def call(*_given: Any, **_more: Any) -> Any:
            raise Transient(f"{name}: the tables do not answer")

        return call


def test_without_tables_writes_go_on_and_reads_say_so(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    """Events are taken; under an Idempotency-Key, where a repeat could not be seen, nothing is; reads are unavailable."""
    door = whole.door()
    key = {"X-API-Key": whole.keys["all"], "Content-Type": "application/json"}
    with serving(door, whole.gate(door)) as served, served.client(None) as client:
        assert _ask(client, "GET", "/v1/counts", headers=key)[0] == 200
        sent = len(whole.sink.records)
        for name in ("index", "manifest", "aggregates", "jobs", "days", "ledger", "receipts"):
            _take_away(monkeypatch, getattr(whole.api.town, name))
        _take_away(monkeypatch, whole.requests)
        assert _ask(client, "POST", "/v1/events", headers=key, **_SENT)[0] == 202
        assert len(whole.sink.records) == sent + 1
        again = key | {"Idempotency-Key": "k1"}
        assert _ask(client, "POST", "/v1/events", headers=again, **_SENT) == _UNAVAILABLE
        assert len(whole.sink.records) == sent + 1
        for path in (
            "/v1/events?entity=door-1",
            "/v1/events/acme-e1",
            "/v1/replays",
            "/v1/quarantine",
            "/v1/lag",
        ):
            assert _ask(client, "GET", path, headers=key) == _UNAVAILABLE, path


def _take_away(monkeypatch: pytest.MonkeyPatch, store: Any) -> None:
    for name in dir(store):
        if not name.startswith("_") and callable(getattr(store, name)):
            monkeypatch.setattr(store, name, getattr(_Down(), name))


@pytest.mark.parametrize(("store_down", "status"), [("open", 202), ("closed", 503)])
def test_without_the_limiter_the_door_is_as_configured(whole: Whole, store_down: str, status: int) -> None:
    """`limits.store_down` lets requests in, or refuses them with Retry-After."""
    town = whole.api.town
    leases = Leases(town.limits, town.clock, town.facts, store_down)  # type: ignore[arg-type]
    door = whole.door(limiter=Limiter(leases, town.clock, 2**20))
    town.limits.down = True  # type: ignore[attr-defined]
    key = {"X-API-Key": whole.keys["all"], "Content-Type": "application/json"}
    with serving(door, whole.gate(door)) as served, served.client(None) as client:
        assert _ask(client, "POST", "/v1/events", headers=key, **_SENT)[0] == status
        assert len(whole.sink.records) == (1 if status == 202 else 0)
