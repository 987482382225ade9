"""Look-ups: what the index finds is what a scan of all rows finds, for its own tenant only."""

import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.count import Question
from pipeline.core.days import DAY_US
from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.core.index import IndexItem
from pipeline.core.kpl import Aggregate
from pipeline.core.segment import SealState
from pipeline.core.span import Span, parse_span
from pipeline.flows import events
from pipeline.flows.events import Event, EventSearch
from tests.core.kit import event, wire
from tests.flows.deployment import Deployment
from tests.flows.finding import (
    BOUNDS,
    ENTITIES,
    RULES,
    SOURCES,
    STEPS,
    TENANTS,
    TIMES,
    TYPES,
    Step,
    all_rows,
    asked_for,
    build,
    find_ports,
)


def span_between(first: str | None, last: str | None) -> Span:
    try:
        return parse_span(first, last)
    except ConfigProblem:  # nothing lies between them
        return Span()


SPANS = st.builds(span_between, st.sampled_from(BOUNDS), st.sampled_from(BOUNDS))


def find(
    house: Deployment, tenant: str, question: Question, limit: int | None = None, *, duplicates: bool = True
) -> tuple[list[Event], int | None]:
    search = EventSearch(tenant, question, limit, find_ports(house), duplicates=duplicates)
    found = list(search.events())
    assert len(found) == search.shown <= search.total
    return found, search.total if search.exact else None


@given(
    STEPS,
    SPANS,
    st.sampled_from([None, None, None, *TYPES]),
    st.sampled_from([None, None, None, *SOURCES]),
    st.sampled_from([None, 1, 2]),
    st.booleans(),
    st.integers(1, 3),
)
@settings(max_examples=120, deadline=None)
def test_a_look_up_is_a_scan(
    steps: list[Step],
    span: Span,
    event_type: str | None,
    source: str | None,
    limit: int | None,
    duplicates: bool,
    wave: int,
) -> None:
    """For every tenant and entity, and by type without one: the same rows, in order, and their true number."""
    house = build(steps)
    rows = [row for row in all_rows(house) if duplicates or not row.columns["is_duplicate"]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "_WAVE_RUNS", wave)
        for tenant in TENANTS:
            for entity in (*ENTITIES, None):
                question = Question(span, event_type, source, entity)
                wanted = {"event_type": event_type, "source": source, "entity_id": entity}
                expected = [row for row in rows if asked_for(row, tenant, span, **wanted)]
                expected.sort(key=lambda row: (*row.order, row.key, row.row))
                found, total = find(house, tenant, question, limit, duplicates=duplicates)
                assert total in {len(expected), None}
                assert total is not None or (limit and (source or span != Span()))
                assert [(one.key, one.row) for one in found] == [
                    (row.key, row.row) for row in expected[:limit]
                ]
                assert [
                    one.columns.items() <= row.columns.items()
                    for one, row in zip(found, expected, strict=False)
                ] == [True] * len(found)


def test_events_of_one_moment_come_by_position() -> None:
    """Position decides between events of the same time, also where they lie in files that are read apart."""
    house = Deployment(shards=2)
    for number in range(12):
        unit = wire(event(event_id=f"e{number:02d}", entity_id=f"door-{number % 2}"))
        house.stream.append(f"shardId-{(number + 1) % 2:012d}", unit, "key")
    house.load()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(events, "_WAVE_RUNS", 1)
        for limit in (None, 1, 2, 5, 11):
            found, total = find(house, "acme", Question(event_type="door"), limit)
            assert [one.columns["event_id"] for one in found] == [f"e{number:02d}" for number in range(12)][
                :limit
            ]
            assert total == 12


def test_the_units_of_a_record_come_in_its_order() -> None:
    """The lines of a user record stand before the next user record, though their numbers are larger."""
    house, aggregate = Deployment(), Aggregate()
    house.rules = RULES
    same = {"entity_id": "a", "event_time": TIMES[0]}
    lines = [wire(event(event_id=f"e{at}", event_type=TYPES[at], **same)) for at in (0, 1)]
    aggregate.add(b"\n".join(lines))
    aggregate.add(wire(event(event_id="e2", event_type=TYPES[0], **same)))
    house.stream.append("shardId-000000000000", aggregate.encode("key", "0"), "key")
    house.load()
    found, _ = find(house, "acme", Question(entity_id="a"), None)
    assert [one.columns["event_id"] for one in found] == ["e0", "e1", "e2"]


def test_a_sealed_day_is_read_from_one_tier() -> None:
    """Once a day is sealed its open rows are not seen, whatever the index still names; late ones are."""
    house = Deployment()
    for day in ("2024-03-09", "2024-03-10"):
        unit = event(event_id=f"open-{day}", event_time=f"{day}T10:00:00Z")
        house.stream.append("shardId-000000000000", wire(unit), "key")
    house.load()
    house.ledger.seal = SealState(1, "2024-03-09", "2024-03-09")
    house.clock.advance(DAY_US / 1e6)
    unit = event(event_id="late", event_time="2024-03-09T11:00:00Z")
    house.stream.append("shardId-000000000000", wire(unit), "key")
    house.load()
    for question in (Question(entity_id="door-1"), Question(event_type="door")):
        found, total = find(house, "acme", question)
        assert [one.columns["event_id"] for one in found] == ["late", "open-2024-03-10"]
        assert total == 2


def _house(count: int = 40) -> Deployment:
    house = Deployment()
    house.produce(count)
    house.load()
    return house


def _one_a_second(count: int, max_rows: int) -> Deployment:
    house = Deployment(max_rows=max_rows)
    for number in range(count):
        time = f"2024-03-10T00:{number // 60:02d}:{number % 60:02d}Z"
        unit = event(event_id=f"e{number}", entity_id=f"door-{number % 8}", event_time=time)
        house.stream.append("shardId-000000000000", wire(unit), "key")
    house.load()
    return house


def test_a_look_up_reads_what_it_names() -> None:
    """Of a hundred events of eight entities, one entity's are read, and no other file is opened twice."""
    house, read = _house(100), list[tuple[str, int]]()
    ports = find_ports(house)

    def noted(key: str, first_row: int, rows: int, columns: Sequence[str]) -> Any:
        read.append((key, rows))
        return ports.read(key, first_row, rows, columns)

    search = EventSearch(
        "acme", Question(entity_id="door-1"), None, replace(ports, read=noted), duplicates=False
    )
    found = list(search.events())
    assert sum(rows for _, rows in read) == len(found) == 13
    assert len({key for key, _ in read}) == len(read)


def test_the_total_costs_no_rows() -> None:
    """Once the first N are found no row is read to tell how many there are: where only rows can say, it is left open."""
    house, read = _one_a_second(100, max_rows=10), list[str]()
    ports = find_ports(house)

    def noted(key: str, first_row: int, rows: int, columns: Sequence[str]) -> Any:
        read.append(key)
        return ports.read(key, first_row, rows, columns)

    for source, exact in ((None, True), ("hall", False)):
        question = Question(event_type="door", source=source)
        search = EventSearch("acme", question, 3, replace(ports, read=noted), duplicates=True)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(events, "_WAVE_RUNS", 1)
            found = list(search.events())
        assert len(read) <= 2
        assert (len(found), search.exact) == (3, exact)
        assert (search.total == 100) is exact
        read.clear()


def test_memory_is_bounded_by_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wave ends where its rows are enough, or one run is more; and dicts are made of what is given out only."""
    house, read = _one_a_second(1_200, max_rows=400), list[int]()
    ports = find_ports(house)

    def noted(key: str, first_row: int, rows: int, columns: Sequence[str]) -> Any:
        read.append(rows)
        return ports.read(key, first_row, rows, columns)

    monkeypatch.setattr(events, "_GIVEN_ROWS", 10)
    for wave_rows, runs in ((1, 1), (900, 2), (5_000, 3)):
        monkeypatch.setattr(events, "_WAVE_ROWS", wave_rows)
        search = EventSearch(
            "acme", Question(event_type="door"), None, replace(ports, read=noted), duplicates=True
        )
        given = search.events()
        tracemalloc.start()
        held = [next(given)]
        size, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(read) == runs
        assert size < 200_000
        held += given
        assert [one.time_us for one in held] == sorted(one.time_us for one in held)
        assert (len(held), search.total) == (1_200, 1_200)
        read.clear()


def test_the_seal_state_is_read_first() -> None:
    """A reader that decided on tiers after it had looked would mix two states of a day."""
    house, order = _house(), list[str]()
    ports = find_ports(house)

    class Noted:
        def __init__(self, name: str, inner: Any) -> None:
            self._name, self._inner = name, inner

        def __getattr__(self, method: str) -> Any:
            order.append(f"{self._name}.{method}")
            return getattr(self._inner, method)

    noted: dict[str, Any] = {
        name: Noted(name, getattr(ports, name)) for name in ("ledger", "index", "manifest")
    }
    list(
        EventSearch(
            "acme", Question(entity_id="door-1"), 1, replace(ports, **noted), duplicates=True
        ).events()
    )
    assert order == ["ledger.seal_state", "index.find"]


def test_another_tenants_entity_of_one_name_is_not_seen() -> None:
    """Two tenants have an entity of the same name, in the same files; each sees its own."""
    house = Deployment()
    for number, tenant in enumerate(["acme", "globex"] * 5):
        unit = event(event_id=f"e{number}", tenant_id=tenant, entity_id="same", data={"n": number})
        house.stream.append("shardId-000000000000", wire(unit), "key")
    house.load()
    for tenant, parity in (("acme", 0), ("globex", 1)):
        for question in (Question(entity_id="same"), Question(event_type="door")):
            found, total = find(house, tenant, question)
            assert {one.columns["tenant_id"] for one in found} == {tenant}
            assert [int(one.columns["event_id"][1:]) % 2 for one in found] == [parity] * 5
            assert total == 5


def test_an_index_that_names_foreign_rows_is_corrupt() -> None:
    """Rows of another tenant behind a pointer are never shown; the message names item, file and next step."""
    house = Deployment()
    for number in range(12):
        tenant = "acme" if number < 6 else "globex"
        unit = event(event_id=f"e{number}", tenant_id=tenant, entity_id="same")
        house.stream.append("shardId-000000000000", wire(unit), "key")
    house.load()
    items = house.index.items
    (mine,) = [item for item in items.values() if item.partition == "acme#" and "000000000001" in item.name]
    theirs = next(item for item in items.values() if item.partition == "globex#")
    items[mine.partition, theirs.name] = IndexItem(mine.partition, theirs.name, theirs.body)
    with pytest.raises(Corrupt, match=r"index item acme# .*events/.*\.parquet.*tenant.*headrace audit"):
        find(house, "acme", Question(entity_id="same"))


def test_an_index_that_names_another_entity_is_corrupt() -> None:
    """A pointer that is off by a row reaches into the next entity: refused, not shown."""
    house = _house(10)
    for item in list(house.index.items.values()):
        shifted = _shift(item)
        house.index.items[item.partition, item.name] = shifted
    with pytest.raises(Corrupt, match=r"index item .* are of the entity it names: run `headrace audit`"):
        find(house, "acme", Question(entity_id="door-1"))


def _shift(item: IndexItem) -> IndexItem:
    """Point one row further on."""
    size = int.from_bytes(item.body[:4], "little")
    packed = pa.decompress(item.body[4:], size, codec="lz4_raw", asbytes=True)
    files, entities, count, columns = msgspec.msgpack.decode(packed)
    columns[2] = bytes(first + 1 for first in columns[2])
    again = msgspec.msgpack.encode([files, entities, count, columns])
    body = len(again).to_bytes(4, "little") + pa.compress(again, codec="lz4_raw", asbytes=True)
    return IndexItem(item.partition, item.name, body)


def test_a_file_that_is_gone_is_corrupt_not_empty() -> None:
    """A pointer to nothing is a difference for the audit, and no shorter answer."""
    house = _house(10)
    del house.objects.stored[house.data_key()]
    with pytest.raises(Corrupt, match=r"index item .* which the bucket does not hold: run `headrace audit`"):
        find(house, "acme", Question(entity_id="door-1"))
    with pytest.raises(Corrupt, match=r"manifest entry .* which the bucket does not hold"):
        find(house, "acme", Question(event_type="door"))


def test_nobody_is_nothing() -> None:
    """An entity that was never seen, or another tenant's, has no events."""
    house = _house(10)
    assert find(house, "acme", Question(entity_id="door-99")) == ([], 0)
    assert find(house, "globex", Question(entity_id="door-1")) == ([], 0)
    assert find(house, "globex", Question(event_type="door")) == ([], 0)
