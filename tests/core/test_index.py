"""The entity index: every row is under its entity once, items are small, and odd ones are refused."""

from collections import Counter
from itertools import groupby

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import index as index_module
from pipeline.core.days import DAY_US, day_of
from pipeline.core.errors import Corrupt
from pipeline.core.filed import Filed, FileRange, Words, runs
from pipeline.core.index import Entry, IndexItem, build_index, partitions_of, prefix_of, read_item
from pipeline.core.slots import entity_hash, slot_of
from pipeline.core.tiers import file_key

WRITER = "0001#000000000007"
FIRST_DAY = 19_792  # 2024-03-10
TENANTS, ENTITIES, SOURCES = ("acme", "globex"), ("", "a", "door-1", "ä#b", "x" * 300), ("s",)
Row = tuple[int, int, int, bool]  # tenant, entity, time, duplicate

ROWS = st.lists(
    st.tuples(
        st.integers(0, 1),
        st.integers(0, len(ENTITIES) - 1),
        st.integers(FIRST_DAY * DAY_US, (FIRST_DAY + 3) * DAY_US - 1),
        st.booleans(),
    ),
    max_size=40,
)


def filed(event_type: str, rows: list[Row], late: bool = False) -> Filed:
    """File rows as the loader does: one file a day, or one of the late tier, sorted inside."""
    rows = sorted(rows, key=lambda one: (0 if late else one[2] // DAY_US, one[0], one[1], one[2]))
    times = np.array([one[2] for one in rows], dtype=np.int64)
    days = np.zeros(len(rows)) if late else times // DAY_US
    tier = "late" if late else "open"
    return Filed(
        event_type,
        tuple(FileRange(tier, "2030-01-01" if late else day_of(int(times[a])), a, b) for a, b in runs(days)),
        np.array([one[0] for one in rows], dtype=np.int64),
        np.array([one[1] for one in rows], dtype=np.int64),
        np.zeros(len(rows), dtype=np.int64),
        times,
        np.array([one[3] for one in rows], dtype=np.bool_),
    )


WORDS = Words(TENANTS, ENTITIES, SOURCES)


@given(st.lists(ROWS.filter(bool), max_size=3), st.booleans())
@settings(max_examples=150, deadline=None)
def test_every_row_is_under_its_entity_once(types: list[list[Row]], late: bool) -> None:
    """For each entity and day the pointers name exactly its rows, with their duplicates and seconds."""
    many = [filed(f"type{number}", rows, late) for number, rows in enumerate(types)]
    items = build_index(many, WORDS, WRITER)
    assert len({(item.partition, item.name) for item in items}) == len(items)
    named: Counter[tuple[str, int]] = Counter()
    for one in many:
        for file in one.files:
            key = file_key(one.event_type, file.tier, file.day, WRITER)
            place = zip(
                one.tenants[file.first : file.last], one.entities[file.first : file.last], strict=True
            )
            for row, (tenant, entity) in enumerate(place):
                found = _look_up(items, TENANTS[tenant], ENTITIES[entity])
                [entry] = [e for e in found if e.pointer.key == key and _covers(e, row)]
                at = file.first + row
                assert entry.dt == day_of(int(one.times[at]))
                assert entry.first_second <= one.times[at] // 1_000_000 <= entry.last_second
                span = slice(
                    file.first + entry.pointer.first_row,
                    file.first + entry.pointer.first_row + entry.pointer.rows,
                )
                assert entry.duplicates == one.duplicate[span].sum()
                named[key, row] += 1
    assert sum(entry.pointer.rows for item in items for entry in read_item(item)) == len(named)


def _covers(entry: Entry, row: int) -> bool:
    return entry.pointer.first_row <= row < entry.pointer.first_row + entry.pointer.rows


def _look_up(items: list[IndexItem], tenant: str, entity: str) -> list[Entry]:
    wanted = partitions_of(tenant, entity)
    found = [entry for item in items if item.partition in wanted for entry in read_item(item, entity)]
    assert all(entry.entity_id == entity for entry in found)
    return found


def test_items_are_about_a_kilobyte() -> None:
    """Twenty thousand entities of a tenant are spread over items of one write unit each."""
    entities = [f"device-{number:05}" for number in range(20_000)]
    rows = [(0, number, FIRST_DAY * DAY_US + number * 4_000_000, False) for number in range(20_000)]
    items = build_index([filed("door", rows)], Words(TENANTS, entities, SOURCES), WRITER)
    sizes = [
        len(item.partition) + len(item.name) + len(item.body) + len("partitionnamebody") for item in items
    ]
    assert max(sizes) < 2_048
    assert 250 < np.mean(sizes) < 1_100
    assert sum(len(read_item(item)) for item in items) == 20_000
    for item in items[:5]:
        prefix = item.partition.split("#")[1]
        for entry in read_item(item):
            assert prefix_of(entity_hash("acme", entry.entity_id), len(prefix)) == prefix


def test_ids_made_to_collide_are_split(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many entities share all prefixes, no item nears DynamoDB's limit, and all are found."""
    monkeypatch.setattr(index_module, "entity_hash", lambda _tenant, _entity: 7)
    entities = [f"{number:05}" + "\U0001f600" * 250 for number in range(3_000)]
    rows = [(0, number, FIRST_DAY * DAY_US, False) for number in range(3_000)]
    items = build_index([filed("door", rows)], Words(TENANTS, entities, SOURCES), WRITER)
    assert {item.partition for item in items} == {"acme#000000"}
    assert max(len(item.body) for item in items) < 400_000
    assert sorted(one.entity_id for item in items for one in read_item(item)) == entities
    assert [item.name.split("#")[4:] for item in items[:2]] == [[], ["1"]]


@given(st.text(max_size=9), st.text(max_size=9), st.integers(1, 4096))
def test_a_long_prefix_lies_in_one_slot(tenant: str, entity: str, slots: int) -> None:
    """Prefix and slot come from the same hash: where a prefix is longer than the slots' bits, it names the slot."""
    value = entity_hash(tenant, entity)
    assert slot_of(tenant, entity, slots) == value * slots >> 64
    assert slot_of(tenant, entity, 64) == int(prefix_of(value, 3), 4)
    assert partitions_of(tenant, entity)[6] == f"{tenant}#{prefix_of(value, 6)}"


def test_odd_items_are_corrupt() -> None:
    """Bytes that no loader writes are refused by the item's name, not half read."""
    [item] = build_index([filed("door", [(0, 1, FIRST_DAY * DAY_US, False)])], WORDS, WRITER)
    packed = msgspec.msgpack.encode(index_module._Body([("door", "2024-03-10")], ["a"], 1, [b"\0\0\0"] * 7))
    odd_width = len(packed).to_bytes(4, "little") + pa.compress(packed, codec="lz4_raw", asbytes=True)
    none = msgspec.msgpack.encode(index_module._Body([], [], 0, [b""] * 7))
    no_pointers = len(none).to_bytes(4, "little") + pa.compress(none, codec="lz4_raw", asbytes=True)
    for body in (
        odd_width,
        no_pointers,
        b"",
        b"\0",
        b"\xff\xff\xff\xff",
        item.body[:-1],
        item.body[:4] + b"\0" * 20,
    ):
        with pytest.raises(Corrupt, match="index item acme# 2024-03-10#open#0001#000000000007"):
            read_item(IndexItem(item.partition, item.name, body))


def test_stored_bytes() -> None:
    """An item is a stored form."""
    from tests.golden.compare import matches_golden

    rows: list[Row] = [
        (0, 2, FIRST_DAY * DAY_US + number * 1_000_000_000, number == 1) for number in range(3)
    ]
    rows += [(1, 3, FIRST_DAY * DAY_US + 86_399_999_999, False)]
    items = build_index([filed("door", rows), filed("bell", rows[:1])], WORDS, WRITER)
    matches_golden(
        "index.json",
        [{"partition": one.partition, "name": one.name, "body": one.body.hex()} for one in items],
    )
    assert [key for key, _ in groupby(items, key=lambda one: one.partition)] == ["acme#", "globex#"]
