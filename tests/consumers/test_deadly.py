"""Records that kill the process: found by a child, put into quarantine alone, and everything else goes on."""

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import orjson
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
from pipeline.machine import child_probe
from pipeline.machine.child_probe import ChildProbe
from pipeline.machine.processes import wait_until
from pipeline.ports.probe import Death
from pipeline.ports.stream import OutgoingRecord
from tests.consumers.deadly import MARK
from tests.consumers.test_reader import PATIENCE, Deployment, deploy, endpoint
from tests.core.kit import DOOR, event, rules_for, wire

__all__ = ["deploy", "endpoint"]  # fixtures
READER = ("tests.consumers.deadly", "reader")
MIB = 2**20
_PATIENCE = 120.0
HUNT_SECONDS = 2_160.0  # three fifths of an hour; what it waits for is there long before
_STARTS = 12  # a busy machine may end a reader once more: by the clock of the hang


def _put_deadly(house: Deployment) -> None:
    client = make_client("kinesis", wiring.connection(house.settings), Meter())
    KinesisSink(client, house.settings.stream.name).put([OutgoingRecord(MARK, "plain", "0")])


def _quarantined(house: Deployment) -> list[tuple[str, str, bytes]]:
    found: list[tuple[str, str, bytes]] = []
    for info in house.stores.objects.list("quarantine/"):
        table = pq.read_table(
            io.BytesIO(house.stores.objects.get(info.key)), columns=["code", "message", "raw"]
        )
        found += zip(*(table[name].to_pylist() for name in table.column_names), strict=True)
    return found


def _loaded(house: Deployment) -> subprocess.Popen[bytes]:
    """Start readers one after the other, as a supervisor does, until one has loaded everything; return that one."""
    for starts in range(1, _STARTS + 1):
        reader = house.start(*READER)

        def done(reader: subprocess.Popen[bytes] = reader) -> bool:
            beat = house.heartbeat()
            return (beat.get("pid"), beat.get("units")) == (reader.pid, 19) or reader.poll() is not None

        assert wait_until(done, 2 * HUNT_SECONDS), house.log.read_text()
        if reader.poll() is None:
            assert starts > 2, "the third start is the first to be suspicious"
            return reader
        assert house.segments() == [] or starts > 2
    pytest.fail(house.log.read_text())


@pytest.mark.stack
@pytest.mark.parametrize(
    ("kind", "death", "word"),
    [
        ("crash", "crash", "signal 11"),
        ("exit", "crash", "status 3"),
        ("memory", "memory", "worker.probe_memory_bytes"),
        ("hang", "processor", "worker.probe_seconds"),
    ],
)
def test_a_deadly_record_goes_to_quarantine_alone(
    deploy: Callable[..., Deployment], kind: str, death: str, word: str
) -> None:
    """The reader dies twice of it; the third finds it, and archives everything around it. The audit balances."""
    house = deploy(
        shards=1,
        DEADLY_KIND=kind,
        HEADRACE_WORKER__HANG_SECONDS="6",
        HEADRACE_WORKER__PROBE_SECONDS="5",
        HEADRACE_KCL__TIMEOUT_SECONDS="3600",  # a search may take three fifths of it: a busy machine needs more
    ).provision()
    house.produce(9)
    _put_deadly(house)
    house.produce(9, 10)
    reader = _loaded(house)
    reader.terminate()
    assert reader.wait(PATIENCE) == 0, house.log.read_text()
    assert house.rows() == sorted(f"e{number}" for number in range(19) if number != 9)
    [(code, message, raw)] = _quarantined(house)
    assert (code, raw, word in message) == ("kills_worker", MARK, True), message
    report = house.audit()
    assert report.complete, report.differences
    assert (report.total().received, report.total().quarantined) == (19, 1)
    told = [line for line in house.log.read_bytes().splitlines() if b"DeadlyRecordFound" in line]
    assert {orjson.loads(line)["death"] for line in told} == {death}
    assert MARK.decode() not in house.log.read_text()


def _probe(cpu_seconds: int = 20) -> ChildProbe:
    return ChildProbe(FixedRules(rules_for(DOOR)), 1024 * MIB, cpu_seconds)


def test_good_and_refused_records_survive() -> None:
    """Whatever the decoder can judge is no danger; neither is nothing at all."""
    records = [Record(str(number), "k", wire(event(event_id=f"e{number}")), 10**15) for number in range(500)]
    assert _probe().death([*records, Record("900", "k", b"{", 10**15)], _PATIENCE) is None
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
    death = probe.death(heavy, _PATIENCE)
    assert death is not None
    assert (death.kind, "worker.probe_seconds" in death.words) == ("processor", True)


@pytest.mark.parametrize(
    ("kind", "told", "seconds"),
    [
        ("crash", Death("crash", "ended by signal 11"), _PATIENCE),
        ("abort", Death("crash", "ended by signal 6, which a lack of memory may be"), _PATIENCE),
        ("memory", Death("memory", "1,024 MiB of address space (worker.probe_memory_bytes)"), _PATIENCE),
        ("hang", Death("processor", "4 seconds of a processor (worker.probe_seconds)"), _PATIENCE * 5),
        ("sleep", Death("clock", "within 15 seconds"), 15),
    ],
)
def test_a_child_that_dies_tells(
    kind: str, told: Death, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash of the child, or the limit that it reached, is an answer that names it."""
    monkeypatch.setenv("DEADLY_KIND", kind)
    command = (sys.executable, "-m", "tests.consumers.deadly", "probe")
    monkeypatch.setattr(child_probe, "COMMAND", command)
    assert _probe(4).death([Record("1", "k", b"{", 10**15)], _PATIENCE) is None
    death = _probe(4).death([Record("1", "k", MARK, 10**15)], seconds)
    assert death is not None
    assert (death.kind, told.words in death.words) == (told.kind, True), death


def test_rules_are_read_back() -> None:
    """The child judges by the same rules: their document makes them again."""
    from pipeline.core.rules import rules_of

    rules = rules_for(DOOR)
    assert rules_of(rules.document).digest == rules.digest
    assert replace(rules_of(rules.document), schemas={}) != rules
