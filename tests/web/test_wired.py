"""The door as a process makes it, over the local stack: what was archived is read, what it depends on is asked."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from falcon.testing import TestClient

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.meter import Meter
from pipeline.config import Settings, load_settings
from pipeline.core.event import Record
from pipeline.core.segment import CutLimits
from pipeline.flows.load import Loader, LoadLimits
from pipeline.flows.ready import KEPT_SECONDS
from pipeline.flows.window import WindowLimits
from pipeline.ports.clock import SystemClock
from pipeline.web.app import make_app
from pipeline.wiring.front_door import FrontDoor, front_door
from pipeline.wiring.stores import connection, queue_names
from tests.aws.backends import ministack
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.sim.events import rules
from tests.web.asking import client_of
from tests.web.credentials import ISSUER, jwk, rsa
from tests.web.kit import OTHER, OWN, KnownKeys, caller_of, event

pytestmark = pytest.mark.stack


def test_the_door_of_a_process_reads_the_archive(tmp_path: Path) -> None:
    """Events, lag, replay and readiness through the real adapters; without the queue, or the stack, it is unready, and says no place."""
    clock = SteppedClock(time.time_ns() // 1_000)  # the tables tell theirs: one that is off is refused
    with ministack(tmp_path / "stack") as endpoint, _issuer() as auth:
        aws = {
            "endpoint_url": endpoint,
            "access_key_id": "test",
            "secret_access_key": "test",
            "retry_seconds": 0,
        }
        settings = load_settings(
            {"paths": {"home": tmp_path}, "auth": auth, "aws": aws | {"max_attempts": 1}}
        )
        wiring.provision(settings)
        stores = wiring.archive(settings)
        _archive(stores)
        door = front_door(settings, clock, FactList())
        client, own, other = _client(door)
        found = client.simulate_get("/v1/events", params={"entity": "door-1"}, headers=own).json
        assert [one["event_id"] for one in found["events"]] == ["acme-e1", "acme-e3"]
        assert (
            client.simulate_get("/v1/events", params={"entity": "door-1"}, headers=other).json["events"] == []
        )
        assert client.simulate_get("/v1/lag", headers=own).json["streams"][0]["stream"] == "doors"
        made = client.simulate_post("/v1/replays", json={"entity": "door-1"}, headers=own)
        assert made.status_code == 202
        assert door.reads is not None
        door.reads.senders.shutdown()
        assert stores.jobs.get(made.json["job"]).state == "sent"
        assert client.simulate_get(f"/v1/replays/{made.json['job']}", headers=other).status_code == 404
        assert client.simulate_get("/readyz").json["status"] == "ready"
        _lose_the_queue(settings)
        clock.advance(KEPT_SECONDS + 1)
        unready = client.simulate_get("/readyz")
        seen = {one["name"]: one for one in unready.json["dependencies"]}
        queue, issuer = seen["queue"], seen["issuer"]
        assert (issuer["state"], issuer["age_seconds"]) == ("ok", KEPT_SECONDS + 1)
        assert (unready.status_code, queue["state"]) == (503, "unusable")
        assert queue["next_step"].startswith("replay queue: missing")
        before = stores.jobs.newest()
        refused = client.simulate_post("/v1/replays", json={"entity": "door-1"}, headers=own)
        assert (refused.status_code, refused.json["code"]) == (503, "unavailable")
        assert stores.jobs.newest() == before
    clock.advance(KEPT_SECONDS + 1)
    answer = client.simulate_get("/readyz")
    assert answer.status_code == 503
    assert "127.0.0.1" not in answer.text


@contextmanager
def _issuer() -> Iterator[dict[str, str]]:
    """Serve the keys of an issuer; yield the settings that name it."""

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"keys": [jwk("k1", rsa("first"))]}).encode())

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield {"issuer": ISSUER, "jwks_url": f"http://127.0.0.1:{server.server_address[1]}/jwks.json"}
        server.shutdown()


def _lose_the_queue(settings: Settings) -> None:
    sqs = make_client("sqs", connection(settings), Meter(), facts=FactList())
    sqs.delete_queue(QueueUrl=sqs.get_queue_url(QueueName=queue_names(settings)[0])["QueueUrl"])


def _archive(stores: wiring.Archive) -> None:
    """Load a few events of two tenants."""
    lineage = stores.ledger.register("doors", "1", "shardId-000000000000", ())
    ports = wiring.write_ports(stores, SystemClock(), FactList())
    loader = Loader(lineage, rules(), LoadLimits(CutLimits(), WindowLimits()), ports)
    loader.start()
    events = [event(tenant, number) for number in range(4) for tenant in (OWN, OTHER)]
    now_us = SteppedClock().now_us()
    loader.process([Record(str(number), "key", one, now_us) for number, one in enumerate(events, 1)])
    loader.cut("test")


def _client(door: FrontDoor) -> tuple[TestClient, dict[str, str], dict[str, str]]:
    callers = {one.credential: one for one in (caller_of(OWN), caller_of(OTHER))}
    own, other = ({"X-API-Key": name} for name in callers)
    return client_of(make_app(door, KnownKeys(callers))), own, other
