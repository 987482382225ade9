"""The entity index (table `entity_index`)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from pipeline.core.errors import Corrupt
from pipeline.core.index import IndexItem


class EntityIndex(Protocol):
    """Packed pointers by tenant and hash prefix, then by event day."""

    def put_all(self, items: Sequence[IndexItem]) -> None:
        """Write items as plain puts, the same bytes each time.

        May be repeated, by anyone, at any later time; on return all of them are there.

        Raises:
            Transient: some may be written; repeat the whole call.
        """
        ...

    def find(self, partitions: Sequence[str], first_dt: str, last_dt: str) -> list[IndexItem]:
        """Return the items of some partitions whose event day is in first_dt..last_dt, both included.

        Consistent; none of no partitions; "" as first day and "9999-12-31" as last mean no bound. Order: as `partitions`, then by name.

        Raises:
            Transient: try again.
        """
        ...

    def all_items(self) -> Iterator[IndexItem | Corrupt]:
        """Yield every item, in any order; for the audit. One that cannot be read is the error that names it."""
        ...
