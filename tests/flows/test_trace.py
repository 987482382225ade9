"""Traces: every stored unit is found by its id, with all that is true of it; what is not there is said exactly."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.segment import Position, SealState
from pipeline.core.sighting import Found, Hint, ReceiptName, RowPlace, Trace, first_of, searched_of
from pipeline.core.span import instant_of
from pipeline.flows.trace import trace
from tests.core.kit import event, wire
from tests.fakes.watched import Effect, WatchedLedger
from tests.flows.deployment import Deployment
from tests.flows.falling_behind import House
from tests.flows.finding import RULES, STEPS, TENANTS, Step, all_rows, build, refused_rows, trace_ports

FIRST_SHARD = "shardId-000000000000"


def follow(house: Deployment, event_id: str, tenant: str = "acme", **hint: Any) -> Trace:
    return trace(tenant, event_id, Hint(**hint), trace_ports(house))


def only(found: Trace) -> Found:
    (one,) = found.found
    return one


def _house(count: int = 30, shards: int = 2) -> Deployment:
    house = Deployment(shards=shards, max_rows=7)
    house.produce(count)
    house.load()
    return house


HINTS: list[tuple[dict[str, Any], str]] = [
    ({}, "ids"),
    ({"entity_id": "door-3"}, "entity"),
    ({"dt": "2024-03-10"}, "at"),
    ({"receipt": ReceiptName("prod1", 0)}, "receipt"),
    ({"entity_id": "door-4"}, "ids"),  # leads nowhere: everything is searched
    ({"dt": "2024-03-09"}, "ids"),
    ({"receipt": ReceiptName("prod9", 0)}, "ids"),
]


@pytest.mark.parametrize(("hint", "by"), HINTS)
def test_an_accepted_event_is_told_whole(hint: dict[str, Any], by: str) -> None:
    """Arrival, receipt, file and row, segment, index entry, aggregate: the same by every way."""
    house = _house()
    traced = follow(house, "e11", **hint)
    assert traced.by == by
    one = only(traced)
    unit = one.sighting
    assert (unit.outcome, unit.event_type, unit.entity_id, unit.source) == (
        "accepted",
        "door",
        "door-3",
        "hall",
    )
    row = next(row for row in all_rows(house) if row.columns["event_id"] == "e11")
    assert (unit.place, unit.row_group, unit.tier) == ((row.key, row.row), 0, "open")
    assert (unit.shard_id, unit.position.sequence_number, unit.position.subsequence_number) == (
        row.columns["shard_id"],
        row.columns["sequence_number"],
        row.columns["subsequence_number"],
    )
    assert unit.arrived_us == house.ledger.rows[unit.lineage, unit.ordinal].max_arrival_us
    assert one.receipt == ReceiptName("prod1", 0)
    assert one.lineage is not None
    assert one.lineage.shard_id == unit.shard_id
    assert one.segment == house.ledger.rows[unit.lineage, unit.ordinal]
    assert one.index is not None
    item = house.index.items[one.index.partition, one.index.name]
    assert item.name == f"2024-03-10#open#{unit.lineage}#{unit.ordinal:012d}"
    assert one.index.pointer.key == row.key
    assert one.counted is not None
    assert one.counted.key == ("acme#door", f"2024-03-10#open#{unit.lineage}")
    assert one.counted[1:] == ("events", 11, "hall", True)


def test_a_duplicate_names_the_row_it_repeats() -> None:
    """Both rows of the id are told, in the order of arrival; the copy points at the first."""
    house = _house()
    house.clock.advance(60)
    house.produce(1, "prod2", first=11)
    house.load()
    first, copy = follow(house, "e11").found
    assert [first.sighting.outcome, copy.sighting.outcome] == ["accepted", "duplicate"]
    assert (first.first, copy.first) == (None, first.sighting.place)
    assert copy.receipt == ReceiptName("prod2", 0)
    assert copy.counted is not None
    assert copy.counted.figure == "duplicates"
    assert follow(house, "e11", entity_id="door-3").found == (first, copy)


def test_a_duplicate_never_repeats_a_row_of_another_shard() -> None:
    """Shards do not know each other's ids: M, O, O, M of one id are two originals, each with its own copy."""
    house = Deployment(shards=2)
    for shard, entity in ((0, "m"), (1, "o"), (1, "o"), (0, "m")):
        unit = event(event_id="both", entity_id=entity)
        house.stream.append(f"shardId-{shard:012d}", wire(unit), "key")
        house.load()
        house.clock.advance(60)
    found = follow(house, "both").found
    outcomes = [(one.sighting.entity_id, one.sighting.outcome) for one in found]
    assert outcomes == [("m", "accepted"), ("o", "accepted"), ("o", "duplicate"), ("m", "duplicate")]
    assert found[2].first == found[1].sighting.place
    assert found[3].first == found[0].sighting.place


def test_a_duplicate_may_repeat_a_row_of_an_ancestor() -> None:
    """The child of a shard knows the ids of its parent; a row of its own is nearer."""
    house = Deployment(shards=2)
    stream, epoch = house.stream.name, house.stream.epoch
    parent = house.ledger.register(stream, epoch, "shardId-000000000000", ())
    house.ledger.register(stream, epoch, "shardId-000000000001", (parent.short,))
    for shard in (0, 1):
        house.stream.append(f"shardId-{shard:012d}", wire(event(event_id="both")), "key")
        house.load()
        house.clock.advance(60)
    first, copy = follow(house, "both").found
    assert (copy.sighting.outcome, copy.first) == ("duplicate", first.sighting.place)
    child = copy.sighting
    own = replace(
        first.sighting,
        lineage=child.lineage,
        position=Position("0", 0),
        place=RowPlace("own", 0),
        arrived_us=0,
    )
    others, family = [own, first.sighting], (child.lineage, parent.short)
    assert first_of(child, others, family) == own.place
    assert first_of(child, [first.sighting], (child.lineage,)) is None  # of a shard that is no ancestor
    assert first_of(replace(child, position=own.position), others, family) == first.sighting.place


def test_two_accepted_rows_of_one_id() -> None:
    """Outside the window a repeated id is a new event: both are told, none is a copy of the other."""
    house = _house(12)
    house.clock.advance(25 * 3_600)
    house.produce(1, "prod2", first=11)
    house.load()
    found = follow(house, "e11").found
    assert [one.sighting.outcome for one in found] == ["accepted", "accepted"]
    assert len({one.sighting.place for one in found}) == 2
    house.clock.advance(60)
    house.produce(1, "prod3", first=11)
    house.load()
    assert follow(house, "e11").found[2].first == found[1].sighting.place


def test_a_copy_never_repeats_what_came_after_it() -> None:
    """Also when the same id is accepted anew later."""
    house = _house(12)
    for hours in (1, 26):
        house.clock.advance(hours * 3_600)
        house.produce(1, f"prod{hours}", first=11)
        house.load()
    first, copy, anew = follow(house, "e11").found
    assert [one.sighting.outcome for one in (first, copy, anew)] == ["accepted", "duplicate", "accepted"]
    assert copy.first == first.sighting.place


def test_a_refused_unit_is_told_with_its_reason() -> None:
    """Code, pointer and message, the quarantine file and its row, and that it counts by its arrival day."""
    house = _house(5)
    house.stream.append(FIRST_SHARD, wire(event(event_id="bad", data={"n": "x"})), "key")
    house.load()
    one = only(follow(house, "bad"))
    unit = one.sighting
    assert unit.outcome == "quarantined"
    assert unit.refusal is not None
    assert unit.refusal[:2] == ("schema_mismatch", "/data/n")
    assert unit.place.key.startswith("quarantine/dt=2024-03-10/")
    assert (one.receipt, one.index, one.first) == (None, None, None)
    assert one.segment is not None
    assert one.counted is not None
    assert (one.counted.key.partition, one.counted.figure, one.counted.included) == (
        "acme#door",
        "quarantined",
        True,
    )


def test_a_refused_unit_of_an_unknown_tenant_is_found() -> None:
    """It lies in quarantine by the name that it gave, which nobody else may see; it counts as unknown."""
    house = _house(5)
    house.stream.append(FIRST_SHARD, wire(event(event_id="lost", tenant_id="acne")), "key")
    house.load()
    one = only(follow(house, "lost", "acne"))
    assert one.sighting.refusal is not None
    assert one.sighting.refusal[0] == "unknown_tenant"
    assert one.counted is not None
    assert one.counted.key.partition.startswith("_unknown#")
    assert follow(house, "lost").found == ()


def test_a_refused_unit_is_found_by_names_of_any_length() -> None:
    """Quarantine keeps the beginning of an id and of a tenant; the whole ones lead to it."""
    house, long = _house(5), "x" * 300
    house.stream.append(FIRST_SHARD, wire(event(event_id=long)), "key")
    house.stream.append(FIRST_SHARD, wire(event(event_id="e7", tenant_id=long)), "key")
    house.load()
    assert only(follow(house, long)).sighting.outcome == "quarantined"
    assert only(follow(house, "e7", long)).sighting.outcome == "quarantined"


def test_a_refused_unit_of_an_unknown_type_counts_as_unknown() -> None:
    """Its aggregate is the tenant's `_unknown`."""
    house = _house(5)
    house.stream.append(FIRST_SHARD, wire(event(event_id="odd", event_type="gong")), "key")
    house.load()
    counted = only(follow(house, "odd")).counted
    assert counted is not None
    assert counted.key.partition == "acme#_unknown"


def test_a_refused_unit_counts_as_its_own_segments_rules_say() -> None:
    """Not where other refused units of the type are counted: the type was unknown in one segment, known in the next."""
    house = _house(5)
    house.stream.append(FIRST_SHARD, wire(event(event_id="odd", event_type="bell")), "key")
    house.load()
    house.rules = RULES
    bad = event(event_id="bad", event_type="bell", data={"n": "x"})
    house.stream.append(FIRST_SHARD, wire(bad), "key")
    house.load()
    found = {name: only(follow(house, name)).counted for name in ("odd", "bad")}
    assert {name: one and (one.key.partition, one.included) for name, one in found.items()} == {
        "odd": ("acme#_unknown", True),
        "bad": ("acme#bell", True),
    }
    for key in [key for key in house.objects.stored if key.startswith("rules/")]:
        del house.objects.stored[key]
    assert only(follow(house, "bad")).counted is None


@pytest.mark.parametrize(
    ("hint", "all_read"), [({}, True), ({"entity_id": "door-3"}, False), ({"dt": "2024-03-10"}, False)]
)
def test_a_hint_spares_the_ledger(hint: dict[str, Any], all_read: bool) -> None:
    """Where an entity or a day leads to the event, its own segment is read and no other."""
    house, order = _house(), list[str]()

    def perform(effect: Effect[Any]) -> Any:
        order.append(effect.name)
        return effect.act()

    ports = trace_ports(house)
    watched = replace(ports.find, ledger=WatchedLedger(house.ledger, perform))
    (found,) = trace("acme", "e11", Hint(**hint), replace(ports, find=watched)).found
    assert any(name.startswith("ledger.segments") for name in order) is all_read
    assert order[-1] == f"ledger.segment {found.sighting.lineage}/{found.sighting.ordinal}"


def test_an_unknown_id_says_what_was_searched() -> None:
    """From the first arrival of the oldest segment to the newest committed arrival, and not a moment more."""
    house = _house(10, shards=1)
    house.clock.advance(90.5)
    house.produce(5, "prod2", first=10)
    house.load()
    traced = follow(house, "e99")
    assert traced.found == ()
    assert traced.searched.sentence == (
        "not among what was received from 2024-03-10T12:00:00Z to 2024-03-10T12:01:30.500000Z"
    )
    assert traced.searched.notes == ()


def test_what_is_on_its_way_is_outside_of_what_was_searched() -> None:
    """An event that arrived and is not committed lies after the bound that the answer names."""
    house = _house(10, shards=1)
    house.clock.advance(60)
    record = house.stream.append(FIRST_SHARD, wire(event(event_id="waits")), "key")
    searched = follow(house, "waits").searched
    assert searched.until_us is not None
    assert searched.until_us < record.arrived_us


def test_an_unknown_id_may_be_in_a_gap() -> None:
    """The newest gap is named with its bounds, and what to do."""
    house = House(shards=1)
    for _ in range(3):
        house.put(2)
        house.work()
        house.away(30)
    (note,) = follow(house, "e99").searched.notes
    assert house.gaps()[-1].until_us == max(one.until_us for one in house.gaps())
    until, began = (instant_of(one) for one in (house.gaps()[-1].until_us, house.gaps()[-1].from_us))
    assert note.startswith(
        f"the stream may have dropped what arrived from {began} to {until} before it was read (2 gaps"
    )
    assert "the same event_id" in note


def test_a_shard_that_lags_is_named() -> None:
    """The bound is of the newest shard; of one that is behind, it is said how far it is."""
    house = _house(20, shards=2)
    house.clock.advance(60)
    house.stream.append(FIRST_SHARD, wire(event(event_id="new")), "key")
    house.load()
    (note,) = follow(house, "e99").searched.notes
    assert note.startswith("of shardId-000000000001 nothing later than 2024-03-10T12:00:00Z is committed")


def test_ids_that_are_gone_are_said() -> None:
    """Old ids files expire: the answer begins after them, and says what still finds such an event."""
    house = _house(10, shards=1)
    house.clock.advance(60)
    house.produce(5, "prod2", first=10)
    house.load()
    first, second = [key for key in house.objects.stored if key.startswith("ids/")]
    del house.objects.stored[first]
    traced = follow(house, "e1")
    assert traced.found == ()
    assert traced.searched.sentence.startswith(
        "not among what was received from 2024-03-10T12:01:00Z to 2024-03-10T12:01:00Z"
    )
    assert (
        "the ids of 1 old segment (arrivals until 2024-03-10T12:00:00Z) are gone" in traced.searched.notes[0]
    )
    assert only(follow(house, "e1", entity_id="door-1")).sighting.event_id == "e1"
    del house.objects.stored[second]
    assert follow(house, "e1").searched.sentence.startswith("not found: the ids of everything")


def _at(minutes: int) -> int:
    return 1_710_072_000_000_000 + minutes * 60_000_000  # after 2024-03-10T12:00:00Z


@pytest.mark.parametrize(
    ("gone", "span"),
    [
        ((), (0, 5)),
        ((0,), (2, 5)),
        ((1,), (3, 5)),  # and what is older was looked at, but not all of it
        ((0, 1), (4, 5)),
        ((2,), (0, 3)),  # the newest: nothing is claimed of when it arrived
        ((0, 2), (2, 3)),
        ((1, 2), (0, 1)),
    ],
)
def test_no_range_is_claimed_that_has_a_hole(gone: tuple[int, ...], span: tuple[int, int]) -> None:
    """The latest span between segments whose ids are gone, and not what lies beyond them."""
    segment = next(iter(_house(1, shards=1).ledger.rows.values()))
    segments = [
        replace(
            segment, ordinal=at, first_arrival_us=_at(2 * at), max_arrival_us=_at(2 * at + 1), shard_end=True
        )
        for at in range(3)
    ]
    found = searched_of(segments, [segments[at] for at in gone], [])
    assert found.segments == 3 - len(gone)
    assert found.from_us is not None
    assert found.until_us is not None
    minutes = ((found.from_us - _at(0)) / 60e6, (found.until_us - _at(0)) / 60e6)
    assert minutes == pytest.approx(span, abs=0.001)  # a microsecond after a hole
    for one in gone:
        assert not (_at(2 * one) <= found.until_us and found.from_us <= _at(2 * one + 1))


def test_holes_over_everything_leave_no_range() -> None:
    """A segment of another shard whose ids are gone may lie beside all that was searched."""
    segment = next(iter(_house(1, shards=1).ledger.rows.values()))
    long = replace(segment, lineage="0002", first_arrival_us=segment.first_arrival_us - 1)
    found = searched_of([segment, long], [long], [])
    assert (found.from_us, found.until_us, found.segments) == (None, None, 1)
    assert found.sentence.startswith("not found: the ids of segments all along are gone")


def test_nothing_received_is_said() -> None:
    """An empty deployment claims nothing."""
    assert follow(Deployment(), "e1").searched.sentence == "nothing has arrived yet"


def test_a_planned_segment_is_told_as_planned() -> None:
    """A row whose segment is decided and not committed is shown with that state; it does not count yet."""
    house = _house(5, shards=1)
    before = dict(house.aggregates.items)
    house.produce(1, "prod2", first=9)
    house.load()
    newest = max(house.ledger.rows)
    house.ledger.rows[newest] = replace(house.ledger.rows[newest], state="planned")
    house.aggregates.items = before
    one = only(follow(house, "e9", entity_id="door-1"))
    assert one.segment is not None
    assert one.segment.state == "planned"
    assert one.counted is not None
    assert not one.counted.included


def test_ids_that_are_not_there_yet_are_not_gone() -> None:
    """A planned segment's ids may still be unwritten: it is on its way, and nothing is missing."""
    house = _house(5, shards=1)
    house.clock.advance(60)
    house.produce(1, "prod2", first=9)
    house.load()
    newest = max(house.ledger.rows)
    house.ledger.rows[newest] = replace(house.ledger.rows[newest], state="planned")
    del house.objects.stored[f"ids/{newest[0]}/{newest[1]:012d}.ids"]
    searched = follow(house, "e99").searched
    assert searched.notes == ()
    assert searched.sentence.endswith("to 2024-03-10T12:00:00Z")


@given(STEPS, st.sampled_from(TENANTS))
@settings(max_examples=60, deadline=None)
def test_every_stored_unit_is_found_and_no_foreign_one(steps: list[Step], tenant: str) -> None:
    """By the ids, whatever the seal: exactly a tenant's rows and refused units of an id, each in its place."""
    house = build(steps)
    house.ledger.seal = SealState()
    stored = [(row.columns, row.key, row.row) for row in all_rows(house)]
    refused = [unit for _, unit in refused_rows(house)]
    for number in range(8):
        found = follow(house, f"e{number}", tenant).found
        mine = [
            (key, row)
            for one, key, row in stored
            if (one["tenant_id"], one["event_id"]) == (tenant, f"e{number}")
        ]
        bad = [one for one in refused if (one["tenant_id"], one["event_id"]) == (tenant, f"e{number}")]
        places = [one.sighting.place for one in found if one.sighting.outcome != "quarantined"]
        assert sorted(places) == sorted(mine)
        assert len(found) - len(places) == len(bad)
        assert [one.sighting.order for one in found] == sorted(one.sighting.order for one in found)
        assert all(
            one.index is not None and one.index.pointer.key == one.sighting.place.key
            for one in found
            if one.sighting.entity_id
        )
        assert all(one.counted is not None and one.counted.included for one in found)
