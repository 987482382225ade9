"""Our values as DynamoDB items, and back. Stored for ever: a change is a new attribute, never another meaning."""

import zlib
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from pipeline.core.aggregate import Aggregate
from pipeline.core.errors import Corrupt
from pipeline.core.gap import Reading
from pipeline.core.index import IndexItem
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.core.segment import BatchRange, Counts, Gap, Lineage, Position, Segment

T = TypeVar("T")
Item = dict[str, dict[str, Any]]


def text(value: str) -> dict[str, Any]:
    """Return a string attribute."""
    return {"S": value}


def number(value: float) -> dict[str, Any]:
    """Return a number attribute (38 digits at most: sequence numbers are strings)."""
    return {"N": str(value)}


def _packed(value: Any) -> dict[str, Any]:
    return {"B": zlib.compress(msgspec.json.encode(value), 6)}


def _unpacked(item: Item, name: str, kind: Any) -> Any:
    return msgspec.json.decode(zlib.decompress(bytes(item[name]["B"])), type=kind)


def _position(item: Item, name: str) -> Position | None:
    if f"{name}_sequence_number" not in item:
        return None
    return Position(item[f"{name}_sequence_number"]["S"], int(item[f"{name}_subsequence_number"]["N"]))


def position_item(name: str, position: Position | None) -> Item:
    """Return the two attributes of a position, or none."""
    if position is None:
        return {}
    return {
        f"{name}_sequence_number": text(position.sequence_number),
        f"{name}_subsequence_number": number(position.subsequence_number),
    }


def segment_item(segment: Segment) -> Item:
    """Return a ledger row."""
    return {
        "lineage": text(segment.lineage),
        "ordinal": number(segment.ordinal),
        "state": text(segment.state),
        **position_item("start", segment.start),
        **position_item("end", segment.end),
        "staging_key": text(segment.staging_key),
        "counts": {"M": {name: number(value) for name, value in vars(segment.counts).items()}},
        "batches": _packed(segment.batches),
        "rules_digest": text(segment.rules_digest),
        "seal_version": number(segment.seal_version),
        "first_arrival_us": number(segment.first_arrival_us),
        "max_arrival_us": number(segment.max_arrival_us),
        "shard_end": {"BOOL": segment.shard_end},
        **_gap_item("gap", segment.gap),
        **_gap_item("gap_beyond", segment.gap_beyond),
    }


def _gap_item(name: str, gap: Gap | None) -> Item:
    if gap is None:
        return {}
    times = {at: number(getattr(gap, at)) for at in ("from_us", "until_us")}
    return {name: {"M": {**times, "before": text(gap.before)}}}


def _gap_of(item: Item, name: str) -> Gap | None:
    if name not in item:
        return None
    gap = item[name]["M"]
    return Gap(int(gap["from_us"]["N"]), int(gap["until_us"]["N"]), gap["before"]["S"])


def segment_of(item: Item) -> Segment:
    """Read a ledger row; raises Corrupt."""
    return read_item("ledger row", item, lambda: _segment_of(item), ("lineage", "ordinal"))


def _segment_of(item: Item) -> Segment:
    state = item["state"]["S"]
    return Segment(
        lineage=item["lineage"]["S"],
        ordinal=int(item["ordinal"]["N"]),
        state="committed" if state == "committed" else "planned",
        start=_position(item, "start"),
        end=_position(item, "end"),
        staging_key=item["staging_key"]["S"],
        counts=Counts(**{name: int(value["N"]) for name, value in item["counts"]["M"].items()}),
        batches=_unpacked(item, "batches", tuple[BatchRange, ...]),
        rules_digest=item["rules_digest"]["S"],
        seal_version=int(item["seal_version"]["N"]),
        first_arrival_us=int(item["first_arrival_us"]["N"]),
        max_arrival_us=int(item["max_arrival_us"]["N"]),
        shard_end=bool(item["shard_end"]["BOOL"]),
        gap=_gap_of(item, "gap"),
        gap_beyond=_gap_of(item, "gap_beyond"),
    )


def reading_of(item: Item) -> Reading:
    """Read what is noted of reading a lineage; nothing is noted in an item that is not there."""
    return Reading(*(int(item.get(name, number(0))["N"]) for name in Reading._fields))


def lineage_item(lineage: Lineage) -> Item:
    """Return a lineage."""
    return {
        "name": text(lineage.name),
        "short": text(lineage.short),
        "stream": text(lineage.stream),
        "shard_id": text(lineage.shard_id),
        "parents": {"L": [text(parent) for parent in lineage.parents]},
        **({"redrives": text(lineage.redrives)} if lineage.redrives else {}),
    }


def lineage_of(item: Item) -> Lineage:
    """Read a lineage; raises Corrupt."""
    return read_item("lineage", item, lambda: _lineage_of(item), ("short", "name"))


def _lineage_of(item: Item) -> Lineage:
    return Lineage(
        name=item["name"]["S"],
        short=item["short"]["S"],
        stream=item["stream"]["S"],
        shard_id=item["shard_id"]["S"],
        parents=tuple(one["S"] for one in item["parents"]["L"]),
        redrives=item.get("redrives", text(""))["S"],
    )


def file_item(entry: DataFile) -> Item:
    """Return a manifest entry."""
    numbers = ("rows", "duplicates", "bytes", "min_event_time_us", "max_event_time_us")
    return {
        "partition": text(entry.partition),
        "name": text(entry.name),
        "key": text(entry.key),
        **{name: number(getattr(entry, name)) for name in numbers},
        "tenants": _packed(entry.tenants),
        "digest": text(entry.digest),
    }


def file_of(item: Item) -> DataFile:
    """Read a manifest entry; raises Corrupt."""
    return read_item("manifest entry", item, lambda: _file_of(item))


def _file_of(item: Item) -> DataFile:
    return DataFile(
        partition=item["partition"]["S"],
        name=item["name"]["S"],
        key=item["key"]["S"],
        rows=int(item["rows"]["N"]),
        duplicates=int(item["duplicates"]["N"]),
        bytes=int(item["bytes"]["N"]),
        min_event_time_us=int(item["min_event_time_us"]["N"]),
        max_event_time_us=int(item["max_event_time_us"]["N"]),
        tenants=_unpacked(item, "tenants", tuple[TenantRows, ...]),
        digest=item["digest"]["S"],
    )


def index_item(entry: IndexItem) -> Item:
    """Return an item of the entity index."""
    return {"partition": text(entry.partition), "name": text(entry.name), "body": {"B": entry.body}}


def read_item(
    what: str,
    item: Item,
    make: Callable[[], T],
    key: tuple[str, ...] = ("partition", "name"),
    do: str = "run `headrace audit`",
) -> T:
    """Return what `make` reads out of an item; `key` names the attributes by which it is told, `do` is the next step.

    Raises:
        Corrupt: somebody else wrote it.
    """
    try:
        return make()
    except (LookupError, TypeError, ValueError, zlib.error, msgspec.MsgspecError) as exc:
        named = " ".join(str(next(iter(item.get(name, {}).values()), "?")) for name in key)
        # Not the error's own words: they may quote what the item holds.
        raise Corrupt(f"{what} {named}: cannot be read ({type(exc).__name__}); {do}") from exc


def or_corrupt(read: Callable[[Item], T]) -> Callable[[Item], T | Corrupt]:
    """Return a reader that gives the error instead of raising it."""

    def either(item: Item) -> T | Corrupt:
        try:
            return read(item)
        except Corrupt as exc:
            return exc

    return either


def index_item_of(item: Item) -> IndexItem:
    """Read an item of the entity index; raises Corrupt."""
    return read_item("index item", item, lambda: _index_item_of(item))


def _index_item_of(item: Item) -> IndexItem:
    return IndexItem(item["partition"]["S"], item["name"]["S"], bytes(item["body"]["B"]))


class _Totals(msgspec.Struct):
    events: int
    duplicates: int
    quarantined: int
    hours: tuple[int, ...]
    sources: dict[str, int]
    other_sources: int


def aggregate_item(one: Aggregate) -> Item:
    """Return an item of the aggregates; the totals are one JSON text: readable, and cheap to write."""
    totals = _Totals(*(getattr(one, name) for name in _Totals.__struct_fields__))
    return {
        "partition": text(one.partition),
        "name": text(one.name),
        "last_ordinal": number(one.last_ordinal),
        "totals": text(msgspec.json.encode(totals).decode()),
    }


def aggregate_of(item: Item) -> Aggregate:
    """Read an item of the aggregates; raises Corrupt."""
    return read_item("aggregate", item, lambda: _aggregate_of(item))


def _aggregate_of(item: Item) -> Aggregate:
    if item["partition"]["S"].count("#") != 1 or item["name"]["S"].count("#") != len(("dt", "tier")):
        raise ValueError("no key of an aggregate")
    totals = msgspec.structs.asdict(msgspec.json.decode(item["totals"]["S"], type=_Totals))
    return Aggregate(
        item["partition"]["S"], item["name"]["S"], last_ordinal=int(item["last_ordinal"]["N"]), **totals
    )


def receipt_item(receipt: Receipt) -> Item:
    """Return a receipt."""
    return {
        "producer": text(receipt.producer),
        "number": number(receipt.number),
        "stream": text(receipt.stream),
        "epoch": text(receipt.epoch),
        "acked_from_us": number(receipt.acked_from_us),
        "acked_until_us": number(receipt.acked_until_us),
        "events": number(receipt.events),
        "batches": _packed(receipt.batches),
        "closed": {"BOOL": receipt.closed},
    }


def receipt_of(item: Item) -> Receipt:
    """Read a receipt; raises Corrupt."""
    return read_item("receipt", item, lambda: _receipt_of(item), ("producer", "number"))


def _receipt_of(item: Item) -> Receipt:
    return Receipt(
        producer=item["producer"]["S"],
        number=int(item["number"]["N"]),
        stream=item["stream"]["S"],
        epoch=item["epoch"]["S"],
        acked_from_us=int(item["acked_from_us"]["N"]),
        acked_until_us=int(item["acked_until_us"]["N"]),
        batches=_unpacked(item, "batches", tuple[AckedBatch, ...]),
        closed=bool(item["closed"]["BOOL"]),
    )
