"""Redrive: what comes apart, and what was taken apart already and never does again."""

import gzip

import pytest
from msgspec.structs import replace

from pipeline.core.event import Limits
from pipeline.core.kpl import Aggregate
from pipeline.core.open_segment import unit_key
from pipeline.core.redriven import RefusedUnit, Wanted
from tests.core.kit import DOOR, rules_for
from tests.flows.deployment import Deployment
from tests.flows.redriving import again, archived, bare, dry, marks, send

FEW = rules_for(DOOR, limits=Limits(max_record_events=2))


def aggregate(*payloads: bytes) -> bytes:
    maker = Aggregate()
    for payload in payloads:
        maker.add(payload)
    return maker.encode("key", "0")


def batch(*payloads: bytes) -> bytes:
    return b"[" + b",".join(payloads) + b"]"


def lines(*payloads: bytes) -> bytes:
    return b"\n".join(payloads)


def places(house: Deployment) -> list[tuple[str, int]]:
    return [(row["event_id"], row["subsequence_number"]) for row in archived(house)]


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (aggregate(bare(1), aggregate(bare(2), bare(3)), bare(4)), "bad_aggregate"),
        (aggregate(aggregate(bare(2), bare(3)), bare(1), bare(4)), "bad_aggregate"),
        (aggregate(bare(1), aggregate(bare(2)), bare(4)), "bad_aggregate"),
        (lines(bare(1), batch(bare(2), bare(3)), bare(4)), "bad_envelope"),
        (lines(batch(bare(2), bare(3)), bare(1), bare(4)), "bad_envelope"),
        (lines(bare(1), batch(bare(2), b"{}"), bare(4)), "bad_envelope"),
        (batch(bare(1), batch(bare(2), bare(3)), bare(4)), "bad_envelope"),
        (batch(batch(bare(2), bare(3)), bare(1), bare(4)), "bad_envelope"),
        (aggregate(bare(1), batch(batch(bare(2), bare(3)), bare(4))), "bad_envelope"),
    ],
)
def test_what_was_taken_apart_is_one_event_for_good(payload: bytes, code: str) -> None:
    """Its parts would take the places of its neighbours: it stays refused, and nothing is archived a second time."""
    house = Deployment(max_rows=1_000)
    send(house, payload)
    before = places(house)
    done = again(house)
    assert (done.looked_at, done.refused, done.rows) == (1, {code: 1}, 0)
    assert not marks(house)
    assert places(house) == before
    assert house.audit().balanced, house.audit().differences


def test_user_records_that_were_refused_whole_come_apart_in_their_places() -> None:
    """Of one Kinesis record two user records had too many events: each comes apart into numbers of its own."""
    house = Deployment(max_rows=1_000)
    house.rules = FEW
    send(house, aggregate(lines(bare(1), bare(2), bare(3)), batch(bare(4), bare(5), bare(6))))
    done = again(house)
    assert (done.redriven, done.rows) == ({"too_many_events": 2}, 6)
    unit = 1 << 32
    assert sorted(places(house)) == [
        *(("e1", 0), ("e2", unit), ("e3", 2 * unit)),
        *(("e4", 1), ("e5", unit + 1), ("e6", 2 * unit + 1)),
    ]
    assert again(house, wanted=Wanted()).rows == 0


def test_what_came_to_too_much_comes_apart_one_by_one() -> None:
    """Of one Kinesis record two user records were over the limit together: redriven each counts for itself."""
    house = Deployment(max_rows=1_000)
    house.rules = rules_for(DOOR, limits=Limits(max_packed_bytes=2 * 256))
    send(house, aggregate(*(lines(bare(at), bare(at + 1)) for at in (1, 3, 5))))
    assert len(places(house)) == 2
    done = again(house)
    assert (done.redriven, done.rows) == ({"too_much_packed": 2}, 4)
    assert [name for name, _ in sorted(places(house))] == [f"e{at}" for at in range(1, 7)]
    assert house.audit().balanced, house.audit().differences


def deadly_house(*payloads: bytes, label: bool = False) -> Deployment:
    """Return a deployment whose first record was refused as one that kills; with `label` all are one batch."""
    house = Deployment(max_rows=1_000)
    shard = house.stream.shards()[0].shard_id
    if label:
        producer = house.producer()
        for payload in payloads:
            producer.put("acme", "door-1", payload)
        producer.close()
    else:
        for payload in payloads:
            house.stream.append(shard, payload, "key")
    loader = house.loader(house.ledger.register(house.stream.name, house.stream.epoch, shard, ()))
    records = house.stream.reader(shard, loader.start()).read().records
    loader._suspicion.deadly = {unit_key(records[0]): "it kills"}
    loader.process(records)
    loader.cut("stop")
    return house


@pytest.mark.parametrize("wanted", [Wanted(), Wanted(tenant_id="acme"), Wanted(code="bad_gzip")])
def test_what_kills_is_judged_only_when_it_is_named(wanted: Wanted) -> None:
    """A redrive has no child to try it in: every other wish leaves it out."""
    house = deadly_house(aggregate(bare(1), bare(2)), bare(3))
    assert again(house, wanted=wanted).looked_at == dry(house, wanted=wanted).looked_at == 0
    assert places(house) == [("e3", 0)]
    deadly = Wanted(code="kills_worker")
    assert dry(house, wanted=deadly).rows == again(house, wanted=deadly).rows == 2
    assert places(house) == [("e1", 0), ("e2", 1), ("e3", 0)]
    assert house.audit().balanced, house.audit().differences


def test_a_deadly_batch_balances_before_and_after() -> None:
    """Two acknowledged events in one record that nobody took apart count as one unit, until it was redriven."""
    house = deadly_house(bare(1), bare(2), label=True)
    again(house)
    report = house.audit()
    assert report.balanced, report.differences
    assert (report.total().received, report.total().quarantined) == (1, 1)
    assert again(house, wanted=Wanted(code="kills_worker")).rows == 2
    report = house.audit()
    assert report.balanced, report.differences
    assert (report.total().received, report.total().archived) == (2, 2)


def test_a_deadly_batch_that_comes_back_short_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it was taken apart it is one unit no longer: what its label says counts."""
    house = deadly_house(bare(1), bare(2), label=True)
    real = vars(RefusedUnit)["record"].fget
    monkeypatch.setattr(
        RefusedUnit, "record", property(lambda one: replace(real(one), data=aggregate(bare(1))))
    )
    assert again(house, wanted=Wanted(code="kills_worker")).rows == 1
    assert "batch_differs" in house.kinds()


def _apart_again(house: Deployment, patch: pytest.MonkeyPatch, number: int | None) -> None:
    """Redrive, taking apart what was taken apart already."""
    real = vars(RefusedUnit)["record"].fget
    change = {"is_event": False} | ({"subsequence_number": number} if number != 0 else {})
    patch.setattr(RefusedUnit, "record", property(lambda one: replace(real(one), **change)))
    again(house)


@pytest.mark.parametrize(
    ("payload", "number"),
    [
        (aggregate(bare(1), aggregate(bare(2), bare(3)), bare(4)), None),
        (lines(bare(1), batch(bare(2), bare(3)), bare(4)), 1 << 32),
        (batch(batch(bare(2), bare(3)), bare(1)), 0),
    ],
)
def test_a_place_that_is_taken_twice_shows(
    payload: bytes, number: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The audit counts places over a shard and its redrives together: no redrive may put two units in one."""
    house = Deployment(max_rows=1_000)
    send(house, payload)
    assert house.audit().balanced
    _apart_again(house, monkeypatch, number)
    assert "row_repeated" in house.kinds()


def test_user_records_of_one_record_are_held_against_their_own_bytes() -> None:
    """Two user records came apart: each row is held against that which it is of."""
    house = Deployment(max_rows=1_000)
    house.rules = FEW
    events = [bare(number, data={"n": 1_000 + number}) for number in range(6)]
    send(house, aggregate(lines(*events[:3]), batch(*events[3:])))
    assert again(house).rows == 6
    assert house.audit().balanced, house.audit().differences


@pytest.mark.parametrize("altered", [1, 2])
def test_a_gzip_hides_its_own_rows_only(altered: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compressed bytes do not hold those of an event; the bytes beside them do."""
    house = deadly_house(aggregate(gzip.compress(bare(1)), bare(2, data={"n": 77}), bare(3)))
    real = vars(RefusedUnit)["record"].fget
    other = [gzip.compress(bare(1)), bare(2, data={"n": 77}), bare(3)]
    other[altered] = bare(altered + 1, data={"n": 78})
    monkeypatch.setattr(
        RefusedUnit, "record", property(lambda one: replace(real(one), data=aggregate(*other)))
    )
    again(house, wanted=Wanted(code="kills_worker"))
    assert house.kinds() == ["redriven_altered"]
    monkeypatch.undo()


def test_a_gzip_that_comes_apart_balances() -> None:
    """Rows of a gzip have no bytes to be held against, and are no difference for that."""
    house = Deployment(max_rows=1_000)
    house.rules = FEW
    send(house, aggregate(bare(9), gzip.compress(lines(bare(1), bare(2), bare(3)), mtime=0)))
    assert again(house).rows == 3
    assert house.audit().balanced, house.audit().differences
