"""Items that somebody else wrote, and groups of conditional puts that DynamoDB refuses in part."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from pipeline.aws.dynamo import put_newer
from pipeline.aws.items import aggregate_item, aggregate_of, file_of, index_item_of, or_corrupt
from pipeline.core.aggregate import Aggregate
from pipeline.core.errors import Corrupt, Transient

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
