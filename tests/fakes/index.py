"""Ports `EntityIndex` and `Aggregates` in memory."""

from collections.abc import Iterator, Sequence

from pipeline.core.aggregate import Aggregate, AggregateKey
from pipeline.core.index import IndexItem


class MemoryIndex:
    """Index items by (partition, name)."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], IndexItem] = {}

    def put_all(self, items: Sequence[IndexItem]) -> None:
        """Write items as plain puts."""
        for item in items:
            self.items[item.partition, item.name] = item

    def find(self, partitions: Sequence[str], first_dt: str, last_dt: str) -> list[IndexItem]:
        """Return the items of some partitions and days."""
        return [
            self.items[key]
            for partition in partitions
            for key in sorted(self.items)
            if key[0] == partition and first_dt <= key[1].split("#")[0] <= last_dt
        ]

    def all_items(self) -> Iterator[IndexItem]:
        """Yield every item."""
        return iter([self.items[key] for key in sorted(self.items)])


class MemoryAggregates:
    """Aggregates by key; the fence is one method."""

    def __init__(self) -> None:
        self.items: dict[AggregateKey, Aggregate] = {}

    def read(self, keys: Sequence[AggregateKey]) -> dict[AggregateKey, Aggregate]:
        """Return the items that exist."""
        return {key: self.items[key] for key in keys if key in self.items}

    def put_newer(self, items: Sequence[Aggregate]) -> None:
        """Write each item over an older one."""
        for item in items:
            if self.is_newer(item):
                self.items[item.key] = item

    def is_newer(self, item: Aggregate) -> bool:
        """True when the item there is older, or none is there."""
        before = self.items.get(item.key)
        return before is None or before.last_ordinal < item.last_ordinal

    def find(self, partition: str, first_dt: str, last_dt: str) -> list[Aggregate]:
        """Return the items of a tenant and type in a range of days, by name."""
        found = [one for one in self.items.values() if one.partition == partition]
        return sorted((one for one in found if first_dt <= one.dt <= last_dt), key=lambda one: one.name)

    def all_items(self) -> Iterator[Aggregate]:
        """Yield every item."""
        return iter([self.items[key] for key in sorted(self.items)])
