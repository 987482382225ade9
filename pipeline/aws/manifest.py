"""Ports `Manifest` and `Receipts` on DynamoDB: tables `data_files` and `receipts`."""

from collections.abc import Sequence
from typing import Any

from pipeline.aws import tables
from pipeline.aws.errors import translated
from pipeline.aws.items import Item, file_item, file_of, receipt_item, receipt_of, text
from pipeline.core.errors import Transient
from pipeline.core.manifest import DataFile
from pipeline.core.receipt import Receipt

_BATCH = 25  # BatchWriteItem's limit
_DIRECTORY = "_partitions"  # its items name the partitions, so that they can be listed without a scan


class DynamoManifest:
    """The manifest of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.DATA_FILES.name
        self._listed: set[str] = set()

    def put_all(self, entries: Sequence[DataFile]) -> None:
        """Write entries as plain puts; see the port. A partition is listed before its first file."""
        new = {entry.partition for entry in entries} - self._listed
        self._write([{"partition": text(_DIRECTORY), "name": text(name)} for name in sorted(new)])
        self._listed |= new
        self._write([file_item(entry) for entry in entries])

    def _write(self, items: list[Item]) -> None:
        for start in range(0, len(items), _BATCH):
            puts = [{"PutRequest": {"Item": item}} for item in items[start : start + _BATCH]]
            while puts:
                with translated(f"write {self._table}"):
                    answer = self._dynamodb.batch_write_item(RequestItems={self._table: puts})
                left = answer.get("UnprocessedItems", {}).get(self._table, [])
                if len(left) == len(puts):
                    raise Transient(f"write {self._table}: none of {len(puts)} items was taken")
                puts = left  # only the rest again, as long as it shrinks

    def partitions(self) -> list[str]:
        """Return every distinct `<event_type>#<dt>`, sorted."""
        return sorted(item["name"]["S"] for item in self._query(_DIRECTORY))

    def files(self, partition: str) -> list[DataFile]:
        """Return the files of one partition, by name."""
        return [file_of(item) for item in self._query(partition)]

    def all_files(self) -> list[DataFile]:
        """Return every entry."""
        with translated(f"scan {self._table}"):
            pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True)
            found = [item for page in pages for item in page["Items"]]
        entries = [file_of(item) for item in found if item["partition"]["S"] != _DIRECTORY]
        return sorted(entries, key=lambda one: (one.partition, one.name))

    def _query(self, partition: str) -> list[Item]:
        with translated(f"read {self._table}"):
            pages = self._dynamodb.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="#partition = :partition",
                ExpressionAttributeNames={"#partition": "partition"},
                ExpressionAttributeValues={":partition": text(partition)},
                ConsistentRead=True,
            )
            return [item for page in pages for item in page["Items"]]


class DynamoReceipts:
    """The receipts of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.RECEIPTS.name

    def put(self, receipt: Receipt) -> None:
        """Store one receipt; repeating it changes nothing."""
        with translated(f"write {self._table}"):
            self._dynamodb.put_item(TableName=self._table, Item=receipt_item(receipt))

    def all(self) -> Sequence[Receipt]:
        """Return every receipt, by producer and number."""
        with translated(f"scan {self._table}"):
            pages = self._dynamodb.get_paginator("scan").paginate(TableName=self._table, ConsistentRead=True)
            found = [receipt_of(item) for page in pages for item in page["Items"]]
        return sorted(found, key=lambda one: (one.producer, one.number))
