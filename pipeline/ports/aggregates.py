"""The aggregates (table `aggregates`)."""

from collections.abc import Iterator, Sequence
from typing import Protocol

from pipeline.core.aggregate import Aggregate, AggregateKey
from pipeline.core.errors import Corrupt


class Aggregates(Protocol):
    """Exact counts per tenant, event type and day; one writer per item, fenced by its ordinal."""

    def read(self, keys: Sequence[AggregateKey]) -> dict[AggregateKey, Aggregate]:
        """Return the items that exist, in a consistent read.

        Raises:
            Transient: try again.
        """
        ...

    def put_newer(self, items: Sequence[Aggregate]) -> None:
        """Write each item unless the one there has an equal or higher `last_ordinal`.

        May be repeated, by anyone, at any later time; on return every item is as new as given, or newer. Many items may
        be sent in groups.

        Raises:
            Transient, OutcomeUnknown: some may be written; repeat the whole call.
        """
        ...

    def find(self, partition: str, first_dt: str, last_dt: str) -> list[Aggregate]:
        """Return the items of `<tenant>#<event type>` whose day is in first_dt..last_dt, by name; consistent.

        Raises:
            Transient: try again.
        """
        ...

    def all_items(self) -> Iterator[Aggregate | Corrupt]:
        """Yield every item, in any order; for the audit. One that cannot be read is the error that names it."""
        ...
