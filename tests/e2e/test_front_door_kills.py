"""The API under SIGKILL while clients repeat what was not answered: each event is in the archive once, unflagged."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from pipeline.machine.processes import wait_until
from pipeline.machine.restarts import LIMIT, WINDOW_SECONDS
from tests.e2e.test_front_door import EVENT, Deployment

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.xdist_group("front_door")]

_KILLS = int(os.environ.get("API_KILLS", "1"))
_CLIENTS, _BATCH = 4, 5
_PATIENCE_SECONDS = 120.0
_AGAIN = {httpx.codes.CONFLICT, httpx.codes.SERVICE_UNAVAILABLE, httpx.codes.TOO_MANY_REQUESTS}


@pytest.fixture
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A stack with its supervisor, whose requests take two seconds at most: the lock of a killed one ends soon."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    found = Deployment(tmp_path_factory.mktemp("home"))
    (found.home.path / "headrace.toml").write_text("[web]\ndeadline_seconds = 2\n")
    outside = {name: one for name, one in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))}
    command = [sys.executable, "-m", "pipeline.cli.main", "up", "--home", str(found.home.path)]
    with subprocess.Popen(
        command, env=outside, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as stack:
        assert wait_until(found.home.api_url.exists, _PATIENCE_SECONDS)
        try:
            yield found
        finally:
            stack.terminate()
            stack.wait(_PATIENCE_SECONDS)


class _Client(threading.Thread):
    """Sends batches without ids, each under its own Idempotency-Key, and again until it is answered."""

    def __init__(self, deployment: Deployment, key: dict[str, Any], name: str, stop: threading.Event) -> None:
        super().__init__()
        self._deployment, self._key, self._name, self._stop_asked = deployment, key, name, stop
        self.ids: list[str] = []
        self.again = 0
        self.receipt = ""
        self.failure = ""

    def run(self) -> None:
        """Send until told to stop; what was begun is finished."""
        number = 0
        while not self._stop_asked.is_set() and not self.failure:
            number += 1
            self._send(f"{self._name}-{number}")
            time.sleep(0.05)

    def _send(self, name: str) -> None:
        ends = time.monotonic() + _PATIENCE_SECONDS
        while time.monotonic() < ends:
            try:
                with self._deployment.client(self._key) as client:
                    sent = [EVENT] * _BATCH
                    answer = client.post("/v1/events", json=sent, headers={"Idempotency-Key": name})
            except (httpx.TransportError, OSError):
                self.again += 1
            else:
                if answer.status_code == httpx.codes.ACCEPTED:
                    self.ids += [one["event_id"] for one in answer.json()["events"]]
                    self.receipt = answer.json()["receipt"]
                    return
                if answer.status_code not in _AGAIN:
                    self.failure = f"{answer.status_code} {answer.text}"
                    return
            time.sleep(0.2)
        self.failure = f"{name} was not taken within {_PATIENCE_SECONDS} seconds"


def _taken(clients: list[_Client]) -> int:
    return sum(len(client.ids) for client in clients)


def _listed(client: httpx.Client) -> list[str]:
    """Return the ids of all events of the archive that are not flagged as duplicates."""
    found: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = client.get("/v1/events", params={"entity": "IAH", "limit": "1000", **more}).json()
        found += [one["event_id"] for one in page["events"]]
        if page.get("next") is None:
            return found
        more = {"cursor": page["next"]}


def test_killed_under_load_each_event_is_in_the_archive_once(deployment: Deployment) -> None:
    """The supervisor starts the API again; ids follow from the key of a request, so a repeat makes no second event."""
    deployment.headrace("tenants", "add", "busy", "--plan", "premium")
    key, stop = deployment.key("busy", "ingest", "read"), threading.Event()
    clients = [_Client(deployment, key, f"c{number}", stop) for number in range(_CLIENTS)]
    for client in clients:
        client.start()
    killed: deque[float] = deque(maxlen=LIMIT - 1)
    for number in range(_KILLS + 1):
        taken = _taken(clients)
        assert wait_until(lambda taken=taken: _taken(clients) > taken + 50, _PATIENCE_SECONDS)  # type: ignore[misc]
        if number < _KILLS:
            if len(killed) == killed.maxlen:  # one more within the minute would end the stack, as it should
                time.sleep(max(0.0, killed[0] + WINDOW_SECONDS + 1 - time.monotonic()))
            os.kill(deployment.api_process(), signal.SIGKILL)
            killed.append(time.monotonic())
    stop.set()
    for client in clients:
        client.join()
    assert [client.failure for client in clients] == [""] * _CLIENTS
    assert sum(client.again for client in clients) > 0
    ids = [one for client in clients for one in client.ids]
    assert len(set(ids)) == len(ids)
    with deployment.client(key) as asking:
        for client in clients:
            asking.get(f"/v1/receipts/{client.receipt}", params={"wait": "queryable", "timeout": "25"})
        listed = _listed(asking)
    assert sorted(listed) == sorted(ids)
    assert "\nbalanced" in deployment.headrace("audit")
