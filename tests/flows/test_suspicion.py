"""Records that kill the process: when they are looked for, how they are found, and what becomes of them."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pipeline.core.errors import OutcomeUnknown
from pipeline.core.event import Record
from pipeline.core.gap import Reading
from pipeline.core.kpl import Aggregate
from pipeline.core.segment import Position
from pipeline.flows.load import Loader
from tests.flows.loading import House, event
from tests.sim.archive import StoredRefusal
from tests.sim.events import DEADLY
from tests.sim.trouble import FakeProbe


class CountedProbe(FakeProbe):
    """Counts questions; `broken`: whatever it is asked, the child is dead. `busy`: so many first questions fail."""

    def __init__(self, *, broken: bool = False, busy: int = 0) -> None:
        self.asked: list[int] = []
        self.broken, self.busy = broken, busy

    def survives(self, records: Sequence[Record]) -> bool:
        """Answer."""
        self.asked.append(len(records))
        self.busy -= 1
        return not self.broken and (self.busy < 0 or not records) and super().survives(records)


def _loader(house: House, probe: FakeProbe | None) -> Loader:
    loader = house.loader()
    loader._ports = replace(loader._ports, probe=probe)
    loader._suspicion._ports = loader._ports
    return loader


def _start(house: House, probe: FakeProbe | None, times: int) -> Loader:
    """Start so many loaders one after the other, each of which dies; return the last one, alive."""
    for _ in range(times - 1):
        _loader(house, probe).start()
    loader = _loader(house, probe)
    loader.start()
    return loader


def _filled(deadly: int, count: int) -> tuple[House, list[Record]]:
    house = House()
    return house, house.put(*(DEADLY if number == deadly else event(number) for number in range(count)))


@pytest.mark.parametrize("deadly", [0, 1, 36, 99])
def test_one_among_many_is_found_by_halves(deadly: int) -> None:
    """It alone is refused, with its bytes; the number of children grows with the logarithm."""
    house, records = _filled(deadly, 100)
    probe = CountedProbe()
    loader = _start(house, probe, 3)
    loader.process(records)
    loader.stop()
    refused = [one for one in house.rows() if isinstance(one, StoredRefusal)]
    assert [(one.code, one.raw) for one in refused] == [("kills_worker", DEADLY)]
    assert len(house.rows()) == 100
    assert len(probe.asked) <= 2 + 2 * 7 + 1
    assert house.facts.names().count("DeadlyRecordFound") == 1


def test_several_are_found() -> None:
    """Each of them, and nothing else."""
    house = House()
    records = house.put(DEADLY, event(1), DEADLY, DEADLY, event(2))
    loader = _start(house, CountedProbe(), 3)
    loader.process(records)
    loader.stop()
    assert sum(isinstance(one, StoredRefusal) for one in house.rows()) == 3
    assert len(house.rows()) == 5


@pytest.mark.parametrize("starts", [1, 2])
def test_nothing_is_tried_before_the_third_start(starts: int) -> None:
    """A death or two are accidents: no child is started."""
    house, records = _filled(-1, 4)
    probe = CountedProbe()
    _start(house, probe, starts).process(records)
    assert probe.asked == []


def test_a_stop_in_order_is_no_death() -> None:
    """However often a worker is stopped and started where nothing comes."""
    house, records = _filled(-1, 4)
    probe = CountedProbe()
    for _ in range(5):
        loader = _start(house, probe, 1)
        loader.stop()
    _start(house, probe, 1).process(records)
    assert probe.asked == []


def test_a_lost_answer_is_no_start() -> None:
    """The first start ever, whose answers are lost, is one start."""
    house, records = _filled(-1, 4)
    probe, started, asked = CountedProbe(), house.ledger.started, list[str]()

    def unanswered(lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        asked.append(start)
        reading = started(lineage, at, now_us, start)
        if len(asked) < 4:
            raise OutcomeUnknown("no answer")
        return reading

    house.ledger.started = unanswered  # type: ignore[method-assign]
    _start(house, probe, 1).process(records)
    assert (len(asked), probe.asked) == (4, [])


def test_suspicion_ends_with_a_commit() -> None:
    """Once the position has moved, records are taken in as always."""
    house, records = _filled(-1, 8)
    probe = CountedProbe()
    loader = _start(house, probe, 3)
    loader.process(records[:2])
    loader.process(records[2:4])
    loader.cut("test")
    loader.process(records[4:])
    assert probe.asked == [2, 2]


def test_a_probe_that_does_not_work_condemns_nobody() -> None:
    """A child that dies over nothing at all tells nothing of the records."""
    house, records = _filled(-1, 8)
    loader = _start(house, CountedProbe(broken=True), 3)
    loader.process(records)
    loader.stop()
    assert not any(isinstance(one, StoredRefusal) for one in house.rows())


def test_a_busy_machine_condemns_nobody() -> None:
    """A record is tried twice before it is given up."""
    house, records = _filled(-1, 1)
    loader = _start(house, CountedProbe(busy=1), 3)
    loader.process(records)
    loader.stop()
    assert not any(isinstance(one, StoredRefusal) for one in house.rows())


def test_a_refused_plan_does_not_forget() -> None:
    """What is kept and judged again after a refused plan is not decoded then either."""
    house, records = _filled(2, 4)
    loader = _start(house, CountedProbe(), 3)
    loader.process(records)
    house.ledger.raise_seal("2024-03-01")
    loader.stop()
    assert [one.code for one in house.rows() if isinstance(one, StoredRefusal)] == ["kills_worker"]


def test_a_deadly_aggregate_is_covered_whole() -> None:
    """Nobody counted its parts: whoever reads it taken apart, later, finds all of them covered."""
    house, aggregate = House(), Aggregate()
    for payload in (event(1), DEADLY, event(2)):
        aggregate.add(payload)
    [record] = house.put(aggregate.encode("k", "0"))
    loader = _start(house, CountedProbe(), 3)
    loader.process([record])
    loader.stop()
    committed = loader.committed
    assert committed is not None
    assert Position(record.sequence_number, 2) <= committed
    [stored] = house.rows()
    assert isinstance(stored, StoredRefusal)
    assert stored.raw == record.data
