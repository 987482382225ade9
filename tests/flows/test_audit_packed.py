"""The audit of index, totals and the manifest's tenants: planted damage is named, and what lands meanwhile is not."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from pipeline.core.aggregate import Aggregate
from pipeline.core.errors import Corrupt
from pipeline.core.index import IndexItem
from tests.core.kit import event, wire
from tests.flows.deployment import Deployment


def _loaded() -> Deployment:
    house = Deployment(shards=2)
    house.produce(40)
    producer = house.producer("prod2")
    for number in range(10):
        producer.put("acme", "door-1", wire(event(event_id=f"e{number}", entity_id="door-1")))
        producer.put(
            "globex", "door-2", wire(event(event_id=f"g{number}", tenant_id="globex", source="roof"))
        )
        producer.put("acme", "door-2", b"rubbish")
    producer.close()
    house.load()
    assert house.audit().balanced, house.audit().differences
    return house


def _item(house: Deployment) -> IndexItem:
    return house.index.items[min(house.index.items)]


def _item_lost(house: Deployment) -> None:
    del house.index.items[min(house.index.items)]


def _put(house: Deployment, item: IndexItem) -> None:
    house.index.items[item.partition, item.name] = item


def _item_moved(house: Deployment) -> None:
    item = house.index.items.pop(min(house.index.items))
    _put(house, msgspec.structs.replace(item, partition="acme#000000"))


def _item_garbled(house: Deployment) -> None:
    item = _item(house)
    _put(house, msgspec.structs.replace(item, body=item.body[:-3]))


def _item_of_another_segment(house: Deployment) -> None:
    first, second = [house.index.items[key] for key in sorted(house.index.items)[:2]]
    _put(house, msgspec.structs.replace(first, body=second.body))


def _stray_item(house: Deployment) -> None:
    item = _item(house)
    _put(house, msgspec.structs.replace(item, name=item.name.replace("#000000", "#900000")))


def _total(house: Deployment, **changes: Any) -> None:
    key = min(house.aggregates.items) if "quarantined" in changes else max(house.aggregates.items)
    house.aggregates.items[key] = msgspec.structs.replace(house.aggregates.items[key], **changes)


def _stray_total(house: Deployment) -> None:
    one = house.aggregates.items[min(house.aggregates.items)]
    stray = Aggregate("acme#bell", one.name, one.last_ordinal, 1, 0, 0, (1,) + (0,) * 23, {"s": 1})
    house.aggregates.items[stray.key] = stray


def _tenants(house: Deployment) -> None:
    key = max(house.manifest.entries, key=lambda one: len(house.manifest.entries[one].tenants))
    entry = house.manifest.entries[key]
    first, *rest = entry.tenants
    moved = first._replace(first_row=first.first_row + 1)
    house.manifest.entries[key] = msgspec.structs.replace(entry, tenants=(moved, *rest))


def _item_twice(house: Deployment) -> None:
    item = _item(house)
    _put(house, msgspec.structs.replace(item, name=item.name + "#1"))


def _times(house: Deployment) -> None:
    key = min(house.manifest.entries)
    entry = house.manifest.entries[key]
    house.manifest.entries[key] = msgspec.structs.replace(
        entry, max_event_time_us=entry.max_event_time_us - 1
    )


def _rules(house: Deployment) -> None:
    del house.objects.stored[next(key for key in house.objects.stored if key.startswith("rules/"))]


DAMAGE: dict[str, tuple[Callable[[Deployment], None], set[str]]] = {
    "index item lost": (_item_lost, {"index_missing"}),
    "index item where nobody looks": (_item_moved, {"index_missing", "index_stray"}),
    "index item garbled": (_item_garbled, {"index_missing", "index_altered"}),
    "index item of other rows": (_item_of_another_segment, {"index_missing", "index_altered"}),
    "index item of no segment": (_stray_item, {"index_stray"}),
    "index item twice": (_item_twice, {"index_altered"}),
    "total ahead of the ledger": (lambda house: _total(house, last_ordinal=4_000), {"aggregate_altered"}),
    "manifest: times": (_times, {"times_altered"}),
    "total lost": (lambda house: house.aggregates.items.clear(), {"aggregate_missing"}),
    "total counted twice": (lambda house: _total(house, events=99), {"aggregate_altered"}),
    "total in another hour": (lambda house: _total(house, hours=(0,) * 24), {"aggregate_altered"}),
    "total of another source": (lambda house: _total(house, sources={"x": 40}), {"aggregate_altered"}),
    "refused units forgotten": (lambda house: _total(house, quarantined=0), {"aggregate_altered"}),
    "total of no file": (_stray_total, {"aggregate_altered"}),
    "manifest: tenants": (_tenants, {"tenants_altered"}),
    "rules lost": (_rules, {"rules_missing"}),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_named(name: str) -> None:
    """One planted fault gives exactly the differences of its kind, and the audit does not balance."""
    house = _loaded()
    plant, kinds = DAMAGE[name]
    plant(house)
    report = house.audit()
    assert {one.kind for one in report.differences} == kinds
    assert not report.balanced
    assert all(one.subject and one.message for one in report.differences)


def test_the_lost_item_s_rows_are_named() -> None:
    """A reader of the audit learns which entity and rows a look-up does not find."""
    house = _loaded()
    _item_lost(house)
    [*found] = house.audit().differences
    assert any(one.subject.startswith("acme/door-") and "2024-03-10" in one.subject for one in found)
    assert any("rows 0 to" in one.message and "events/event_type=door/" in one.message for one in found)


def test_what_lands_meanwhile_is_no_difference() -> None:
    """Segments that are committed while the audit reads change neither index nor totals of what it compares."""
    house = _loaded()

    def land() -> None:
        house.on_list = lambda: None
        house.produce(30, "prod3", first=100)
        house.load()

    house.on_list = land
    assert house.audit().differences == []
    report = house.audit()
    assert report.balanced
    assert report.index_items == len(house.index.items)
    assert report.aggregate_rows == len(house.aggregates.items)


def test_a_total_ahead_of_the_ledger_stops_the_loader() -> None:
    """The fence would take every later segment for applied: the loader says so, and counts nothing wrong."""
    house = _loaded()
    for key, one in house.aggregates.items.items():
        house.aggregates.items[key] = msgspec.structs.replace(one, last_ordinal=4_000)
    house.produce(30, "prod3", first=100)
    with pytest.raises(Corrupt, match=r"aggregate .* pretends to hold segment 4000"):
        house.load()


def test_damaged_files_are_named_once() -> None:
    """What a damaged file counts in is left out: the file is the difference, not each thing made from it."""
    house = _loaded()
    key = house.data_key()
    house.put_object(key, b"\0" * 10)
    kinds = {one.kind for one in house.audit().differences}
    assert not {kind for kind in kinds if kind.startswith(("index", "aggregate", "tenants"))}
    assert "file_unreadable" in kinds
