"""Port `EntityDays` on DynamoDB: table `entity_days`."""

from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.aws import tables
from pipeline.aws.dynamo import put_newer, query_days, scan
from pipeline.aws.replay_items import day_item, day_of_item
from pipeline.core.entity_day import EntityDay

# A is a processor of an older job that wakes late, B one of a newer job:
#
#   B puts basis 12   condition true:  12 <= 12 when repeated, too
#   A puts basis 9    condition false: 12 > 9; the newer result stays
NEVER_WRITTEN = "attribute_not_exists(basis)"
NOT_NEWER = "basis <= :new"


class DynamoEntityDays:
    """The results of one deployment."""

    def __init__(self, client: Any, prefix: str) -> None:
        self._dynamodb, self._table = client, prefix + tables.ENTITY_DAYS.name

    def put_newer(self, rows: Sequence[EntityDay]) -> None:
        """Write each row over an equal or older basis; see the port."""
        items = [day_item(row) for row in rows]
        put_newer(self._dynamodb, self._table, items, f"{NEVER_WRITTEN} OR {NOT_NEWER}", "basis")

    def find(self, tenant_id: str, entity_id: str, first_dt: str, last_dt: str) -> list[EntityDay]:
        """Return an entity's rows in a range of days; see the port."""
        found = query_days(self._dynamodb, self._table, f"{tenant_id}#{entity_id}", first_dt, last_dt)
        return [day_of_item(item) for item in found]

    def all_rows(self) -> Iterator[EntityDay]:
        """Yield every row."""
        return map(day_of_item, scan(self._dynamodb, self._table))
