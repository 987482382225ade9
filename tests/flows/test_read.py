"""Reading shards: until the end, until a stop, children after parents; and calls that are tried again."""

from collections.abc import Callable

import pytest

from pipeline.core.errors import Corrupt, HeadraceError, LeaseLost, NotFound, OutcomeUnknown, Transient
from pipeline.core.retry import Backoff
from pipeline.core.segment import Position
from pipeline.core.staging import StagedObject, digest_of
from pipeline.facts import CallRetried
from pipeline.flows.read import ReadPorts, Shards
from pipeline.flows.retrying import again
from pipeline.flows.write import finish, put_once
from tests.core.kit import event, wire
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.flows.deployment import Deployment

FIRST = "shardId-000000000000"


def _put(house: Deployment, count: int, shard_id: str = FIRST, first: int = 0) -> None:
    for number in range(first, first + count):
        house.stream.append(shard_id, wire(event(event_id=f"e{number}")), "key")


def _register(house: Deployment, shard_id: str = FIRST) -> str:
    return house.ledger.register(house.stream.name, house.stream.epoch, shard_id, ()).short


def _shards(house: Deployment) -> Shards:
    return Shards(ReadPorts(house.stream, house.ledger, house.clock, house.facts, lambda: False))


def _stop_after(pauses: int, house: Deployment) -> Callable[[], bool]:
    """Return a stop that comes when the clock has been paused so often."""
    return lambda: house.clock.monotonic() >= pauses * 0.25


def _rows(house: Deployment) -> int:
    return sum(segment.counts.rows for segment in house.ledger.rows.values() if segment.state == "committed")


def test_a_stop_cuts_what_is_collected() -> None:
    """Asked to stop, the worker commits what it has read, though no limit was reached, and says why."""
    house = Deployment(max_rows=1_000)
    _put(house, 7)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    loader = house.read(lineage, _stop_after(2, house), lambda _ms: None)
    assert (_rows(house), loader.ended) == (7, False)
    assert loader.committed == Position(house.stream.by_id[FIRST].records[-1].sequence_number, 0)
    assert [segment.shard_end for segment in house.ledger.rows.values()] == [False]
    assert [fact.reason for fact in house.facts.told if type(fact).__name__ == "SegmentCommitted"] == ["stop"]  # type: ignore[attr-defined]


def test_a_stop_without_records_writes_nothing() -> None:
    """An idle worker that stops leaves no segment."""
    house = Deployment()
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    house.read(lineage, _stop_after(3, house), lambda _ms: None)
    assert house.ledger.rows == {}


def test_time_cuts_while_nothing_comes() -> None:
    """An idle stream is still cut by age: the tick runs on empty reads."""
    house = Deployment(max_rows=1_000)
    _put(house, 3)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    house.read(lineage, _stop_after(4 * 61, house), lambda _ms: None)
    assert [fact.reason for fact in house.facts.told if type(fact).__name__ == "SegmentCommitted"] == ["age"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("count", [0, 7])
def test_the_end_of_a_shard_is_committed(count: int) -> None:
    """A closed shard is read to its end and its last segment says so, also when there was nothing in it."""
    house = Deployment(max_rows=5)
    _put(house, count)
    house.stream.split(FIRST)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    loader = house.read(lineage, lambda: False, lambda _ms: None)
    assert (_rows(house), loader.ended) == (count, True)
    assert [segment.shard_end for _, segment in sorted(house.ledger.rows.items())][-1]
    again_loader = house.read(
        lineage, lambda: False, lambda _ms: None
    )  # another worker, later: nothing to do
    assert again_loader.ended
    assert len({key[1] for key in house.ledger.rows}) == len(house.ledger.rows)


def test_a_restart_reads_on() -> None:
    """A second worker starts after what is committed: no record twice, none left out."""
    house = Deployment(max_rows=4)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    for turn in range(3):
        _put(house, 6, first=turn * 6)
        house.read(lineage, _stop_after(1, house) if turn == 0 else _later(house), lambda _ms: None)
    assert _rows(house) == 18
    assert sum(segment.counts.duplicates for segment in house.ledger.rows.values()) == 0


def _later(house: Deployment) -> Callable[[], bool]:
    began = house.clock.monotonic()
    return lambda: house.clock.monotonic() > began


def test_lag_is_told() -> None:
    """After each read the worker says how far behind it is; at the end of the stream it is not."""
    house, told = Deployment(), list[int]()
    for number in range(7):
        _put(house, 1, first=number)
        house.clock.advance(1)
    lineage = house.ledger.register(house.stream.name, house.stream.epoch, FIRST, ())
    house.read(lineage, _later(house), told.append)
    assert told[0] > told[1] > told[2] == 0


def test_each_shard_is_started_once() -> None:
    """All open shards start at first sight, and never again in this process."""
    house = Deployment(shards=3)
    shards = _shards(house)
    assert [one.shard_id for one in shards.ready()] == [f"shardId-{number:012d}" for number in range(3)]
    assert shards.ready() == []


def test_children_wait_for_their_parents() -> None:
    """A child starts when its parent's last segment is committed, not when it is planned, nor before it was read."""
    house = Deployment()
    _put(house, 3)
    children = house.stream.split(FIRST)
    shards = _shards(house)
    [parent] = shards.ready()
    assert parent.shard_id == FIRST
    assert shards.ready() == []
    house.read(parent, lambda: False, lambda _ms: None)
    key = max(house.ledger.rows)
    committed = house.ledger.rows[key]
    house.ledger.rows[key] = type(committed)(**{**vars(committed), "state": "planned"})
    assert shards.ready() == []
    house.ledger.rows[key] = committed
    found = shards.ready()
    assert [one.shard_id for one in found] == list(children)
    assert all(one.parents == (parent.short,) for one in found)


def test_a_merged_shard_waits_for_both() -> None:
    """After a merge the child waits for the slower parent."""
    house = Deployment(shards=2)
    shards = _shards(house)
    left, right = shards.ready()
    child = house.stream.merge(left.shard_id, right.shard_id)
    house.read(left, lambda: False, lambda _ms: None)
    assert shards.ready() == []
    house.read(right, lambda: False, lambda _ms: None)
    [found] = shards.ready()
    assert (found.shard_id, found.parents) == (child, (left.short, right.short))


# Calls that are tried again ------------------------------------------------------------------------------


class _Call:
    """Fails with the given errors, one after the other, then answers."""

    def __init__(self, *errors: HeadraceError) -> None:
        self.errors, self.calls = list(errors), 0

    def __call__(self) -> str:
        """Answer or fail."""
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


def _again(call: _Call, budget: Backoff | None = None) -> tuple[str, SteppedClock, FactList]:
    clock, facts = SteppedClock(), FactList()
    return again("call", call, clock=clock, facts=facts, budget=budget), clock, facts


def test_what_may_work_later_is_tried_again() -> None:
    """Transient and OutcomeUnknown are repeated after a pause, each told with its attempt."""
    answer, _clock, facts = _again(_Call(Transient("busy"), OutcomeUnknown("no answer")))
    assert answer == "done"
    assert [(fact.attempt, fact.error) for fact in facts.told if isinstance(fact, CallRetried)] == [
        (1, "Transient: busy"),
        (2, "OutcomeUnknown: no answer"),
    ]


def test_a_call_that_works_is_made_once() -> None:
    """No error: one call, no pause, no fact."""
    call = _Call()
    _answer, clock, facts = _again(call)
    assert (call.calls, clock.monotonic(), facts.told) == (1, 0.0, [])


def test_the_budget_ends_it() -> None:
    """When the budget is spent the last error leaves, after as many calls as it allows and within its waits."""
    call, clock, facts = _Call(*[Transient(str(number)) for number in range(9)]), SteppedClock(), FactList()
    with pytest.raises(Transient, match="3"):
        again(
            "call", call, clock=clock, facts=facts, budget=Backoff(attempts=4, base_seconds=1, cap_seconds=2)
        )
    assert call.calls == 4
    assert len(facts.told) == 3
    assert 0 < clock.monotonic() <= 1 + 2 + 2


@pytest.mark.parametrize("error", [Corrupt("c"), LeaseLost("l"), NotFound("n")])
def test_what_will_never_work_is_not_tried_again(error: HeadraceError) -> None:
    """Other errors leave at once."""
    call = _Call(error)
    with pytest.raises(type(error)):
        _again(call)
    assert call.calls == 1


# Objects that are there already --------------------------------------------------------------------------


def test_the_same_object_is_done() -> None:
    """Writing an object that is there with the same digest is no error and changes nothing."""
    house = Deployment()
    staged = StagedObject("k", b"body", digest_of(b"body"))
    put_once(staged, house.write_ports())
    put_once(staged, house.write_ports())
    assert house.objects.get("k") == b"body"


@pytest.mark.parametrize("digest", ["another", ""])
def test_another_digest_is_corrupt(digest: str) -> None:
    """An object under our key with other bytes stops everything: nobody may decide which is right."""
    house = Deployment()
    house.objects.put_if_absent("k", b"other", digest)
    with pytest.raises(Corrupt, match=r"object k .* run `headrace audit`"):
        put_once(StagedObject("k", b"body", digest_of(b"body")), house.write_ports())
    assert house.objects.get("k") == b"other"


def test_a_planned_segment_without_its_staging_object_is_not_committed() -> None:
    """Finishing needs the staged effects: without them, or with other bytes, the segment stays planned."""
    house = Deployment(max_rows=3)
    _put(house, 3)
    house.load()
    [(key, segment)] = house.ledger.rows.items()
    planned = type(segment)(**{**vars(segment), "state": "planned"})
    house.ledger.rows[key] = planned
    whole = house.objects.stored.pop(segment.staging_key)
    with pytest.raises(Corrupt, match=r"0001/1 is planned, but its staging object .* is gone"):
        finish(planned, house.write_ports())
    house.put_object(segment.staging_key, whole.body + b"\0")
    with pytest.raises(Corrupt):
        finish(planned, house.write_ports())
    assert house.ledger.rows[key].state == "planned"
    house.put_object(segment.staging_key, whole.body)
    finish(planned, house.write_ports())
    assert house.ledger.rows[key].state == "committed"
