"""DynamoDB fails under the real API while clients send: who needs it is told so, the others go on, nothing is lost or doubled."""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from pipeline.core.audit import Report
from pipeline.machine.processes import wait_until
from tests.aws.backends import ministack
from tests.e2e.api_yard import ApiYard, body
from tests.e2e.yard import PATIENCE, archived
from tests.faults.plan import Fault
from tests.faults.proxy import FaultProxy, Moment, fault_proxy
from tests.faults.wire import Request, failures

pytestmark = [pytest.mark.stack, pytest.mark.slow]

_BAD_SECONDS = 20.0 if os.environ.get("WEB_STORM") else 5.0  # of each kind of trouble
_DEADLINE_SECONDS = 6  # a limiter whose table begins to hang knows so after four seconds
_PATIENCE_SECONDS = (
    3 * _BAD_SECONDS + PATIENCE
)  # of a client: the trouble of each kind, and what comes after it
_KEYED, _PLAIN = 24, 4  # more that wait for the table than the API has threads


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxy]:
    """An emulator behind a proxy."""
    with ministack(tmp_path_factory.mktemp("stack") / "home") as endpoint, fault_proxy(endpoint) as found:
        yield found


class _Trouble:
    """Makes DynamoDB fail in one way at a time; the other services never do."""

    def __init__(self, proxy: FaultProxy) -> None:
        self._proxy, self._kind, self._free = proxy, "", threading.Event()
        self._turn = 0
        proxy.plan, proxy.tap = self._plan, self._hold

    def begin(self, kind: str) -> None:
        self._free.clear()
        self._kind = kind

    def end(self) -> None:
        self._kind = ""
        self._free.set()

    def _plan(self, request: Request) -> Fault | None:
        if request.service != "dynamodb" or not self._kind:
            return None
        self._turn += 1
        if self._kind == "resets":  # every second call was done before its connection broke
            return Fault("reset", forwards=self._turn % 2 == 0, cut_bytes=0)
        if self._kind == "500s":
            return Fault("fail", forwards=self._turn % 2 == 0, answer=failures(request)[0])
        return None

    def _hold(self, request: Request, moment: Moment) -> bool:
        """Keep a call until the trouble is over; then it is done, long after its client has given up."""
        if self._kind == "hangs" and moment == "before" and request.service == "dynamodb":
            self._free.wait(PATIENCE)
        return False


class _Client(threading.Thread):
    """Sends one event after the other, each until it is taken; with a key and without an id, or the other way round."""

    def __init__(self, yard: ApiYard, name: str, stop: threading.Event, *, keyed: bool) -> None:
        super().__init__()
        self._yard, self._name, self._stop_asked, self._keyed = yard, name, stop, keyed
        self.ids: list[str] = []
        self.refusals: Counter[tuple[int, str]] = Counter()
        self.odd: list[str] = []

    def run(self) -> None:
        number = 0
        with self._yard.client(4 * _DEADLINE_SECONDS) as client:
            while not self._stop_asked.is_set() and not self.odd:
                number += 1
                self._send(client, f"{self._name}-{number}")
                time.sleep(0.05)

    def _send(self, client: httpx.Client, name: str) -> None:
        ends = time.monotonic() + _PATIENCE_SECONDS
        event, headers = body(event_id=name, entity_id=self._name), {}
        if self._keyed:
            del event["event_id"]
            headers = {"Idempotency-Key": name}
        while time.monotonic() < ends:
            try:
                answer = client.post("/v1/events", json=event, headers=headers)
            except httpx.TransportError as exc:
                self.odd.append(f"{name}: {exc!r}")
                return
            if answer.status_code == httpx.codes.ACCEPTED:
                self.ids += [one["event_id"] for one in answer.json()["events"]]
                return
            self._refused(answer)
            time.sleep(0.2)  # Retry-After says seconds; this client presses on
        self.odd.append(f"{name} was not taken within {_PATIENCE_SECONDS} seconds")

    def _refused(self, answer: httpx.Response) -> None:
        problem = answer.headers.get("Content-Type") == "application/problem+json"
        wait = answer.headers.get("Retry-After", "")
        if not problem or answer.status_code not in (409, 429, 503) or not wait.isdecimal():
            self.odd.append(f"{answer.status_code} {answer.headers} {answer.text}")
            return
        self.refusals[answer.status_code, answer.json()["code"]] += 1


@pytest.mark.parametrize("store_down", ["open", "closed"])
def test_tables_that_fail_under_load(
    tmp_path: Path, proxy: FaultProxy, store_down: str, request: pytest.FixtureRequest
) -> None:
    """Refusals are 503 with Retry-After, what was acknowledged is archived once; `open`, events without a key go on all the while."""
    more = {
        "HEADRACE_WEB__DEADLINE_SECONDS": str(_DEADLINE_SECONDS),
        "HEADRACE_LIMITS__STORE_DOWN": store_down,
    }
    yard, trouble, stop = ApiYard(tmp_path, proxy, **more), _Trouble(proxy), threading.Event()
    keyed = [_Client(yard, f"k{number}", stop, keyed=True) for number in range(_KEYED)]
    plain = [_Client(yard, f"p{number}", stop, keyed=False) for number in range(_PLAIN)]
    taken: dict[str, tuple[int, int]] = {}
    request.addfinalizer(yard.kill_all)
    yard.start()
    try:
        for client in (*keyed, *plain):
            client.start()
        _all_go_on(keyed, plain)
        for kind in ("hangs", "resets", "500s"):
            before = _taken(keyed), _taken(plain)
            trouble.begin(kind)
            time.sleep(_BAD_SECONDS)  # in which the clients press on
            taken[kind] = _taken(keyed) - before[0], _taken(plain) - before[1]
        trouble.end()
        _all_go_on(keyed, plain)
    finally:
        trouble.end()
        stop.set()
        for client in (*keyed, *plain):
            client.join()
    print(_BAD_SECONDS, taken, _refusals(keyed), _refusals(plain))
    assert [client.odd for client in (*keyed, *plain)] == [[]] * (_KEYED + _PLAIN)
    if store_down == "open":
        assert _refusals(plain) == Counter()
        assert all(while_bad > 0 for _, while_bad in taken.values())
    _all_archived_once(yard, [one for client in (*keyed, *plain) for one in client.ids])


def _all_go_on(*groups: list[_Client]) -> None:
    """Wait until every client has been answered 202 a few times more: all by itself, nobody helps."""
    for client in [one for group in groups for one in group]:
        assert wait_until(partial(_goes_on, client, len(client.ids)), PATIENCE)


def _goes_on(client: _Client, before: int) -> bool:
    return bool(client.odd) or len(client.ids) >= before + 3


def _refusals(clients: list[_Client]) -> Counter[tuple[int, str]]:
    return sum((client.refusals for client in clients), Counter())


def _taken(clients: list[_Client]) -> int:
    return sum(len(client.ids) for client in clients)


def _all_archived_once(yard: ApiYard, ids: list[str]) -> None:
    assert wait_until(lambda: yard.committed() >= len(ids), PATIENCE)
    yard.end()
    originals, flagged, refused = archived(yard)
    assert originals == Counter(ids)
    assert (flagged, refused) == (Counter(), Counter())
    report: Report = yard.audit()
    assert report.balanced, report.differences
