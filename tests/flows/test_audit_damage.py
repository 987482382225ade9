"""Every kind of stored thing, damaged in every way: lost, cut, a byte altered, each field altered, moved, doubled.

The tables below name each field of each thing that is stored. A new field fails here until somebody says how its damage is named,
or why nobody can see it.
"""

import copy
from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from typing import Any

import msgspec
import pytest

from pipeline.core.aggregate import Aggregate
from pipeline.core.index import IndexItem
from pipeline.core.manifest import DataFile
from pipeline.core.receipt import Receipt
from pipeline.core.segment import Counts, Gap, Lineage, Position, SealState, Segment
from tests.core.kit import event, wire
from tests.fakes.objects import Stored
from tests.flows.deployment import Deployment

UNSEEN = ""  # with the reason beside it: nothing else that is stored knows better


@cache
def _built() -> Deployment:
    house = Deployment(shards=2, max_rows=12)
    house.produce(24)
    house.load()
    house.ledger.raise_seal("2024-03-10")
    producer = house.producer("prod2")
    for number in range(8):
        producer.put("acme", "door-1", wire(event(event_id=f"e{number}", entity_id="door-1")))
        producer.put("globex", "door-2", wire(event(event_id=f"g{number}", tenant_id="globex")))
        producer.put("acme", "door-2", b"rubbish")
    producer.close()
    house.load()
    assert house.audit().balanced, house.audit().differences
    return house


def _house() -> Deployment:
    house = copy.copy(_built())
    for name in ("ledger", "objects", "manifest", "receipts", "index", "aggregates"):
        store = copy.copy(getattr(house, name))
        for part, held in vars(store).items():
            if isinstance(held, dict):
                setattr(store, part, dict(held))
        setattr(house, name, store)
    return house


def _other(value: Any) -> Any:
    """Return another value of the same form."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case str():
            return f"{value}x" if value else "x"
        case bytes():
            return value[:-1] + bytes([value[-1] ^ 1])
        case Position():
            return Position(str(int(value.sequence_number) + 1), value.subsequence_number)
        case dict():
            return {}
        case None:
            return Position("1", 0)
        case _:
            return value[1:] if value else ("9999",)


# Objects ---------------------------------------------------------------------------------------------------

_WAYS: dict[str, Callable[[bytes], bytes | None]] = {
    "lost": lambda _body: None,
    "cut": lambda body: body[: len(body) // 2],
    "empty": lambda _body: b"",
    "first byte": lambda body: bytes([body[0] ^ 1]) + body[1:],
    "middle byte": lambda body: (
        body[: len(body) // 2] + bytes([body[len(body) // 2] ^ 1]) + body[len(body) // 2 + 1 :]
    ),
    "last byte": lambda body: body[:-1] + bytes([body[-1] ^ 1]),
    "grown": lambda body: body + b"\0",
}
_DATA = {"lost": "file_missing", "cut": "file_unreadable", "empty": "file_unreadable"}
_OBJECTS = {
    **{prefix: dict.fromkeys(_WAYS, "file_") | _DATA for prefix in ("events/", "late/", "quarantine/")},
    "ids/": dict.fromkeys(_WAYS, "ids_altered"),
    "rules/": dict.fromkeys(_WAYS, "rules_altered") | {"lost": "rules_missing"},
}


@pytest.mark.parametrize("way", _WAYS)
@pytest.mark.parametrize("prefix", _OBJECTS)
def test_a_damaged_object_is_named(prefix: str, way: str) -> None:
    """Whatever happens to the bytes of an object, the audit names it."""
    house = _house()
    key = house.data_key(prefix)
    body = _WAYS[way](house.objects.stored.pop(key).body)
    if body is not None:
        house.put_object(key, body)
    assert any(kind.startswith(_OBJECTS[prefix][way]) for kind in house.kinds()), house.kinds()


@pytest.mark.parametrize(
    ("prefix", "kind"),
    [
        ("events/", "file_stray"),
        ("late/", "file_stray"),
        ("quarantine/", "file_stray"),
        ("ids/", "ids_stray"),
        ("rules/", "rules_altered"),
    ],
)
@pytest.mark.parametrize("moved", [False, True], ids=["doubled", "moved"])
def test_an_object_elsewhere_is_named(prefix: str, kind: str, moved: bool) -> None:
    """A copy under another name is stray, and what is missing at its own place is missing."""
    house = _house()
    key = house.data_key(prefix)
    stem, _, ending = key.rpartition(".")
    elsewhere = f"{stem[:-3]}777.{ending}"
    house.objects.stored[elsewhere] = house.objects.stored[key]
    if moved:
        del house.objects.stored[key]
    assert kind in house.kinds()


@pytest.mark.parametrize("way", _WAYS)
def test_a_planned_segment_needs_what_was_staged(way: str) -> None:
    """The staging object of a planned segment, damaged in any way, is named; of a committed one nobody needs it."""
    house = _house()
    name = max(key for key in house.ledger.rows if key[0] == "0001")
    row = house.ledger.rows[name]
    body = _WAYS[way](house.objects.stored.pop(row.staging_key).body)
    if body is not None:
        house.objects.stored[row.staging_key] = Stored(body, "")
    assert house.kinds() == []
    house.ledger.rows[name] = replace(row, state="planned")
    assert house.kinds() == ["staging_altered"]


def test_a_planned_segment_that_is_whole_is_no_difference() -> None:
    """Somebody will finish it."""
    house = _house()
    name = max(key for key in house.ledger.rows if key[0] == "0001")
    house.ledger.rows[name] = replace(house.ledger.rows[name], state="planned")
    assert house.kinds() == []


def test_rules_that_are_no_text_are_named() -> None:
    """Bytes that are no UTF-8, inside a string of the document."""
    house = _house()
    key = house.data_key("rules/")
    house.put_object(key, house.objects.get(key).replace(b"acme", b"ac\xffe"))
    assert {"rules_altered", "rules_missing"} <= set(house.kinds())


# Rows of the ledger ----------------------------------------------------------------------------------------

_SEGMENT = {
    "lineage": "segment_unknown",
    "ordinal": "segment_unknown",
    "state": "ledger_broken",
    "start": "ledger_broken",
    "end": "segment_altered",
    "staging_key": "segment_altered",
    "counts": "segment_altered",
    "batches": "segment_altered",
    "rules_digest": "rules_missing",
    "seal_version": "segment_altered",
    "first_arrival_us": "segment_altered",
    "max_arrival_us": "segment_altered",
    "shard_end": "ledger_broken",
    "gap": "segment_altered",
    "gap_beyond": "segment_altered",
}
_AS_NEWEST = {
    "state": UNSEEN,  # planned: whoever loads next finishes it, and all its effects are there already
    "shard_end": UNSEEN,  # only the stream knows; what is put after it stays on its way, and does not balance
}
_COUNTS = dict.fromkeys((one.name for one in fields(Counts)), "segment_altered") | {
    "plain_units": UNSEEN  # labels are in no file, and this only says how many units gave no receipt
}


def _check(house: Deployment, expected: str) -> None:
    kinds = house.kinds()
    assert (expected in kinds) if expected else (kinds == []), kinds


@pytest.mark.parametrize("which", [0, 1, -1], ids=["first", "middle", "newest"])
@pytest.mark.parametrize("name", [one.name for one in fields(Segment)])
def test_an_altered_ledger_row_is_named(name: str, which: int) -> None:
    """Each field of a row, wherever the row stands."""
    house = _house()
    key = sorted(one for one in house.ledger.rows if one[0] == "0001")[which]
    row = house.ledger.rows.pop(key)
    given: dict[str, Any] = {
        "state": "planned",
        "counts": replace(row.counts, rows=row.counts.rows + 1),
        "staging_key": row.staging_key.replace("000000-", "000001-").replace("0001/", "0002/"),
        "seal_version": row.seal_version + 5,
        "gap": Gap(1, 2, ""),
        "gap_beyond": Gap(1, 2, ""),
    }
    row = replace(row, **{name: given.get(name) or _other(getattr(row, name))})
    house.ledger.rows[row.lineage, row.ordinal] = row
    _check(house, _AS_NEWEST.get(name, _SEGMENT[name]) if which == -1 else _SEGMENT[name])


@pytest.mark.parametrize("name", _COUNTS)
def test_an_altered_count_is_named(name: str) -> None:
    """Each count of a row."""
    house = _house()
    house.alter_counts(2, **{name: 1})
    _check(house, _COUNTS[name])


@pytest.mark.parametrize(
    ("which", "kind"), [(0, "ledger_broken"), (1, "ledger_broken"), (-1, "segment_unknown")]
)
def test_a_lost_or_doubled_ledger_row_is_named(which: int, kind: str) -> None:
    """A row that is gone, and a row that stands somewhere else as well."""
    house = _house()
    key = sorted(one for one in house.ledger.rows if one[0] == "0001")[which]
    doubled = replace(house.ledger.rows[key], lineage="0002", ordinal=77)
    house.ledger.rows[doubled.lineage, doubled.ordinal] = doubled
    assert "ledger_broken" in house.kinds()
    house = _house()
    del house.ledger.rows[key]
    assert kind in house.kinds()


@pytest.mark.parametrize("name", [one.name for one in fields(Lineage)])
def test_an_altered_lineage_is_named(name: str) -> None:
    """Name, short form, stream, shard and parents of a lineage."""
    house = _house()
    key = min(house.ledger.registered)
    one = house.ledger.registered[key]
    house.ledger.registered[key] = replace(one, **{name: _other(getattr(one, name))})
    _check(house, "lineage_missing" if name == "short" else "lineage_altered")


def test_a_lost_or_doubled_lineage_is_named() -> None:
    """A lineage that is gone, and two of one short form."""
    house = _house()
    one = house.ledger.registered.pop(min(house.ledger.registered))
    _check(house, "lineage_missing")
    house.ledger.registered |= {one.name: one, "again": one}
    _check(house, "lineage_altered")


@pytest.mark.parametrize(
    ("seal", "expected"),
    [
        (SealState(0, "2024-03-10"), "segment_altered"),
        (SealState(1, ""), "seal_altered"),
        (SealState(1, "2024-03-09"), "seal_altered"),
        (SealState(1, "2024-03-10", "2024-03-11"), "seal_altered"),
        (SealState(2, "2024-03-10"), UNSEEN),  # loaders plan once more, and go on
        (SealState(1, "2024-03-11"), UNSEEN),  # a later day may be raised at any time
    ],
)
def test_an_altered_seal_is_named(seal: SealState, expected: str) -> None:
    """A seal that went back, or ahead of itself."""
    house = _house()
    house.ledger.seal = seal
    _check(house, expected)


# Items of the other tables ---------------------------------------------------------------------------------

_ITEMS: dict[str, tuple[str, Any, dict[str, str]]] = {
    "manifest": (
        "entries",
        DataFile,
        {
            "partition": "manifest_misplaced",
            "name": "manifest_misplaced",
            "key": "file_missing",
            "rows": "count_altered",
            "duplicates": "count_altered",
            "bytes": "file_altered",
            "min_event_time_us": "times_altered",
            "max_event_time_us": "times_altered",
            "tenants": "tenants_altered",
            "digest": "file_altered",
            "lost": "file_stray",
            "doubled": "manifest_doubled",
        },
    ),
    "index": (
        "items",
        IndexItem,
        {
            "partition": "index_stray",
            "name": "index_missing",
            "body": "index_altered",
            "lost": "index_missing",
            "doubled": "index_",
        },
    ),
    "aggregates": (
        "items",
        Aggregate,
        dict.fromkeys((*Aggregate.__struct_fields__, "doubled"), "aggregate_altered")
        | {"lost": "aggregate_missing"},
    ),
    "receipts": (
        "stored",
        Receipt,
        {
            "producer": "segment_altered",
            "number": "receipt_missing",
            "stream": UNSEEN,  # another stream's: on its way, and does not balance
            "epoch": UNSEEN,
            "acked_from_us": UNSEEN,  # for people; batches are held against records by sequence number
            "acked_until_us": UNSEEN,
            "batches": "batch_unacknowledged",
            "closed": UNSEEN,  # as if its producer had been killed
            "lost": UNSEEN,  # its last receipt: as if its producer had been killed before; its units count as unreceipted
            "doubled": "segment_altered",
        },
    ),
}


@pytest.mark.parametrize("at", [0, -1], ids=["first", "last"])
@pytest.mark.parametrize(
    ("store", "change"), [(store, change) for store, (_, _, kinds) in _ITEMS.items() for change in kinds]
)
def test_a_damaged_item_is_named(store: str, change: str, at: int) -> None:
    """Each field of each item altered; an item lost; an item that stands somewhere else as well."""
    house = _house()
    held_in, _, kinds = _ITEMS[store]
    items: dict[Any, Any] = getattr(getattr(house, store), held_in)
    key = sorted(items)[at]
    item = items.pop(key)
    first = "producer" if store == "receipts" else "partition"
    if change == "doubled":
        items[key] = item
        item = msgspec.structs.replace(item, **{first: _other(getattr(item, first))})
    elif change != "lost":
        value = {"sources": {"x": 1}}.get(change) or _other(getattr(item, change))
        item = msgspec.structs.replace(item, **{change: value})
    if change != "lost":
        second = "number" if store == "receipts" else "name"
        place = (getattr(item, first), getattr(item, second))
        items[type(key)(*place) if hasattr(key, "_fields") else place] = item
    found, expected = house.kinds(), kinds[change]
    assert any(kind.startswith(expected) for kind in found) if expected else found == [], found


def test_a_total_that_forgot_its_last_segment_is_named() -> None:
    """Counts as they should be under an older ordinal: an older count could take their place."""
    house = _house()
    key, one = max(house.aggregates.items.items())
    house.aggregates.items[key] = msgspec.structs.replace(one, last_ordinal=one.last_ordinal - 1)
    assert house.kinds() == ["aggregate_altered"]


def test_every_field_of_every_item_is_in_the_tables() -> None:
    """A field that is new must say here how its damage is named."""
    for _, kind, kinds in _ITEMS.values():
        assert set(kind.__struct_fields__) | {"lost", "doubled"} == set(kinds)
    assert {one.name for one in fields(Segment)} == set(_SEGMENT)
