"""Behaviour of the ports `EntityIndex` and `Aggregates`, the same in every world."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from pipeline.core.aggregate import Aggregate, AggregateKey
from pipeline.core.errors import Corrupt
from pipeline.core.index import IndexItem
from tests.aws.backends import World

ITEM = IndexItem("acme#0", "2024-03-10#open#0001#000000000001", b"\x00body\xff")
TOTAL = Aggregate(
    "acme#door", "2024-03-10#open#0001", 5, 7, 2, 1, (0,) * 10 + (4, 3) + (0,) * 12, {"hall": 7}, 1
)


def _item(partition: str, dt: str, ordinal: int = 1, part: str = "") -> IndexItem:
    return IndexItem(
        partition, f"{dt}#open#0001#{ordinal:012d}{part}", f"{partition} {dt} {ordinal}".encode()
    )


def _total(number: int, ordinal: int = 5, **changes: object) -> Aggregate:
    day = f"2024-{number // 28 % 12 + 1:02d}-{number % 28 + 1:02d}"
    return msgspec.structs.replace(
        TOTAL, name=f"{day}#open#{number // 336:04d}", last_ordinal=ordinal, **changes
    )


# Entity index --------------------------------------------------------------------------------------------


def test_items_may_be_written_again(place: World) -> None:
    """A repeated write changes nothing; nothing to write is no error."""
    index = place.index()
    for items in ([ITEM], [ITEM], []):
        index.put_all(items)
    assert list(index.all_items()) == [ITEM]
    assert index.find([ITEM.partition], "", "9999-12-31") == [ITEM]


def test_many_items_in_one_write(place: World) -> None:
    """More items than one BatchWriteItem takes are all written."""
    index = place.index()
    items = [_item(f"acme#{number % 4}", f"2024-03-{number % 28 + 1:02d}", number) for number in range(77)]
    index.put_all(items)
    assert sorted(index.all_items(), key=repr) == sorted(items, key=repr)


def test_a_look_up_has_both_its_days(place: World) -> None:
    """From the first day to the last, both included, with every part of an item and no day beside them."""
    index = place.index()
    days = ["2024-02-29", "2024-03-01", "2024-03-02", "2024-03-10", "2024-03-11"]
    items = [_item("acme#", day, ordinal) for day in days for ordinal in (1, 2)]
    parts = [_item("acme#", "2024-03-10", 2, "#1"), _item("acme#", "2024-03-10", 2, "#2")]
    index.put_all([*reversed(items), *parts])
    assert index.find(["acme#"], "2024-03-01", "2024-03-10") == [*items[2:8], *parts]
    assert index.find(["acme#"], "2024-03-02", "2024-03-02") == items[4:6]
    assert index.find(["acme#"], "", "2024-03-01") == items[:4]
    assert index.find(["acme#"], "2024-03-11", "9999-12-31") == items[8:]
    assert index.find(["acme#"], "2025-01-01", "9999-12-31") == []


def test_a_look_up_is_ordered_by_partition_then_name(place: World) -> None:
    """Partitions come as they were asked for, names inside them sorted; no other partition comes with them."""
    index = place.index()
    wanted = [_item(name, day) for name in ("acme#1", "acme#") for day in ("2024-03-10", "2024-03-11")]
    index.put_all([*reversed(wanted), _item("acme#10", "2024-03-10"), _item("globex#", "2024-03-10")])
    assert index.find(["acme#1", "acme#", "acme#2"], "", "9999-12-31") == wanted


def test_a_large_partition_is_read_whole(place: World) -> None:
    """More than the megabyte that one answer of a query holds."""
    index = place.index()
    items = [IndexItem("acme#", f"2024-03-10#open#0001#{n:012d}", bytes(200_000)) for n in range(8)]
    index.put_all(items)
    assert index.find(["acme#"], "2024-03-10", "2024-03-10") == items


# Aggregates ----------------------------------------------------------------------------------------------


def test_an_aggregate_comes_back(place: World) -> None:
    """Every field, by key and by day; a key that is not there is left out."""
    aggregates = place.aggregates()
    aggregates.put_newer([TOTAL])
    missing = AggregateKey("acme#door", "2024-03-11#open#0001")
    assert aggregates.read([TOTAL.key, missing]) == {TOTAL.key: TOTAL}
    assert aggregates.read([]) == {}
    assert list(aggregates.all_items()) == [TOTAL]


def test_no_partitions_hold_nothing(place: World) -> None:
    """Asking for none is answered, with none."""
    assert place.index().find([], "", "9999-12-31") == []


def test_the_fence(place: World) -> None:
    """A newer total replaces an older; an equal one does nothing, an older one never comes back."""
    aggregates = place.aggregates()
    for ordinal, events, stays in ((5, 7, 7), (5, 8, 7), (4, 6, 7), (6, 9, 9), (5, 7, 9), (10, 11, 11)):
        aggregates.put_newer([msgspec.structs.replace(TOTAL, last_ordinal=ordinal, events=events)])
        assert aggregates.read([TOTAL.key])[TOTAL.key].events == stays


@pytest.mark.parametrize("count", [3, 230])
def test_a_refused_item_holds_up_no_other(place: World, count: int) -> None:
    """Alone or in groups: of many items those that are newer are written, the others stay."""
    aggregates = place.aggregates()
    newer_there = [_total(number, 9, events=1) for number in range(0, count, 3)]
    aggregates.put_newer(newer_there)
    aggregates.put_newer([_total(number, 7, events=2) for number in range(count)])
    found = {one.key: one.events for one in aggregates.all_items() if not isinstance(one, Corrupt)}
    assert found == {_total(number).key: 1 if number % 3 == 0 else 2 for number in range(count)}


def test_many_keys_are_read(place: World) -> None:
    """More keys than one BatchGetItem takes, those that are not there among them."""
    aggregates = place.aggregates()
    items = [_total(number) for number in range(250)]
    aggregates.put_newer(items)
    missing = [AggregateKey("globex#door", one.name) for one in items[:50]]
    assert aggregates.read([*missing, *(one.key for one in items)]) == {one.key: one for one in items}


def test_aggregates_by_day(place: World) -> None:
    """A tenant's type in a range of days, both included, every tier and lineage, by name."""
    aggregates = place.aggregates()
    names = [
        f"2024-03-{day}#{tier}#000{lineage}"
        for day in ("09", "10", "11")
        for tier in ("late", "open")
        for lineage in (1, 2)
    ]
    items = [msgspec.structs.replace(TOTAL, name=name) for name in names]
    others = [
        msgspec.structs.replace(TOTAL, partition=name) for name in ("acme#bell", "acme#door2", "globex#door")
    ]
    aggregates.put_newer([*reversed(items), *others])
    assert aggregates.find("acme#door", "2024-03-10", "2024-03-10") == items[4:8]
    assert aggregates.find("acme#door", "", "2024-03-10") == items[:8]
    assert aggregates.find("acme#door", "2024-03-11", "9999-12-31") == items[8:]
    assert aggregates.find("acme#gong", "", "9999-12-31") == []


def test_of_many_writers_the_newest_stays(place: World) -> None:
    """Zombies that write at the same time, in any order: the highest ordinal wins."""
    if place.name == "moto":
        pytest.skip("moto's patches know one thread")
    aggregates = place.aggregates()
    totals = [
        msgspec.structs.replace(TOTAL, last_ordinal=ordinal, events=ordinal) for ordinal in range(1, 17)
    ]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda one: aggregates.put_newer([one]), totals))
    assert aggregates.read([TOTAL.key]) == {TOTAL.key: totals[-1]}
