"""The basis of replay jobs: snapshots of the ledger that can be ordered, whatever is committed while they are read."""

import random
from collections.abc import Callable
from itertools import permutations

import pytest

from pipeline.core.errors import Transient
from pipeline.core.segment import Counts, Segment
from pipeline.flows.replay_basis import Snapshot, snapshot
from pipeline.ports.ledger import Opening
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.ledger import MemoryLedger


class _BusyLedger(MemoryLedger):
    """A ledger in which something happens before each look at a lineage."""

    def __init__(self, happens: Callable[["_BusyLedger"], None]) -> None:
        super().__init__()
        self.happens = happens

    def open(self, lineage: str) -> Opening:
        """Return the newest segment of a lineage, after what happens before that."""
        self.happens(self)
        return super().open(lineage)

    def grow(self, lineage: str) -> None:
        """Plan the next segment of a lineage, or commit the one that is planned."""
        found = self.segments(lineage)
        if found and found[-1].state == "planned":
            self.commit(found[-1])
            return
        number = len(found) + 1
        self.rows[lineage, number] = Segment(
            lineage, number, "planned", None, None, "staging", Counts(*[0] * 8), (), "rules", 0, 0, 0
        )


def _look(ledger: MemoryLedger) -> Snapshot:
    return snapshot(ledger, map, SteppedClock(), FactList())


@pytest.mark.parametrize("seed", range(16))
def test_bases_order_snapshots(seed: int) -> None:
    """Of any two, also by readers at once, the one with the higher basis lacks nothing that the other has."""
    chance, found, inside = random.Random(seed), list[Snapshot](), list[bool]()

    def happens(ledger: _BusyLedger) -> None:
        if chance.random() < 0.15:
            ledger.grow(chance.choice(ledger.lineages()).short)
        if chance.random() < 0.01 and len(ledger.registered) < 7:
            ledger.register("events", "e", f"shard {len(ledger.registered)}", ())
        if chance.random() < 0.1 and not inside:  # another reader, from beginning to end
            inside.append(True)
            found.append(_look(ledger))
            inside.clear()

    ledger = _BusyLedger(happens)
    for number in range(4):
        ledger.register("events", "e", f"shard {number}", ())
    for _ in range(30):
        found.append(_look(ledger))
    assert len({one.basis for one in found}) > 10
    for lower, higher in permutations(found, 2):
        if lower.basis <= higher.basis:  # equal ones are looked at both ways
            assert all(higher.newest.get(name, 0) >= count for name, count in lower.newest.items())


def test_a_commit_between_two_lineages() -> None:
    """The first lineage commits after it was looked at, then the second before it is: both are seen, or neither is."""
    looks = iter(range(1_000))

    def happens(ledger: _BusyLedger) -> None:
        if next(looks) == 1:
            ledger.grow("0001")
            ledger.grow("0001")
            ledger.grow("0002")
            ledger.grow("0002")

    ledger = _BusyLedger(happens)
    for name in ("one", "two"):
        ledger.register("events", "e", name, ())
    assert _look(ledger).newest == {"0001": 1, "0002": 1}


def test_a_ledger_that_never_stands_still() -> None:
    """It is looked at a bounded number of times; then a sentence says what to do."""
    ledger = _BusyLedger(lambda ledger: ledger.grow("0001"))
    ledger.register("events", "e", "one", ())
    ledger.register("events", "e", "two", ())
    with pytest.raises(Transient, match="try again"):
        _look(ledger)
