"""Falling behind the stream's retention: a gap in the ledger, an alarm, a term of the audit; and never without reason."""

from contextlib import suppress
from dataclasses import replace

import pytest

from pipeline.core.errors import OutcomeUnknown
from pipeline.core.gap import Keeping
from pipeline.core.segment import Lineage, Segment
from pipeline.flows.load import Loader, LoadLimits
from pipeline.ports.ledger import PlanAnswer
from pipeline.ports.stream import Batch
from tests.core.kit import event, wire
from tests.flows.falling_behind import DAY_US, FIRST, HOUR, MARGIN_US, DeadError, House, dying, expired
from tests.flows.test_suspicion import CountedProbe


@pytest.mark.parametrize("refuses", [False, True])
def test_falling_behind_is_recorded_once(*, refuses: bool) -> None:
    """From the last arrival read until the oldest that was kept; told once; loading goes on behind it."""
    house = House()
    house.stream.refuses_trimmed = refuses
    house.put(4)
    house.work()
    last = house.segments()[-1].max_arrival_us
    house.put(5)
    house.away(30)
    house.put(3)
    before = house.clock.now_us()
    house.work()
    house.work()
    [gap] = house.gaps()
    assert (gap.from_us, gap.until_us) == (last, before - DAY_US)
    assert gap.before == house.stream.by_id[FIRST].records[0].sequence_number
    [alarm] = house.alarms()
    assert (alarm.from_us, alarm.until_us) == (gap.from_us, gap.until_us)
    first, empty, after = house.segments()
    assert (empty.start, empty.end, empty.counts.units) == (first.end, first.end, 0)
    assert (after.start, after.counts.rows) == (first.end, 3)


def test_nothing_came_while_nobody_read() -> None:
    """Whether there was anything nobody can know: the gap is there, without a record behind it."""
    house = House()
    house.put(4)
    house.work()
    house.away(30)
    house.work()
    assert [gap.before for gap in house.gaps()] == [""]


def test_a_short_absence_has_no_gap() -> None:
    """Within the retention everything is still there."""
    house = House()
    house.put(4)
    house.work()
    house.put(5)
    house.away(23)
    house.work()
    assert (house.gaps(), sum(one.counts.rows for one in house.segments())) == ([], 9)


def test_the_first_start_has_no_gap() -> None:
    """What was dropped before anybody read is not ours; what came since the first start is."""
    house = House()
    house.put(4)
    house.away(30)
    house.put(2)
    house.loader(house.ledger.register("events", "1", FIRST, ())).start()
    assert house.gaps() == []
    house.away(30)
    house.work()
    assert len(house.gaps()) == 1


def test_too_slow_a_worker_finds_out() -> None:
    """Not only at the start: what is dropped between two reads of a running worker is a gap too."""
    house = House()
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    loader = house.loader(lineage)
    house.put(6)
    reader = house.stream.reader(FIRST, loader.start())
    loader.process(reader.read().records)  # three of them
    house.away(30)
    house.put(2)
    loader.process(reader.read().records)
    loader.stop()
    kinds = [(one.counts.rows, one.gap is not None) for one in house.segments()]
    assert kinds == [(3, False), (0, True), (2, False)]


def test_two_workers_find_the_same_gap() -> None:
    """The plan decides: one of them records it, the other sees that it is done."""
    house = House()
    house.put(4)
    house.work()
    house.away(30)
    house.put(3)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    loaders = [house.loader(lineage) for _ in range(2)]
    records = [house.stream.reader(FIRST, loader.start()).read().records for loader in loaders]
    for loader, found in zip(loaders, records, strict=True):
        loader.process(found)
    for loader in loaders:
        loader.stop()
    assert len(house.gaps()) == len(house.alarms()) == 1
    assert sum(one.counts.rows for one in house.segments()) == 7


def test_an_expired_shard_is_closed() -> None:
    """A shard that is listed no more, and was not read to its end, gets its gap and its end; then its children start."""
    house = House()
    lineage = expired(house)
    assert lineage.shard_id == FIRST
    loader = house.read(lineage, lambda: False, lambda _ms: None)
    assert loader.ended
    assert [(one.shard_end, one.gap is not None) for one in house.segments()] == [
        (False, False),
        (True, True),
    ]
    shards = house.shards()
    assert [one.parents for one in shards.ready()] == [(lineage.short,)] * 2
    assert shards.ready() == []


def test_a_child_inherits_what_its_parent_missed() -> None:
    """A child that was never read, and lost records while nobody read, has a gap from where its parent was read."""
    house = House()
    lineage = expired(house)
    house.read(lineage, lambda: False, lambda _ms: None)
    [parent] = house.gaps()
    child = house.shards().ready()[0]
    end = house.clock.monotonic() + 1
    house.read(child, lambda: house.clock.monotonic() >= end, lambda _ms: None)
    found = house.ledger.segments(child.short)
    assert found[0].gap is not None
    assert found[0].gap.from_us == parent.from_us - MARGIN_US
    assert found[1].counts.rows == 1


def test_expired_shards_are_closed_in_their_order() -> None:
    """A child that expired too waits for its parent: it would take nothing as known, and lose records without a gap."""
    house = House()
    house.put(4)
    house.work()
    child, _ = house.stream.split(FIRST)
    house.put(1, child)
    house.stream.split(child)
    house.shards().ready()  # all are known, and wait
    house.away(30)
    house.stream.expire(FIRST)
    house.stream.expire(child)
    shards = house.shards()
    [first] = shards.ready()
    assert first.shard_id == FIRST
    closed: list[str] = []

    def close(lineage: Lineage) -> None:
        closed.append(lineage.shard_id)
        house.read(lineage, lambda: False, lambda _ms: None)

    house.shards().chosen("shardId-000000000003", 1.0, close)
    assert closed == [FIRST, child]
    parent, of_the_child = [gap.from_us for gap in house.gaps()]
    assert of_the_child == parent - MARGIN_US


def test_a_gap_is_not_found_again() -> None:
    """Workers that die in front of the record behind a gap do not put another one there, however late they come."""
    house = House()
    house.put(4)
    house.work()
    house.put(5)
    house.away(30)
    house.put(3)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    for _ in range(3):  # each dies with its records collected
        loader = house.loader(lineage)
        batch = house.stream.reader(FIRST, loader.start()).read()
        loader.process(batch.records, trimmed=batch.trimmed)
        house.clock.advance(7)
    assert len(house.gaps()) == len(house.alarms()) == 1
    house.away(30)  # and what lay behind it is dropped as well: that is another
    house.put(1)
    house.work()
    assert [gap.until_us for gap in house.gaps()] == sorted(gap.until_us for gap in house.gaps())
    assert len(house.gaps()) == 2


def test_a_gap_lifts_no_suspicion() -> None:
    """A deadly record behind a gap: the committed end is where it was, and so are the starts that died there."""
    house, probe = House(), CountedProbe()
    house.put(4)
    house.work()
    house.away(30)
    house.put(2)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    for _ in range(2):
        house.loader(lineage).start()  # dies before it has read
    ports = replace(house.write_ports(), probe=probe)
    loader = Loader(lineage, house.rules, house.limits, ports)
    batch = house.stream.reader(FIRST, loader.start()).read()
    loader.process(batch.records, trimmed=batch.trimmed)
    assert len(house.gaps()) == 1
    assert probe.asked == [2]


def test_the_gap_of_a_dead_worker_is_told() -> None:
    """Planned and not committed: whoever finishes it raises the alarm."""
    house = House()
    house.put(4)
    house.work()
    house.away(30)
    house.put(1)
    house.work()
    key = next(key for key, one in house.ledger.rows.items() if one.gap is not None)
    for later in [one for one in house.ledger.rows if one > key]:
        del house.ledger.rows[later]
    house.ledger.rows[key] = replace(house.ledger.rows[key], state="planned")
    house.facts.told.clear()
    house.loader(house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())).start()
    assert len(house.alarms()) == 1


def test_a_refused_position_is_evidence() -> None:
    """Where nothing is known of the retention, a position that the stream refuses still tells."""
    house = House()
    house.limits = LoadLimits(house.limits.cut, house.limits.window)
    house.stream.refuses_trimmed = True
    house.put(4)
    house.work()
    house.put(5)
    house.away(30)
    house.put(3)
    house.work()
    [gap] = house.gaps()
    assert gap.until_us == house.stream.by_id[FIRST].records[0].arrived_us


def test_what_was_held_behind_a_gap_does_not_hide_it() -> None:
    """A worker that held records when another took them for dropped: the gap is known on, and none overlaps it."""
    house = House()
    house.put(4)
    house.work()
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    slow = house.loader(lineage)
    house.put(3)
    slow.process(house.stream.reader(FIRST, slow.start()).read().records)
    house.away(30)
    house.put(3)
    behind = house.loader(lineage)
    behind.process(
        house.stream.reader(FIRST, behind.start()).read().records
    )  # and dies: only its gap is there
    slow.stop()
    [gap] = house.gaps()
    house.clock.advance(60)
    house.work()
    assert house.gaps() == [gap]
    assert [(one.counts.rows, one.gap_beyond) for one in house.segments() if one.counts.rows > 0] == [
        (4, None),
        (3, gap),
        (3, None),
    ]
    house.away(30)
    house.work()
    assert [one.from_us for one in house.gaps()] == [gap.from_us, house.segments()[-2].max_arrival_us]


def test_the_next_gap_begins_where_the_last_one_ended() -> None:
    """Also when what a slow worker had held lies between them in the ledger."""
    house = House()
    house.put(4)
    house.work()
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    slow = house.loader(lineage)
    house.put(3)
    slow.process(house.stream.reader(FIRST, slow.start()).read().records)
    house.away(30)
    with dying(house):
        house.work()
    slow.stop()
    house.away(30)
    house.work()
    first, second = house.gaps()
    assert first.until_us == second.from_us


def test_records_that_are_handed_over_late_end_a_gap() -> None:
    """Fetched in time and handed over after the retention: what was dropped lies behind them, and so does its gap."""
    house = House(max_rows=5)
    house.produce(20)
    house.work()
    house.produce(40, "prod2", 100)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    slow = house.loader(lineage)
    held = house.stream.reader(FIRST, slow.start()).read().records
    house.away(30)
    slow.process(held)
    slow.stop()
    house.work()
    first, *_, last = house.gaps()
    assert first.until_us <= min(one.arrived_us for one in held)
    assert last.until_us == house.clock.now_us() - DAY_US - 10**6
    report = house.audit()
    assert (report.differences, report.in_flight) == ([], 0)
    assert report.total().in_gap > 0


class _Empty:
    """A closed shard, read long after, which says nothing once before it gives its end."""

    def __init__(self) -> None:
        self.asked = 0

    def read(self) -> Batch:
        self.asked += 1
        return Batch([], 0, ended=self.asked > 1)


@pytest.mark.parametrize("quiet_hours", [0, 30])
def test_a_child_does_not_inherit_an_idle_answer(monkeypatch: pytest.MonkeyPatch, quiet_hours: float) -> None:
    """A parent that was read to its end late says nothing of the time in which its child had records already."""
    house = House()
    house.put(4)
    house.work()
    for _ in range(3):  # while it is open, its notes do tell
        house.away(quiet_hours / 3)
        house.work()
    house.clock.advance(HOUR)
    child_id = house.stream.split(FIRST)[0]
    house.put(5, child_id)
    house.away(10)
    parent = house.ledger.register("events", "1", FIRST, ())
    with monkeypatch.context() as late:
        late.setattr(house.stream, "reader", lambda *_: _Empty())
        assert house.read(parent, lambda: False, lambda _ms: None).ended
    house.away(14.5)
    house.put(2, child_id)
    house.work(shard_id=child_id)
    found = [one for one in house.segments() if one.lineage != parent.short]
    assert sum(one.counts.rows for one in found) == 2
    [gap] = [one.gap for one in found if one.gap]
    assert gap.from_us < house.clock.now_us() - DAY_US
    assert gap.from_us >= house.clock.now_us() - 26 * HOUR * 10**6


def test_a_child_inherits_from_before_the_first_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closed parent that gave idle answers to workers who died, and got a gap each time: its child was born before all."""
    house = House()
    house.put(4)
    house.work()
    last = house.segments()[-1].max_arrival_us
    child_id = house.stream.split(FIRST)[0]
    house.put(5, child_id)
    parent = house.ledger.register("events", "1", FIRST, ())
    monkeypatch.setattr(house.stream, "reader", lambda *_: _Empty())
    for _ in range(2):
        house.away(30)
        with dying(house):
            house.read(parent, lambda: False, lambda _ms: None)
    assert house.read(parent, lambda: False, lambda _ms: None).ended
    monkeypatch.undo()
    house.work(shard_id=child_id)
    first, second, of_the_child = [one.from_us for one in house.gaps()]
    assert first == of_the_child + MARGIN_US == last < second


def test_two_shards_may_disagree_on_the_time() -> None:
    """A child's first record is older than its parent's last, by the stream's own stamps, and dropped: there is a gap."""
    house = House()
    house.put(4)
    child_id = house.stream.split(FIRST)[0]
    parent = house.ledger.register("events", "1", FIRST, ())
    assert house.read(parent, lambda: False, lambda _ms: None).ended
    last = house.segments()[-1].max_arrival_us
    house.stream.append(child_id, wire(event(event_id="early")), "key", last - 10**6)
    house.clock.advance((last - house.clock.now_us() + DAY_US) / 1e6 - 0.5)
    assert house.stream.trim() > 0
    house.work(shard_id=child_id)
    [gap] = house.gaps()
    assert gap.from_us < last - 10**6 < gap.until_us


@pytest.mark.parametrize("dies", [False, True])
def test_the_alarm_outlasts_a_lost_answer(*, dies: bool) -> None:
    """The commit arrived, and its answer did not, or nobody was left to hear it: the gap was told before."""
    house = House()
    house.put(4)
    house.work()
    house.away(30)
    house.put(3)
    commit = house.ledger.commit

    def unanswered(segment: Segment) -> bool:
        commit(segment)
        if segment.gap and dies:
            raise DeadError
        return commit(segment)  # sent again: it is committed already

    house.ledger.commit = unanswered  # type: ignore[method-assign]
    with suppress(DeadError):
        house.work()
    house.ledger.commit = commit  # type: ignore[method-assign]
    house.work()
    assert len(house.gaps()) == len(house.alarms()) == 1


WEEK = Keeping(
    7 * DAY_US
)  # as it was when the worker started: lowered to a day since, so that time tells nothing


@pytest.mark.parametrize("lost", [False, True])
def test_a_refused_position_outlasts_an_unknown_plan(*, lost: bool) -> None:
    """A plan without an answer is looked up: where it did not hold the evidence is still needed, else it is used up."""
    house = House()
    house.stream.refuses_trimmed, house.limits = True, replace(house.limits, keeping=WEEK)
    house.put(4)
    house.work()
    house.put(5)
    house.away(30)
    house.put(3)
    plan, asked = house.ledger.plan, list[Segment]()

    def unanswered(segment: Segment) -> PlanAnswer:
        asked.append(segment)
        if len(asked) == 1:
            if not lost:
                plan(segment)
            raise OutcomeUnknown("no answer")
        return plan(segment)

    house.ledger.plan = unanswered  # type: ignore[method-assign]
    house.work()
    assert len(house.gaps()) == len(house.alarms()) == 1
    assert sum(one.counts.rows for one in house.segments()) == 7


def test_an_expired_shard_is_evidence() -> None:
    """A closed shard whose position is refused, with nothing left: a gap, whatever the retention was."""
    house = House()
    house.stream.refuses_trimmed, house.limits = True, replace(house.limits, keeping=WEEK)
    lineage = expired(house)
    loader = house.read(lineage, lambda: False, lambda _ms: None)
    assert loader.ended
    [gap] = house.gaps()
    assert (gap.from_us, gap.before) == (house.segments()[0].max_arrival_us, "")
