"""A receipt's state where the stream dropped what nobody had read: lost, and only what is lost."""

import asyncio
import random
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.event import Record
from pipeline.core.segment import Gap, Segment
from pipeline.flows.follow import POLL_SECONDS, Follower
from pipeline.flows.load import Loader
from tests.core.kit import event, wire
from tests.flows.falling_behind import FIRST, HOUR, House, dying, expired
from tests.flows.test_stretches import gap_segment
from tests.sim.archive import is_data, read_file


class Street(House):
    """A deployment whose records are known to whoever put them."""

    def __init__(self, **more: int) -> None:
        super().__init__(**more)
        self.sent: list[tuple[str, Record]] = []
        self.follower = self.new_follower()

    def put(self, count: int, shard_id: str = FIRST) -> None:
        """Put events one second apart."""
        for _ in range(count):
            self.number += 1
            record = self.stream.append(shard_id, wire(event(event_id=f"e{self.number}")), "key")
            self.sent.append((shard_id, record))
            self.clock.advance(1)

    def new_follower(self) -> Follower:
        """Return a follower that knows nothing yet."""
        return Follower(self.ledger, (self.stream.name, self.stream.epoch), self.clock, ThreadPoolExecutor(1))

    def state(self, *numbers: int, follower: Follower | None = None) -> str:
        """Return what is said of a request that put the records of these numbers, from 1."""
        return asyncio.run((follower or self.new_follower()).state(self.receipt(*numbers)))

    def receipt(self, *numbers: int) -> ArrivalReceipt:
        """Return the receipt of a request, taken half a second before its first record arrived."""
        records = [self.sent[number - 1] for number in numbers]
        by_shard: dict[str, list[int]] = {}
        for shard, record in records:
            by_shard.setdefault(shard, []).append(int(record.sequence_number))
        return ArrivalReceipt(
            min(record.arrived_us for _, record in records) - 500_000,
            tuple((shard, str(max(found)), 0) for shard, found in by_shard.items()),
            tuple(str(min(found)) if min(found) < max(found) else "" for found in by_shard.values()),
        )

    def states(self) -> list[str]:
        """Return what is said of each record by a follower that is there all along, and be sure that a new one agrees."""
        self.clock.advance(POLL_SECONDS)
        fresh = self.new_follower()
        found = [self.state(one + 1, follower=self.follower) for one in range(len(self.sent))]
        assert found == [self.state(one + 1, follower=fresh) for one in range(len(self.sent))]
        return found

    def truth(self) -> list[str]:
        """Return what became of each record, by the archive and the stream alone."""
        shards = {one.short: one.shard_id for one in self.ledger.lineages()}
        archived = {
            (shards[row.place.lineage], row.place.sequence_number)
            for key, one in self.objects.stored.items()
            if is_data(key)
            for row in read_file(key, one.body).rows
        }
        kept = {
            (shard_id, one.sequence_number)
            for shard_id, shard in self.stream.by_id.items()
            for one in shard.records
        }
        return [
            "queryable" if place in archived else "received" if place in kept else "lost"
            for place in ((shard, one.sequence_number) for shard, one in self.sent)
        ]


def test_what_lies_in_a_gap_is_lost() -> None:
    """Not what was read before, nor the record behind the gap; also long after."""
    house = Street()
    house.put(4)
    house.work()
    house.put(5)
    assert house.states() == ["queryable"] * 4 + ["received"] * 5
    house.away(30)
    house.put(3)
    house.work()
    assert house.states() == house.truth() == ["queryable"] * 4 + ["lost"] * 5 + ["queryable"] * 3
    for _ in range(10):
        house.put(2)
        house.work()
    assert house.states() == house.truth()


def test_a_gap_at_the_end_is_lost_too() -> None:
    """Nothing came after: it stays lost, and what comes then is not."""
    house = Street()
    house.put(4)
    house.work()
    house.put(5)
    house.away(30)
    house.work()
    assert house.states() == ["queryable"] * 4 + ["lost"] * 5
    house.put(3)
    assert house.states()[-3:] == ["received"] * 3
    house.work()
    assert house.states() == house.truth() == ["queryable"] * 4 + ["lost"] * 5 + ["queryable"] * 3


def test_lost_before_anything_was_read() -> None:
    """A gap in front of a lineage's first segment, which has no end to begin at."""
    house = Street()
    house.loader(house.ledger.register("events", "1", FIRST, ())).start()
    house.put(4)
    house.away(30)
    house.work()
    assert house.states() == ["lost"] * 4
    house.put(2)
    house.work()
    assert house.states() == house.truth() == ["lost"] * 4 + ["queryable"] * 2


def test_a_planned_gap_decides() -> None:
    """It will be committed whatever fails, so nobody waits for it; a planned segment behind one is no way out."""
    house = Street()
    house.put(4)
    house.work()
    house.put(5)
    house.away(30)
    house.put(3)
    with _stopping_at_commit(house, lambda one: one.gap is not None):
        house.work()
    assert house.segments()[-1].state == "planned"
    assert house.states()[4:] == ["lost"] * 5 + ["received"] * 3
    with _stopping_at_commit(house, lambda one: one.counts.rows > 0):
        house.work()
    assert house.states()[4:] == ["lost"] * 5 + ["archived"] * 3


class _Gone(BaseException):
    """The worker."""


@contextmanager
def _stopping_at_commit(house: House, which: Callable[[Segment], bool]) -> Iterator[None]:
    commit = house.ledger.commit

    def dies(segment: Segment) -> bool:
        if which(segment):
            raise _Gone
        return commit(segment)

    house.ledger.commit = dies  # type: ignore[method-assign]
    with suppress(_Gone):
        yield
    house.ledger.commit = commit  # type: ignore[method-assign]


def test_what_a_slow_loader_held_is_not_lost() -> None:
    """It was taken for lost, as the gap said, until the loader that had read it in time committed it."""
    house = Street()
    house.put(4)
    house.work()
    lineage = house.ledger.register("events", "1", FIRST, ())
    slow = house.loader(lineage)
    house.put(5)
    slow.process(house.stream.reader(FIRST, slow.start()).read().records)  # three of them
    house.away(30)
    house.put(3)
    behind = house.loader(lineage)
    behind.process(
        house.stream.reader(FIRST, behind.start()).read().records
    )  # and dies: only its gap is there
    assert house.states()[4:] == ["lost"] * 5 + ["received"] * 3
    slow.stop()
    assert house.states()[4:] == ["queryable"] * 3 + ["lost"] * 2 + ["received"] * 3
    house.work()
    assert house.states() == house.truth()


def test_what_a_slow_loader_had_found_dropped_itself() -> None:
    """It held what came behind one gap while somebody else found the next: only the first one counts for its records."""
    house = Street()
    lineage = house.ledger.register("events", "1", FIRST, ())
    house.loader(lineage).start()
    house.put(1)
    house.away(25)
    house.put(2)
    slow = house.loader(lineage)
    slow.process(house.stream.reader(FIRST, slow.start()).read().records)
    house.away(40)
    house.work()
    assert house.states() == ["lost"] * 3
    slow.stop()
    assert house.states() == house.truth() == ["lost", "queryable", "queryable"]


def test_a_closed_shard_and_its_child() -> None:
    """Behind the end of a shard that expired unread everything is lost; so is what the child lost, and no more."""
    house = Street()
    lineage = expired(house)
    assert house.states() == ["queryable"] * 4 + ["received"] * 3
    house.read(lineage, lambda: False, lambda _ms: None)
    assert house.states() == ["queryable"] * 4 + ["lost"] * 2 + ["received"]
    child = house.shards().ready()[0]
    house.away(30)
    house.put(1, child.shard_id)
    end = house.clock.monotonic() + 1
    house.read(child, lambda: house.clock.monotonic() >= end, lambda _ms: None)
    assert house.states() == house.truth() == ["queryable"] * 4 + ["lost"] * 3 + ["queryable"]


def test_behind_a_shards_end_there_is_no_hope() -> None:
    """A last segment without a gap, by a loader that knew no retention: what lies behind it is read by nobody."""
    house = Street()
    house.put(2)
    house.work()
    [only] = house.segments()
    house.ledger.rows[only.lineage, 1] = replace(only, shard_end=True)
    house.put(1)
    assert house.states() == ["queryable", "queryable", "lost"]


def test_the_gap_of_an_older_stream_is_none_of_ours() -> None:
    """The same shard id and a gap over all places, in another creation of the stream, and in a redrive's lineage."""
    house = Street()
    older = house.ledger.register("events", "0", FIRST, ())
    house.ledger.rows[older.short, 1] = gap_segment(older.short, 1, None, Gap(0, 2**60))
    house.put(3)
    assert house.states() == ["received"] * 3
    house.work()
    redrive = house.ledger.register_redrive(house.ledger.register("events", "1", FIRST, ()))
    house.ledger.rows[redrive.short, 1] = gap_segment(redrive.short, 1, None, Gap(0, 2**60))
    assert house.states() == ["queryable"] * 3


def test_what_is_refused_has_come_as_far() -> None:
    """A unit in quarantine was read: it is not lost."""
    house = Street()
    house.sent.append((FIRST, house.stream.append(FIRST, b"no event at all", "key")))
    house.work()
    assert house.states() == ["queryable"]
    assert house.segments()[0].counts.quarantined == 1


# Requests of more than one record --------------------------------------------------------------------------


def test_one_lost_record_makes_a_request_lost() -> None:
    """Before the gap, in it, behind it: a request that reaches into it anywhere, also where its last record was read."""
    house = Street()
    house.put(4)
    house.work()
    house.put(5)
    house.away(30)
    house.put(3)
    house.work()
    house.put(2)
    house.work()
    house.put(1)
    assert [house.state(*one) for one in ((1, 4), (10, 12), (10, 14), (10, 15))] == [
        "queryable",
        "queryable",
        "queryable",
        "received",
    ]
    for lost in ((4, 5), (5, 9), (9, 10), (9, 14), (4, 14)):
        assert house.state(*lost) == house.state(*lost, follower=house.follower) == "lost"


def test_the_worst_shard_counts() -> None:
    """Lost on one shard, queryable or received on another: lost."""
    house = Street(shards=2)
    second = "shardId-000000000001"
    house.put(1)
    house.put(1, second)
    for shard in (FIRST, second):
        house.work(shard_id=shard)
    house.put(2)
    house.put(1, second)
    house.away(30)
    house.put(1)
    house.work()
    assert house.states() == ["queryable", "queryable", "lost", "lost", "received", "queryable"]
    assert [house.state(2, 3), house.state(3, 5), house.state(1, 5)] == ["lost", "lost", "received"]


@pytest.mark.parametrize("wanted", ["archived", "queryable"])
def test_waiting_ends_where_there_is_nothing_to_wait_for(wanted: str) -> None:
    """On a clock that stands still, which no wait for the state would outlast."""
    house = Street()
    house.put(1)
    house.work()
    house.put(1)
    house.away(30)
    house.work()

    async def asked() -> str:
        waiting = house.new_follower().wait(house.receipt(2), wanted, 60)  # type: ignore[arg-type]
        return str(await asyncio.wait_for(waiting, 20))

    assert asyncio.run(asked()) == "lost"


# Any order of things ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(12))
def test_whatever_happens_receipts_tell_the_truth(seed: int) -> None:
    """Absences, deaths behind a gap, slow loaders: at each step queryable is what the archive has, and in the end the rest is lost."""
    chance, house = random.Random(seed), Street(max_rows=4)
    house.stream.refuses_trimmed = chance.random() < 0.5
    house.work()
    slow: Loader | None = None
    for _ in range(25):
        what = chance.choice(["put", "put", "work", "away", "long", "die", "slow", "stop"])
        if what == "put":
            house.put(chance.randint(1, 4))
        elif what == "work":
            house.work(chance.choice([0.5, 2]))
        elif what in ("away", "long"):
            house.away(chance.uniform(1, 20) if what == "away" else chance.uniform(24, 40))
        elif what == "die":
            with dying(house):
                house.work()
        elif what == "slow" and slow is None:
            lineage = house.ledger.register("events", "1", FIRST, ())
            slow = house.loader(lineage)
            slow.process(house.stream.reader(FIRST, slow.start()).read().records)
        elif what == "stop" and slow is not None:
            slow.stop()
            slow = None
        said = house.states()
        assert [
            one
            for one, true in zip(said, house.truth(), strict=True)
            if "queryable" in (one, true) and one != true
        ] == []
    if slow is not None:
        slow.stop()
    house.work(HOUR / 10)
    assert house.states() == house.truth()
