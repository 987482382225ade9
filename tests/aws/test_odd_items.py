"""Items that somebody else wrote, and groups of conditional puts that DynamoDB refuses in part."""

from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.aws.dynamo import put_newer
from pipeline.aws.items import (
    aggregate_item,
    aggregate_of,
    file_of,
    index_item_of,
    lineage_item,
    lineage_of,
    or_corrupt,
    receipt_item,
    receipt_of,
    segment_item,
    segment_of,
)
from pipeline.core.aggregate import Aggregate
from pipeline.core.errors import Corrupt, Transient
from pipeline.core.receipt import Receipt
from pipeline.core.segment import Counts, Lineage, Position, Segment

GOOD = aggregate_item(Aggregate("acme#door", "2024-03-10#open#0001", 1))


@pytest.mark.parametrize(
    "item",
    [
        {**GOOD, "totals": {"S": "{"}},
        {name: value for name, value in GOOD.items() if name != "totals"},
        {**GOOD, "partition": {"S": "foo"}},
        {**GOOD, "name": {"S": "foo"}},
        {**GOOD, "last_ordinal": {"N": "x"}},
    ],
    ids=["not JSON", "no totals", "odd partition", "odd name", "odd number"],
)
def test_an_odd_aggregate_is_named(item: dict[str, Any]) -> None:
    """What no loader writes is Corrupt, by its key, and the audit's scan goes on over it."""
    with pytest.raises(Corrupt, match=f"aggregate {item['partition']['S']} {item['name']['S']}"):
        aggregate_of(item)
    assert isinstance(or_corrupt(aggregate_of)(item), Corrupt)
    assert or_corrupt(aggregate_of)(GOOD) == Aggregate("acme#door", "2024-03-10#open#0001", 1)


def test_other_odd_items_are_named() -> None:
    """An index item without a body, and a manifest entry whose tenants are no packed list."""
    key = {"partition": {"S": "p"}, "name": {"S": "n"}}
    with pytest.raises(Corrupt, match="index item p n"):
        index_item_of(key)
    with pytest.raises(Corrupt, match="manifest entry p n"):
        file_of({**key, "key": {"S": "k"}, "rows": {"N": "1"}, "tenants": {"B": b"?"}})


_END = Position("49" * 28, 3)
_COUNTS = Counts(1, 1, 1, 0, 0, 0, 1, 9)
_STORED: dict[str, tuple[dict[str, Any], Callable[[dict[str, Any]], Any]]] = {
    "ledger row 0001 7": (
        segment_item(Segment("0001", 7, "committed", _END, _END, "k", _COUNTS, (), "r", 0, 1, 2)),
        segment_of,
    ),
    "lineage 0001 s-1-shard": (
        lineage_item(Lineage("s-1-shard", "0001", "s", "shard", ("0002",))),
        lineage_of,
    ),
    "receipt prod1 0": (receipt_item(Receipt("prod1", 0, "s", "1", 1, 2, ())), receipt_of),
}
_KEYS = {"lineage", "ordinal", "name", "short", "producer", "number"}
_NOT_READ = {"events"}  # of a receipt: the sum of its batches, for people


@pytest.mark.parametrize("named", _STORED)
def test_an_item_without_an_attribute_is_named(named: str) -> None:
    """Every attribute of ledger rows, lineages and receipts: without it, or of another type, the item is Corrupt by its key."""
    item, read = _STORED[named]
    read(item)
    for name in item.keys() - _KEYS - _NOT_READ:
        optional = {
            "start_sequence_number",
            "end_sequence_number",
        }  # a position may be none: the audit sees the gap
        for broken in [{**item, name: {"X": []}}] + [{k: v for k, v in item.items() if k != name}] * (
            name not in optional
        ):
            with pytest.raises(Corrupt, match=named):
                read(broken)


class _Refusing:
    """A client whose first transaction is cancelled for the reasons given."""

    def __init__(self, *reasons: list[str]) -> None:
        self._reasons = list(reasons)
        self.written: list[list[int]] = []

    def transact_write_items(self, TransactItems: list[dict[str, Any]]) -> None:  # noqa: N803 - boto3's name
        if self._reasons:
            codes = self._reasons.pop(0)
            codes += ["None"] * (len(TransactItems) - len(codes))
            answer = {
                "Error": {"Code": "TransactionCanceledException", "Message": ""},
                "CancellationReasons": [{"Code": code} for code in codes],
            }
            raise ClientError(answer, "TransactWriteItems")  # type: ignore[arg-type]
        self.written.append([int(one["Put"]["Item"]["number"]["N"]) for one in TransactItems])


def _put(client: _Refusing, count: int) -> None:
    put_newer(
        client, "t", [{"number": {"N": str(place)}} for place in range(count)], "number < :new", "number"
    )


def test_what_met_a_conflict_is_put_again() -> None:
    """Only items whose own condition was false are left out; one that met another transaction is not."""
    client = _Refusing(["ConditionalCheckFailed", "TransactionConflict", "None"])
    _put(client, 101)
    assert client.written == [list(range(1, 100)), [100]]


def test_a_group_that_met_conflicts_alone_is_transient() -> None:
    """Nothing was refused for good: the whole call is repeated by whoever called."""
    with pytest.raises(Transient, match="TransactionConflict"):
        _put(_Refusing(["TransactionConflict"]), 101)
