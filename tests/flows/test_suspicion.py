"""Records that kill the process: when they are looked for, how they are found, and what becomes of them."""

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import pyarrow.parquet as pq
import pytest

from pipeline.core.errors import HeadraceError, OutcomeUnknown
from pipeline.core.event import Record
from pipeline.core.gap import Reading
from pipeline.core.kpl import Aggregate
from pipeline.core.open_segment import unit_key
from pipeline.core.segment import Position
from pipeline.facts import DeadlyRecordFound
from pipeline.flows.load import Loader
from pipeline.ports.probe import Death, Kind
from tests.fakes.clock import SteppedClock
from tests.flows.loading import House, event
from tests.sim.archive import StoredRefusal
from tests.sim.events import DEADLY
from tests.sim.trouble import FakeProbe


class CountedProbe(FakeProbe):
    """Counts questions; `broken`: whatever it is asked, the child is dead. `busy`: so many first questions fail."""

    def __init__(self, *, broken: bool = False, busy: int = 0) -> None:
        self.asked: list[int] = []
        self.broken, self.busy = broken, busy

    def works(self, seconds: float) -> bool:
        """Answer."""
        return not self.broken and super().works(seconds)

    def death(self, records: Sequence[Record], seconds: float) -> Death | None:
        """Answer."""
        self.asked.append(len(records))
        self.busy -= 1
        return (
            Death("crash", "it is broken")
            if self.broken or self.busy >= 0
            else super().death(records, seconds)
        )


class HangingProbe(FakeProbe):
    """Children that hang use up the time they are given; the others take `seconds`, and each good one more."""

    def __init__(self, clock: SteppedClock, deadly: bytes = DEADLY, seconds: float = 1) -> None:
        self._clock, self._deadly, self._seconds = clock, deadly, seconds

    def works(self, seconds: float) -> bool:
        """Answer, as soon as the machine lets it."""
        self._clock.advance(min(self._seconds, seconds))
        return self._seconds <= seconds

    def death(self, records: Sequence[Record], seconds: float) -> Death | None:
        """Answer, or use up the time."""
        hangs = any(self._deadly in record.data for record in records)
        needs = 10.0**9 if hangs else self._seconds + len(records) / 2_000
        self._clock.advance(min(needs, seconds))
        return None if needs <= seconds else Death("clock", "too late")


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
    """Where good events die too, no death tells anything of the records; that is said, and only one question asked."""
    house, records = _filled(-1, 8)
    probe = CountedProbe(broken=True)
    loader = _start(house, probe, 3)
    loader.process(records)
    loader.stop()
    assert not any(isinstance(one, StoredRefusal) for one in house.rows())
    assert (probe.asked, house.facts.names().count("ProbeDoubted")) == ([8], 1)


def test_a_probe_that_breaks_meanwhile_condemns_nobody() -> None:
    """The machine becomes too busy in the middle of a search: the verdict is not believed, and nothing after it."""
    house, records = _filled(-1, 8)
    probe = CountedProbe(busy=10**9)
    answers = iter([True, False])
    probe.works = lambda seconds: seconds > 0 and next(answers)  # type: ignore[method-assign]
    loader = _start(house, probe, 3)
    loader.process(records)
    loader.stop()
    assert not any(isinstance(one, StoredRefusal) for one in house.rows())
    assert probe.asked == [8, 4, 2, 1, 1]


@pytest.mark.parametrize("count", [1, 2, 100, 10_000])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_search_has_its_time(count: int, place: float) -> None:
    """One that hangs is found among 10,000 before KCL loses its patience, wherever it is."""
    house = House()
    deadly = int((count - 1) * place)
    suspect = [
        Record(str(10 + number), "k", DEADLY if number == deadly else b"", 1) for number in range(count)
    ]
    suspicion = _loader(house, HangingProbe(house.clock))._suspicion
    suspicion.begin(3)
    began = house.clock.monotonic()
    unsure = suspicion.look(suspect)
    assert set(suspicion.deadly) == {unit_key(suspect[deadly])}
    assert house.clock.monotonic() - began <= 180
    assert unsure is None or int(unsure.sequence_number) > 10 + deadly


def test_what_a_search_cleared_is_kept() -> None:
    """Among so many that hang time runs out: each start commits what it knows, and the next ones go on from there."""
    house = House()
    records = house.put(*(DEADLY if number % 2 else event(number) for number in range(60)))
    probe, starts = HangingProbe(house.clock), 0
    while True:
        loader, starts = _loader(house, probe), starts + 1
        loader.start()
        loader._suspicion.begin(3)
        try:
            loader.process(records)
        except HeadraceError:
            continue
        loader.stop()
        break
    assert starts > 1
    assert len(house.rows()) == 60
    assert sum(isinstance(one, StoredRefusal) for one in house.rows()) == 30


def test_a_busy_machine_condemns_nobody() -> None:
    """A record is tried twice before it is given up."""
    house, records = _filled(-1, 1)
    loader = _start(house, CountedProbe(busy=1), 3)
    loader.process(records)
    loader.stop()
    assert not any(isinstance(one, StoredRefusal) for one in house.rows())


@pytest.mark.parametrize("seconds", [1, 2, 4, 6, 8, 10, 12, 15, 20, 30, 50, 100])
@pytest.mark.parametrize("count", [1, 16, 1_000])
def test_however_slow_the_machine_nobody_good_is_condemned(count: int, seconds: float) -> None:
    """Where good events take as long as any others, a child that was not ready in time proves nothing."""
    house = House()
    records = [Record(str(10 + number), "k", b"", 1) for number in range(count)]
    suspicion = _loader(house, HangingProbe(house.clock, seconds=seconds))._suspicion
    suspicion.begin(3)
    suspicion.look(records)
    assert suspicion.deadly == {}


@pytest.mark.parametrize("count", [1, 19, 1_000])
def test_a_hang_is_found_on_a_slow_machine(count: int) -> None:
    """A child of five seconds over good events: starts come back until the one that hangs is found."""
    house, found = House(), dict[tuple[str, int], str]()
    suspect = [
        Record(str(10 + number), "k", DEADLY if number == count // 2 else b"", 1) for number in range(count)
    ]
    left: list[Record] = list(suspect)
    for _ in range(4):
        suspicion = _loader(house, HangingProbe(house.clock, seconds=5))._suspicion
        suspicion.begin(3)
        unsure, found = suspicion.look(left), found | suspicion.deadly
        if unsure is None:
            break
        left = left[left.index(unsure) :]
    assert set(found) == {unit_key(suspect[count // 2])}


def test_a_lone_record_gives_good_ones_half_of_its_time() -> None:
    """One that only the clock ended is not condemned by good events that needed longer than half of that."""
    house, records = _filled(-1, 1)
    asked = list[tuple[str, float]]()
    probe = FakeProbe()

    def death(_records: Sequence[Record], seconds: float) -> Death:
        asked.append(("records", seconds))
        return Death("clock", "too late")

    def works(seconds: float) -> bool:
        asked.append(("good", seconds))
        return len(asked) == 2  # before anything is looked for: as slow as that is, it may go on

    probe.death, probe.works = death, works  # type: ignore[method-assign, assignment]
    loader = _start(house, probe, 3)
    loader.process(records)
    loader.stop()
    assert not any(isinstance(one, StoredRefusal) for one in house.rows())
    assert asked[-1] == ("good", asked[-2][1] / 2)
    assert house.facts.names().count("ProbeDoubted") == 1


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_limit_is_no_crash(kind: Kind) -> None:
    """What became of the child stands in quarantine and in the fact: whoever reads it learns which setting would help."""
    house, records = _filled(1, 3)
    probe = FakeProbe()

    def death(records: Sequence[Record], seconds: float) -> Death | None:
        return Death(kind, f"it needs more than {kind}") if FakeProbe.death(probe, records, seconds) else None

    probe.death = death  # type: ignore[method-assign]
    loader = _start(house, probe, 3)
    loader.process(records)
    loader.stop()
    [key] = [one.key for one in house.objects.list("quarantine/")]
    [message] = pq.read_table(io.BytesIO(house.objects.get(key)), columns=["message"])["message"].to_pylist()
    assert message == f"it needs more than {kind}"
    assert [fact.death for fact in house.facts.told if isinstance(fact, DeadlyRecordFound)] == [kind]


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
