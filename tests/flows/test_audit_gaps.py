"""The ledger's gaps in the audit: what was dropped unread is a term with a name, and excuses nothing else."""

from collections.abc import Callable

from msgspec import structs

from tests.flows.falling_behind import DAY_US, FIRST, House


def _lose(house: House, later: Callable[[], None]) -> None:
    house.produce(20)
    house.work()
    house.produce(15, "prod2", 100)
    house.away(30)
    later()


def test_the_audit_names_a_gap() -> None:
    """Receipts of what was dropped are a term with a name: balanced, not complete, no batch lost without a reason."""
    house = House(max_rows=5)
    _lose(house, lambda: house.produce(10, "prod3", 200))
    house.work()
    report = house.audit()
    assert (report.differences, report.balanced, report.complete) == ([], True, False)
    total = report.total()
    assert (total.received, total.archived, total.in_gap, total.difference) == (45, 30, 15, 0)
    assert [(gap.shard_id, gap.events) for gap in report.gaps] == [(FIRST, 15)]


def test_what_is_dropped_is_not_on_its_way() -> None:
    """With nothing behind the gap its events are lost all the same, and not in flight."""
    house = House(max_rows=5)
    _lose(house, lambda: None)
    house.work()
    report = house.audit()
    assert (report.in_flight, report.total().in_gap, report.complete) == (0, 15, False)


def test_what_came_after_a_gap_is_on_its_way() -> None:
    """A gap with nothing behind it yet holds what was acknowledged by its end, and nothing that came later."""
    house = House(max_rows=5)
    _lose(house, lambda: None)
    house.work()
    house.produce(10, "prod3", 200)
    report = house.audit()
    assert (report.in_flight, report.total().in_gap, report.differences) == (10, 15, [])


def test_a_loss_outside_a_gap_is_a_difference() -> None:
    """A batch that a loader lost by itself is not excused by a gap elsewhere."""
    house = House(max_rows=5)
    house.produce(20)
    lost = house.stream.by_id[FIRST].records[1].sequence_number
    house.load(only=lambda record: record.sequence_number != lost)
    house.away(30)
    house.produce(10, "prod3", 200)
    house.work()
    assert [one.kind for one in house.audit().differences] == ["batch_lost"]
    assert house.audit().total().in_gap == 0


def test_a_loss_behind_a_gap_is_a_difference() -> None:
    """What came after the first record behind a gap was there to be read: the gap excuses none of it."""
    house = House(max_rows=5)
    _lose(house, lambda: house.produce(20, "prod3", 200))
    left = [one.sequence_number for one in house.stream.by_id[FIRST].records]
    house.load(only=lambda record: record.sequence_number != left[1])
    assert [gap.before for gap in house.gaps()] == [left[0]]
    report = house.audit()
    assert [one.kind for one in report.differences] == ["batch_lost"]
    assert report.total().in_gap == 15


def test_what_an_expired_shard_took_along_is_lost_whatever_the_clocks_say() -> None:
    """Behind the end of a shard nothing comes any more: also a receipt from after the gap's end lies in it."""
    house = House()
    house.put(4)
    house.work()
    house.produce(6)
    for key, one in house.receipts.stored.items():  # of a producer whose clock is ahead
        times = {"acked_from_us": one.acked_from_us + DAY_US, "acked_until_us": one.acked_until_us + DAY_US}
        house.receipts.stored[key] = structs.replace(one, **times)
    house.stream.split(FIRST)
    house.shards().ready()
    house.away(30)
    house.stream.expire(FIRST)
    [lineage] = house.shards().ready()
    house.read(lineage, lambda: False, lambda _ms: None)
    [gap] = house.gaps()
    assert gap.until_us < min(one.acked_from_us for one in house.receipts.all())
    report = house.audit()
    assert (report.in_flight, report.total().in_gap, report.differences) == (0, 6, [])
