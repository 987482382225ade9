"""Port `EntityIndex` on DynamoDB: table `entity_index`."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.aws import tables
from pipeline.aws.dynamo import put_all, query_days, scan
from pipeline.aws.items import index_item, index_item_of, or_corrupt
from pipeline.core.errors import Corrupt
from pipeline.core.index import IndexItem


class DynamoIndex:
    """The entity index of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.ENTITY_INDEX.name

    def put_all(self, items: Sequence[IndexItem]) -> None:
        """Write items as plain puts; see the port."""
        put_all(self._dynamodb, self._table, [index_item(item) for item in items])

    def find(self, partitions: Sequence[str], first_dt: str, last_dt: str) -> list[IndexItem]:
        """Return the items of some partitions and days, asked for at once; see the port."""

        def ask(partition: str) -> list[IndexItem]:
            found = query_days(self._dynamodb, self._table, partition, first_dt, last_dt)
            return [index_item_of(item) for item in found]

        if not partitions:
            return []
        with ThreadPoolExecutor(len(partitions), thread_name_prefix="index") as pool:
            return [item for found in pool.map(ask, partitions) for item in found]

    def all_items(self) -> Iterator[IndexItem | Corrupt]:
        """Yield every item; see the port."""
        return map(or_corrupt(index_item_of), scan(self._dynamodb, self._table))
