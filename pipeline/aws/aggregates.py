"""Port `Aggregates` on DynamoDB: table `aggregates`."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.aws import tables
from pipeline.aws.dynamo import get_all, put_newer, query_days, scan
from pipeline.aws.items import aggregate_item, aggregate_of, or_corrupt, text
from pipeline.core.aggregate import Aggregate, AggregateKey
from pipeline.core.errors import Corrupt

# The fence. Time runs downwards; W is the item's writer, Z a zombie or a finisher that repeats segment 7:
#
#   W puts 7   condition true:  last_ordinal 6 < 7
#   Z puts 7   condition false: last_ordinal 7 = 7, applied already
#   W puts 8   condition true
#   Z puts 7   condition false: last_ordinal 8 > 7; the newer total stays
NEVER_WRITTEN = "attribute_not_exists(last_ordinal)"
WRITTEN_BEFORE = "last_ordinal < :new"


class DynamoAggregates:
    """The aggregates of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.AGGREGATES.name

    def read(self, keys: Sequence[AggregateKey]) -> dict[AggregateKey, Aggregate]:
        """Return the items that exist; see the port."""
        wanted = [{"partition": text(key.partition), "name": text(key.name)} for key in keys]
        found = map(aggregate_of, get_all(self._dynamodb, self._table, wanted))
        return {one.key: one for one in found}

    def put_newer(self, items: Sequence[Aggregate]) -> None:
        """Write each item over an older one; see the port."""
        found = [aggregate_item(item) for item in items]
        put_newer(self._dynamodb, self._table, found, f"{NEVER_WRITTEN} OR {WRITTEN_BEFORE}", "last_ordinal")

    def find(self, partition: str, first_dt: str, last_dt: str) -> list[Aggregate]:
        """Return the items of a tenant and type in a range of days; see the port."""
        found = query_days(self._dynamodb, self._table, partition, first_dt, last_dt)
        return [aggregate_of(item) for item in found]

    def all_items(self) -> Iterator[Aggregate | Corrupt]:
        """Yield every item; see the port."""
        return map(or_corrupt(aggregate_of), scan(self._dynamodb, self._table))
