"""The HTTP API as an operator starts it and a client calls it: `headrace up`, `headrace keys create`, HTTP, the audit."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipeline.laptop.home import Home
from pipeline.machine.processes import wait_until
from tests.told import PAYLOAD, keep

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.xdist_group("front_door")]

REVOKED_WITHIN_SECONDS = 60.0
_DATA = {"origin": "IAH", "year": 2013, "month": 1, "day": 1, "hour": 8, "precip": 0.0, "visib": 10.0}
EVENT = {
    "entity_id": "IAH",
    "event_type": "weather.observed",
    "schema_version": 1,
    "source": f"{PAYLOAD}source",
    "data": _DATA | {"time_hour": "2013-01-01T13:00:00Z"},
}


class Deployment:
    """One local stack."""

    def __init__(self, home: Path) -> None:
        self.home = Home(home)

    def headrace(self, *words: str) -> str:
        """Run the command; return what it says."""
        outside = {
            name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))
        }
        command = [sys.executable, "-m", "pipeline.cli.main", *words, "--home", str(self.home.path)]
        done = subprocess.run(command, env=outside, capture_output=True, text=True, check=False, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def key(self, tenant: str, *scopes: str) -> dict[str, Any]:
        """Make a key."""
        made = self.headrace("keys", "create", tenant, "--scope", ",".join(scopes), "--json")
        found: dict[str, Any] = json.loads(made)
        return found

    def client(self, key: dict[str, Any]) -> httpx.Client:
        """Return a client of the API as it answers now."""
        url = self.home.api_url.read_text(encoding="ascii")
        return httpx.Client(base_url=url, headers={"X-API-Key": key["key"]}, timeout=60)

    def api_process(self) -> int:
        """Return the id of the API's process."""
        stack = json.loads((self.home.path / "run" / "stack.json").read_text())
        return int(stack["api"]["pid"])


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    """A stack that runs for all these tests."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    found = Deployment(tmp_path_factory.mktemp("home"))
    found.headrace("up", "--detach")
    try:
        yield found
    finally:
        keep(found.home.path)
        found.headrace("down", "--wipe")


_PROVEN = "\nbalanced: nothing is missing, nothing is twice"
_UNRECEIPTED = "\nbalanced; for units without a receipt only the loader's own count speaks"


def _balanced(deployment: Deployment, *also: str) -> None:
    """Assert that the audit finds everything, once, as soon as the API's receipts are written; or says what `also` allows."""
    found: list[str] = []

    def proven() -> bool:
        found.append(deployment.headrace("audit"))
        return any(text in found[-1] for text in (_PROVEN, *also))

    assert wait_until(proven, 60), found[-1]


def _sent(client: httpx.Client, **more: Any) -> tuple[str, str]:
    """Send one event; return its id and the receipt."""
    answer = client.post("/v1/events", json=EVENT | more)
    assert answer.status_code == 202, answer.text
    return answer.json()["events"][0]["event_id"], answer.json()["receipt"]


def _queryable(client: httpx.Client, receipt: str) -> None:
    """Wait until the archive has what a receipt speaks of."""
    answer = client.get(f"/v1/receipts/{receipt}", params={"wait": "queryable", "timeout": 25})
    assert answer.json()["state"] == "queryable", answer.text


def _ids(client: httpx.Client, entity: str) -> list[str]:
    found = client.get("/v1/events", params={"entity": entity})
    assert found.status_code == 200, found.text
    return [one["event_id"] for one in found.json()["events"]]


def test_a_write_is_read_by_its_writer_alone(deployment: Deployment) -> None:
    """From a new key to the audit: sent, waited for, listed, followed by its receipt; another tenant's key sees none of it."""
    with deployment.client(deployment.key("noaa", "ingest", "read")) as client:
        event_id, receipt = _sent(client)
        _queryable(client, receipt)
        assert event_id in _ids(client, "IAH")
        trace = client.get(f"/v1/events/{event_id}", params={"receipt": receipt}).json()
        assert (trace["found_by"], trace["found"][0]["outcome"]) == ("receipt", "accepted")
        ready = client.get("/readyz", headers={"X-API-Key": ""})
        states = {one["name"]: one["state"] for one in ready.json()["dependencies"]}
        assert states == dict.fromkeys(
            ("tables", "objects", "stream", "queue", "control", "limits", "clock"), "ok"
        )
        assert not any(word in ready.text for word in ("127.0.0.1", str(deployment.home.path), "sqlite"))
    deployment.headrace("tenants", "add", "faa")
    with deployment.client(deployment.key("faa", "ingest", "read")) as other:
        assert _ids(other, "IAH") == []
        for path in (f"/v1/events/{event_id}?receipt={receipt}", f"/v1/receipts/{receipt}"):
            assert other.get(path).status_code == 404
    _balanced(deployment)


def test_a_tenant_that_is_added_while_all_runs(deployment: Deployment) -> None:
    """Its first event is taken at once, archived by the loader that runs, and read back."""
    deployment.headrace("tenants", "add", "late", "--plan", "standard")
    with deployment.client(deployment.key("late", "ingest", "read")) as client:
        event_id, receipt = _sent(client)
        _queryable(client, receipt)
        assert _ids(client, "IAH") == [event_id]
    _balanced(deployment)


def test_revoked_and_suspended_credentials_are_refused_within_a_minute(deployment: Deployment) -> None:
    """While both are used all the time, so that what is remembered of them is never forgotten for idleness."""
    for tenant in ("leaving", "pausing"):
        deployment.headrace("tenants", "add", tenant, "--plan", "premium")
    revoked, suspended = (deployment.key(tenant, "read") for tenant in ("leaving", "pausing"))
    with deployment.client(revoked) as one, deployment.client(suspended) as other:
        assert [client.get("/v1/usage").status_code for client in (one, other)] == [200, 200]
        deployment.headrace("keys", "revoke", revoked["id"])
        deployment.headrace("tenants", "suspend", "pausing")
        ends, statuses = time.monotonic() + REVOKED_WITHIN_SECONDS, [200, 200]
        while statuses != [401, 401]:
            assert time.monotonic() < ends, statuses
            time.sleep(0.2)
            statuses = [client.get("/v1/usage").status_code for client in (one, other)]
        deployment.headrace("tenants", "resume", "pausing")


def test_the_api_is_killed_and_started_again(deployment: Deployment) -> None:
    """Keys, receipts and answers under an Idempotency-Key are good in the next process; the archive has each event once."""
    key, headers = deployment.key("noaa", "ingest", "read"), {"Idempotency-Key": "before-and-after"}
    with deployment.client(key) as client:
        first = client.post("/v1/events", json=EVENT | {"entity_id": "JFK"}, headers=headers)
        assert first.status_code == 202, first.text
    os.kill(deployment.api_process(), signal.SIGKILL)
    deployment.headrace("down")
    deployment.headrace("up", "--detach")
    with deployment.client(key) as client:
        again = client.post("/v1/events", json=EVENT | {"entity_id": "JFK"}, headers=headers)
        assert (again.content, again.headers["Idempotent-Replayed"]) == (first.content, "true")
        _queryable(client, first.json()["receipt"])
        assert _ids(client, "JFK") == [first.json()["events"][0]["event_id"]]
    _balanced(deployment, _UNRECEIPTED)  # the killed process had written its receipt, or not
