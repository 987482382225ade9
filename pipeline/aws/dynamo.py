"""Calls of DynamoDB that several tables share: batches of puts and reads, groups of conditional puts, queries."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from botocore.exceptions import ClientError

from pipeline.aws.errors import condition_failed, error_code, translated
from pipeline.aws.items import Item, text
from pipeline.core.errors import Transient

_BATCH_PUTS = 25  # BatchWriteItem's limit
_BATCH_GETS = 100  # BatchGetItem's limit
_GROUP = 100  # TransactWriteItems' limit
_SINGLE_PUTS = 100  # above so many, groups: twice the write units for a hundredth of the round trips
_WRITERS = 8
_BEFORE, _AFTER = " ", "~"  # sort before every day, and after every name that begins with a day
_FAILED = "ConditionalCheckFailed"


def put_all(client: Any, table: str, items: Sequence[Item]) -> None:
    """Write items as plain puts.

    Raises:
        Transient: some may be written; repeat the whole call.
    """
    for start in range(0, len(items), _BATCH_PUTS):
        puts = [{"PutRequest": {"Item": item}} for item in items[start : start + _BATCH_PUTS]]
        while puts:
            with translated(f"write {table}"):
                answer = client.batch_write_item(RequestItems={table: puts})
            left = answer.get("UnprocessedItems", {}).get(table, [])
            if len(left) == len(puts):
                raise Transient(f"write {table}: none of {len(puts)} items was taken")
            puts = left  # only the rest again, as long as it shrinks


def get_all(client: Any, table: str, keys: Sequence[Item]) -> Iterator[Item]:
    """Yield the items that exist, in any order; consistent.

    Raises:
        Transient: try again.
    """
    for start in range(0, len(keys), _BATCH_GETS):
        wanted = list(keys[start : start + _BATCH_GETS])
        while wanted:
            with translated(f"read {table}"):
                request = {table: {"Keys": wanted, "ConsistentRead": True}}
                answer = client.batch_get_item(RequestItems=request)
            yield from answer["Responses"].get(table, [])
            left = answer.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if len(left) == len(wanted):
                raise Transient(f"read {table}: none of {len(wanted)} items was read")
            wanted = left


def put_newer(client: Any, table: str, items: Sequence[Item], condition: str, attribute: str) -> None:
    """Put items, each for itself; one whose condition is false is left out.

    Args:
        client: of DynamoDB.
        table: where.
        items: what.
        condition: when: an expression in which `:new` is the item's own value of `attribute`.
        attribute: by which items are older or newer.

    Raises:
        Transient, OutcomeUnknown: some may be written; repeat the whole call.
    """
    puts = [
        {
            "TableName": table,
            "Item": item,
            "ConditionExpression": condition,
            "ExpressionAttributeValues": {":new": item[attribute]},
        }
        for item in items
    ]
    if len(puts) > _SINGLE_PUTS:
        for start in range(0, len(puts), _GROUP):
            _put_group(client, puts[start : start + _GROUP])
    elif puts:
        with ThreadPoolExecutor(min(_WRITERS, len(puts)), thread_name_prefix="put") as pool:
            for _ in pool.map(lambda put: _put_if(client, put), puts):
                pass


def _put_if(client: Any, put: dict[str, Any]) -> None:
    try:
        with translated(f"write {put['TableName']}"):
            client.put_item(**put)
    except ClientError as exc:
        if not condition_failed(exc):
            raise


def _put_group(client: Any, puts: list[dict[str, Any]]) -> None:
    """Put a group in one transaction; refused, once more without those whose condition is false."""
    while puts:
        try:
            with translated(f"write {puts[0]['TableName']}"):
                client.transact_write_items(TransactItems=[{"Put": put} for put in puts])
        except ClientError as exc:
            reasons = cancelled(exc, f"write {puts[0]['TableName']}")
            puts = [put for put, reason in zip(puts, reasons, strict=True) if reason != _FAILED]
        else:
            return


def cancelled(exc: ClientError, what: str) -> list[str]:
    """Return why a transaction was cancelled, one code per item; at least one is a failed condition.

    Raises:
        Transient: it met another transaction or a throttle; nothing happened.
        ClientError: it was not cancelled, but refused as a whole.
    """
    if error_code(exc) != "TransactionCanceledException":
        raise exc
    reasons = [str(one.get("Code", "None")) for one in exc.response.get("CancellationReasons", [])]
    if _FAILED not in reasons:
        raise Transient(f"{what}: {', '.join(reasons)}") from exc
    return reasons


def query(client: Any, table: str, partition: str, between: tuple[str, str] | None = None) -> Iterator[Item]:
    """Yield the items of a partition by sort key, consistently; both keys are named `partition` and `name`.

    Raises:
        Transient: try again.
    """
    condition, values = "#partition = :partition", {":partition": text(partition)}
    names = {"#partition": "partition"}
    if between is not None:
        condition += " AND #name BETWEEN :first AND :last"
        names["#name"] = "name"
        values |= {":first": text(between[0]), ":last": text(between[1])}
    with translated(f"read {table}"):
        pages = client.get_paginator("query").paginate(
            TableName=table,
            KeyConditionExpression=condition,
            ExpressionAttributeNames=names,
            ExpressionAttributeValues=values,
            ConsistentRead=True,
        )
        for page in pages:
            yield from page["Items"]


def query_days(client: Any, table: str, partition: str, first_dt: str, last_dt: str) -> Iterator[Item]:
    """Yield the items of a partition whose names begin with a day in first_dt..last_dt; "" is no first day."""
    return query(client, table, partition, (first_dt or _BEFORE, last_dt + _AFTER))


def scan(client: Any, table: str) -> Iterator[Item]:
    """Yield every item, consistently.

    Raises:
        Transient: try again.
    """
    with translated(f"scan {table}"):
        for page in client.get_paginator("scan").paginate(TableName=table, ConsistentRead=True):
            yield from page["Items"]
