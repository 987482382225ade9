"""What a look costs in a ledger with very many segments and gaps: a few rows, and a memory with a limit."""

import asyncio
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.errors import Corrupt
from pipeline.core.segment import Counts, Gap, Position, Segment
from pipeline.flows.follow import POLL_SECONDS, Follower
from pipeline.flows.stretches import KEPT
from pipeline.ports.ledger import Opening
from tests.fakes.clock import SteppedClock
from tests.fakes.ledger import MemoryLedger
from tests.flows.falling_behind import FIRST

_EMPTY = Counts(0, 0, 0, 0, 0, 0, 0, 0)


class CountingLedger(MemoryLedger):
    """Counts the rows that are read; has no list of all."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0
        self._newest: dict[str, Segment] = {}

    def fill(self, lineage: str, segments: Iterable[Segment]) -> None:
        """Take committed segments as they are."""
        for one in segments:
            self.rows[lineage, one.ordinal] = self._newest[lineage] = one

    def open(self, lineage: str) -> Opening:
        """Return the newest segment."""
        self.read += 1
        return Opening(self._newest.get(lineage), self.seal)

    def segment(self, lineage: str, ordinal: int) -> Segment | None:
        """Return one segment."""
        self.read += 1
        return super().segment(lineage, ordinal)

    def segments(self, lineage: str) -> list[Segment]:
        """Fail: this is every row."""
        raise AssertionError(f"all segments of {lineage} were asked for")

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        """Fail: this may be every row."""
        raise AssertionError(f"segments of {lineage} since {since_us} were asked for")


def gap_segment(lineage: str, ordinal: int, at: Position | None, gap: Gap) -> Segment:
    """Return a committed gap."""
    return Segment(
        lineage, ordinal, "committed", at, at, f"key{ordinal}", _EMPTY, (), "rules", 0, 1, 1, gap=gap
    )


def _long_lived(lineage: str, pairs: int) -> Iterator[Segment]:
    """Yield a gap of a hundred places and the segment behind it, over and over; a thousand places each time."""
    end = None
    for pair in range(pairs):
        first = 1_000 * pair
        yield gap_segment(lineage, 2 * pair + 1, end, Gap(first, first + 100, str(first + 100)))
        start, end = end, Position(str(first + 999), 0)
        yield Segment(
            lineage, 2 * pair + 2, "committed", start, end, f"key{pair}", _EMPTY, (), "rules", 0, 1, 1
        )


def test_many_gaps_cost_no_scan() -> None:
    """Twenty thousand segments, half of them gaps: a few rows for a place far back, none for its neighbours."""
    ledger, pairs = CountingLedger(), 10_000
    lineage = ledger.register("events", "1", FIRST, ()).short
    ledger.fill(lineage, _long_lived(lineage, pairs))
    follower = Follower(ledger, ("events", "1"), SteppedClock(), ThreadPoolExecutor(1))

    async def ask() -> None:
        async def state(place: int) -> str:
            return await follower.state(ArrivalReceipt(0, ((FIRST, str(place), 0),)))

        newest = (pairs - 1) * 1_000
        assert [await state(newest + one) for one in (99, 100, 999)] == ["lost", "queryable", "queryable"]
        assert ledger.read == 2
        for pair in (0, 1, 77, 5_000, pairs - 2):
            before = ledger.read
            assert await state(pair * 1_000 + 50) == "lost"
            assert ledger.read - before <= 33
            looked_up = ledger.read
            assert [await state(pair * 1_000 + one) for one in (0, 99, 100, 999)] == ["lost"] * 2 + [
                "queryable"
            ] * 2
            assert ledger.read == looked_up
        for pair in range(1_000, 1_000 + 2 * KEPT):
            assert await state(pair * 1_000 + 100) == "queryable"
        assert len(follower._stretches[FIRST]) == KEPT

    asyncio.run(ask())


def test_following_costs_one_row_a_look() -> None:
    """Whoever waits while segments come one by one reads nothing but the newest."""
    ledger, clock = CountingLedger(), SteppedClock()
    lineage = ledger.register("events", "1", FIRST, ()).short
    follower = Follower(ledger, ("events", "1"), clock, ThreadPoolExecutor(1))

    async def ask() -> None:
        for number, one in enumerate(_long_lived(lineage, 200), start=1):
            ledger.fill(lineage, [one])
            clock.advance(POLL_SECONDS)
            places = (one.end, Position("50", 0), Position("150", 0)) if one.end else ()
            for place in places:
                await follower.state(ArrivalReceipt(0, ((FIRST, place.sequence_number, 0),)))
            assert ledger.read <= number

    asyncio.run(ask())


def test_a_ledger_that_lacks_a_row_is_named() -> None:
    """It is neither lost nor queryable: somebody has to look."""
    ledger = CountingLedger()
    lineage = ledger.register("events", "1", FIRST, ()).short
    ledger.fill(lineage, _long_lived(lineage, 10))
    del ledger.rows[lineage, 3]
    follower = Follower(ledger, ("events", "1"), SteppedClock(), ThreadPoolExecutor(1))
    with pytest.raises(Corrupt, match=f"{lineage}/3 is not in the ledger"):
        asyncio.run(follower.state(ArrivalReceipt(0, ((FIRST, "1150", 0),))))
