"""Entity and day: exact results of replay (table `entity_days`)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from pipeline.core.entity_day import EntityDay


class EntityDays(Protocol):
    """One row per tenant, entity, day and scope; replaced, never added to."""

    def put_newer(self, rows: Sequence[EntityDay]) -> None:
        """Write each row unless the one there has a higher basis.

        May be repeated, by anyone, at any later time; on return every row is of this basis, or of a newer one.

        Raises:
            Transient, OutcomeUnknown: some may be written; repeat the whole call.
        """
        ...

    def find(self, tenant_id: str, entity_id: str, first_dt: str, last_dt: str) -> list[EntityDay]:
        """Return an entity's rows of first_dt..last_dt, all scopes, by day and scope; consistent.

        Raises:
            Transient: try again.
        """
        ...

    def all_rows(self) -> Iterator[EntityDay]:
        """Yield every row, in any order."""
        ...
