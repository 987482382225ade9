"""What the ledger is told of an idle shard: seldom, and never more than was read and committed."""

from dataclasses import replace

import pytest

from pipeline.core.gap import Keeping
from pipeline.core.segment import CutLimits
from pipeline.ports.stream import Batch
from tests.flows.falling_behind import DAY_US, FIRST, HOUR, MARGIN_US, House


def test_a_quiet_shard_has_no_gap() -> None:
    """A worker that finds nothing for days notes it now and then; whoever comes next knows."""
    house = House()
    house.put(4)
    house.work()
    for _ in range(3):
        house.away(23)
        house.work(20)
    house.away(0)
    assert house.gaps() == []
    assert house.ledger.reading("0001").read_until_us > house.clock.now_us() - DAY_US


def test_notes_are_few() -> None:
    """An hour of empty reads is a note every five minutes, not one a read."""
    house, notes = House(), list[int]()
    note = house.ledger.note_read

    def noted(lineage: str, until_us: int) -> None:
        notes.append(until_us)
        note(lineage, until_us)

    house.ledger.note_read = noted  # type: ignore[method-assign]
    house.put(1)
    house.work(HOUR)
    assert 10 <= len(notes) <= 13


def test_what_is_collected_is_not_noted_as_read() -> None:
    """While records wait for their cut the ledger is told nothing: whoever comes next would take them for committed."""
    house = House()
    keeping = replace(Keeping(DAY_US), margin_us=0, note_every_us=1_000_000)
    house.limits = replace(
        house.limits, cut=CutLimits(max_age_seconds=HOUR, max_idle_seconds=HOUR), keeping=keeping
    )
    house.put(4)
    stops: list[int] = []

    def stopping() -> bool:
        if house.clock.monotonic() < HOUR / 2:
            return False
        stops.append(house.ledger.reading("0001").read_until_us)
        return True

    lineage = house.ledger.register("events", "1", FIRST, ())
    house.read(lineage, stopping, lambda _ms: None)
    assert stops == [0]
    assert [one.counts.rows for one in house.segments()] == [4]
    house.work(5)
    assert house.ledger.reading("0001").read_until_us > 0


class _Slow:
    """Answers late: what arrives meanwhile is not in the answer."""

    def __init__(self, house: House) -> None:
        self._house, self.asked_us = house, list[int]()

    def read(self) -> Batch:
        self.asked_us.append(self._house.clock.now_us())
        self._house.clock.advance(2 * HOUR)
        return Batch([], 0, ended=False)


def test_a_slow_answer_speaks_of_the_moment_it_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What arrived while an empty answer was on its way was not in it: the note does not reach that far."""
    house = House()
    slow = _Slow(house)
    monkeypatch.setattr(house.stream, "reader", lambda *_: slow)
    house.work(3 * HOUR)
    assert house.ledger.reading("0001").read_until_us == slow.asked_us[-1] - MARGIN_US
