"""Tenants and schemas that are added while a real reader runs: their events are archived without a restart."""

from collections.abc import Callable

import pytest

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.kinesis import KinesisSink
from pipeline.aws.meter import Meter
from pipeline.flows.admin import Admin
from pipeline.machine.processes import wait_until
from pipeline.ports.clock import SystemClock
from pipeline.ports.stream import OutgoingRecord
from tests.consumers.test_reader import PATIENCE, Deployment, deploy, endpoint
from tests.core.kit import DOOR, event, wire

__all__ = ["deploy", "endpoint"]  # fixtures

pytestmark = pytest.mark.stack


def _send(house: Deployment, *payloads: bytes) -> None:
    client = make_client("kinesis", wiring.connection(house.settings), Meter())
    sink = KinesisSink(client, house.settings.stream.name)
    assert all(one.sequence_number for one in sink.put([OutgoingRecord(one, "key", "0") for one in payloads]))


def _admin(house: Deployment) -> Admin:
    return Admin(wiring.control(house.settings), SystemClock(), "jo@desk", bytes)


def test_what_is_added_while_a_reader_runs_is_archived(deploy: Callable[..., Deployment]) -> None:
    """A reader that started without a control store takes a tenant, then a schema version, added while it runs."""
    house = deploy(shards=1, HEADRACE_SEGMENT__MAX_IDLE_SECONDS="0.3").provision()
    house.start()

    def archived(rows: int) -> bool:
        return sum(one.counts.rows for one in house.segments()) == rows

    _send(house, wire(event()))
    assert wait_until(lambda: archived(1), PATIENCE)
    admin = _admin(house)
    admin.add_tenant("newcomer", "basic")
    _send(house, wire(event(tenant_id="newcomer")))
    assert wait_until(lambda: archived(2), PATIENCE)
    admin.publish(wiring.filed_rules(house.settings), "gate", 1, DOOR)
    _send(house, wire(event(tenant_id="newcomer", event_type="gate")), wire(event(tenant_id="nobody")))
    assert wait_until(lambda: archived(3), PATIENCE)
    assert wait_until(lambda: sum(one.counts.quarantined for one in house.segments()) == 1, PATIENCE)
    digests = [one.rules_digest for one in house.segments()]
    assert len(set(digests)) == 3
    assert [line for line in house.lines() if line.get("fact") == "WorkerCrashed"] == []
