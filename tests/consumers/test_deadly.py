"""Records that kill the process: found by a child, put into quarantine alone, and everything else goes on."""

import io
from collections.abc import Callable
from dataclasses import replace

import pyarrow.parquet as pq
import pytest

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.kinesis import KinesisSink
from pipeline.aws.meter import Meter
from pipeline.core.decode import Decoder
from pipeline.core.event import Record
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rehearse import good_ones
from pipeline.flows.rules import FixedRules
from pipeline.laptop import child_probe
from pipeline.laptop.child_probe import ChildProbe
from pipeline.laptop.processes import wait_until
from pipeline.ports.stream import OutgoingRecord
from tests.consumers.deadly import MARK
from tests.consumers.test_reader import PATIENCE, Deployment, deploy, endpoint
from tests.core.kit import DOOR, event, rules_for, wire

__all__ = ["deploy", "endpoint"]  # fixtures
READER = ("tests.consumers.deadly", "reader")
MIB = 2**20
_PATIENCE = 120.0


def _put_deadly(house: Deployment) -> None:
    client = make_client("kinesis", wiring.connection(house.settings), Meter())
    KinesisSink(client, house.settings.stream.name).put([OutgoingRecord(MARK, "plain", "0")])


def _quarantined(house: Deployment) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for info in house.stores.objects.list("quarantine/"):
        table = pq.read_table(io.BytesIO(house.stores.objects.get(info.key)), columns=["code", "raw"])
        found += zip(table["code"].to_pylist(), table["raw"].to_pylist(), strict=True)
    return found


@pytest.mark.stack
@pytest.mark.parametrize("kind", ["crash", "exit", "memory", "hang"])
def test_a_deadly_record_goes_to_quarantine_alone(deploy: Callable[..., Deployment], kind: str) -> None:
    """The reader dies twice of it; the third finds it, and archives everything around it. The audit balances."""
    house = deploy(
        shards=1,
        DEADLY_KIND=kind,
        HEADRACE_WORKER__HANG_SECONDS="3",
        HEADRACE_WORKER__PROBE_SECONDS="5",
    ).provision()
    house.produce(9)
    _put_deadly(house)
    house.produce(9, 10)
    for _ in range(2):
        assert house.start(*READER).wait(PATIENCE) != 0
        assert house.segments() == []
    reader = house.start(*READER)
    found = wait_until(
        lambda: house.heartbeat().get("units") == 19 or reader.poll() is not None, 180 + PATIENCE
    )
    assert found, house.log.read_text()
    reader.terminate()
    assert reader.wait(PATIENCE) == 0, house.log.read_text()
    assert house.rows() == sorted(f"e{number}" for number in range(19) if number != 9)
    assert _quarantined(house) == [("kills_worker", MARK)]
    report = house.audit()
    assert report.complete, report.differences
    assert (report.total().received, report.total().quarantined) == (19, 1)
    log = house.log.read_text()
    assert log.count("DeadlyRecordFound") == 1
    assert MARK.decode() not in log


def _probe() -> ChildProbe:
    return ChildProbe(FixedRules(rules_for(DOOR)), 1024 * MIB, 20)


def test_good_and_refused_records_survive() -> None:
    """Whatever the decoder can judge is no danger; neither is nothing at all."""
    records = [Record(str(number), "k", wire(event(event_id=f"e{number}")), 10**15) for number in range(500)]
    assert _probe().survives([*records, Record("900", "k", b"{", 10**15)], _PATIENCE)
    assert _probe().works(_PATIENCE)


def test_good_ones_are_good() -> None:
    """The control does all of the work: rows, and one refusal, under any deployment's limits and envelope."""
    rules, records = good_ones(rules_for(DOOR))
    held = OpenSegment(Decoder(rules), rules.schemas)
    held.add(records)
    assert (held.units, len(held.refusals)) == (len(records), 1)


def test_time_on_the_clock_is_not_all() -> None:
    """A child ends with what it may use of a processor, long before the time on the clock is over."""
    probe = ChildProbe(FixedRules(rules_for(DOOR)), 1024 * MIB, 0)
    heavy = [Record(str(number), "k", wire(event(event_id=f"e{number}")), 10**15) for number in range(60_000)]
    assert not probe.survives(heavy, _PATIENCE)
    assert probe._memory_bytes == 1024 * MIB


@pytest.mark.parametrize("kind", ["crash", "memory"])
def test_a_child_that_dies_tells(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash of the child, or its lack of memory, is an answer."""
    monkeypatch.setenv("DEADLY_KIND", kind)
    command = (*child_probe.COMMAND[:2], "tests.consumers.deadly", "probe")
    monkeypatch.setattr(child_probe, "COMMAND", command)
    assert _probe().survives([Record("1", "k", b"{", 10**15)], _PATIENCE)
    assert not _probe().survives([Record("1", "k", MARK, 10**15)], _PATIENCE)


def test_rules_are_read_back() -> None:
    """The child judges by the same rules: their document makes them again."""
    from pipeline.core.rules import rules_of

    rules = rules_for(DOOR)
    assert rules_of(rules.document).digest == rules.digest
    assert replace(rules_of(rules.document), schemas={}) != rules
