"""Ports `Manifest` and `Receipts` on DynamoDB: tables `data_files` and `receipts`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.aws import tables
from pipeline.aws.dynamo import get_all, put_all, query, scan
from pipeline.aws.errors import translated
from pipeline.aws.items import file_item, file_of, receipt_item, receipt_of, text
from pipeline.core.keys import QUARANTINE_TABLE
from pipeline.core.manifest import DataFile, file_name
from pipeline.core.receipt import Receipt
from pipeline.core.tiers import LATE, OPEN

_DIRECTORY = "_partitions"  # its items name the partitions, so that they can be listed without a scan
_QUERIES = 8  # at once; so few partitions are asked for without a look at how many there are
# Asked for this part of all partitions, a scan costs about as much as queries: its pages hold thousands of entries.
# Measured on the local emulator, 1,200 partitions: with 12 files each it is quicker from about 600 on, with 3 from some
# number between 100 and 300.
_SCANNED_PART = 1 / 4


class DynamoManifest:
    """The manifest of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.DATA_FILES.name
        self._listed: set[str] = set()

    def put_all(self, entries: Sequence[DataFile]) -> None:
        """Write entries as plain puts; see the port. A partition is listed before its first file."""
        new = {entry.partition for entry in entries} - self._listed
        directory = [{"partition": text(_DIRECTORY), "name": text(name)} for name in sorted(new)]
        put_all(self._dynamodb, self._table, directory)
        self._listed |= new
        put_all(self._dynamodb, self._table, [file_item(entry) for entry in entries])

    def partitions(self) -> list[str]:
        """Return every distinct `<event_type>#<dt>`, sorted."""
        return sorted(item["name"]["S"] for item in query(self._dynamodb, self._table, _DIRECTORY))

    def files(self, *partitions: str) -> list[DataFile]:
        """Return the files of some partitions, by queries or, where they are a good part of all, by a scan."""
        wanted = sorted(set(partitions))
        if len(wanted) > _QUERIES and len(wanted) >= _SCANNED_PART * len(self.partitions()):
            chosen = set(wanted)
            return [entry for entry in self.all_files() if entry.partition in chosen]
        with ThreadPoolExecutor(_QUERIES, thread_name_prefix="manifest") as pool:
            return [entry for found in pool.map(self._query, wanted) for entry in found]

    def _query(self, partition: str) -> list[DataFile]:
        return [file_of(item) for item in query(self._dynamodb, self._table, partition)]

    def of_segment(self, lineage: str, ordinal: int) -> list[DataFile]:
        """Return the files of one segment, by partition: it has one name in every partition and tier."""
        keys = [
            {"partition": text(partition), "name": text(file_name(tier, lineage, ordinal))}
            for partition in self.partitions()
            for tier in (
                ("quarantine", "redriven") if partition.startswith(QUARANTINE_TABLE) else (OPEN, LATE)
            )
        ]
        found = [file_of(item) for item in get_all(self._dynamodb, self._table, keys)]
        return sorted(found, key=lambda one: (one.partition, one.name))

    def all_files(self) -> list[DataFile]:
        """Return every entry."""
        found = scan(self._dynamodb, self._table)
        entries = [file_of(item) for item in found if item["partition"]["S"] != _DIRECTORY]
        return sorted(entries, key=lambda one: (one.partition, one.name))


class DynamoReceipts:
    """The receipts of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.RECEIPTS.name

    def put(self, receipt: Receipt) -> None:
        """Store one receipt; repeating it changes nothing."""
        with translated(f"write {self._table}"):
            self._dynamodb.put_item(TableName=self._table, Item=receipt_item(receipt))

    def of(self, producer: str) -> Sequence[Receipt]:
        """Return the receipts of one producer, by number."""
        with translated(f"read {self._table}"):
            pages = self._dynamodb.get_paginator("query").paginate(
                TableName=self._table,
                KeyConditionExpression="producer = :producer",
                ExpressionAttributeValues={":producer": text(producer)},
                ConsistentRead=True,
            )
            return [receipt_of(item) for page in pages for item in page["Items"]]

    def all(self) -> Sequence[Receipt]:
        """Return every receipt, by producer and number."""
        found = [receipt_of(item) for item in scan(self._dynamodb, self._table)]
        return sorted(found, key=lambda one: (one.producer, one.number))
