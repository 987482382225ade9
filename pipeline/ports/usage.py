"""What a tenant has used of its plan."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.core.caller import Caller


class BucketLeft(Protocol):
    """One bucket of a plan, and what is in it now."""

    @property
    def name(self) -> str:
        """Return what it holds: requests, events, bytes."""
        ...

    @property
    def remaining(self) -> int:
        """Return how much is in it."""
        ...


class Usage(Protocol):
    """What is used and left of a plan. What processes hold in leases counts as used, save the asked one's own."""

    @property
    def month(self) -> str:
        """Return the calendar month of UTC, as `2026-11`."""
        ...

    @property
    def used(self) -> int:
        """Return the requests of this month."""
        ...

    @property
    def left(self) -> int:
        """Return the requests of this month that are left."""
        ...

    @property
    def resets_at_us(self) -> int:
        """Return when the next month begins."""
        ...

    @property
    def now(self) -> Sequence[BucketLeft]:
        """Return the plan's buckets."""
        ...


class TellsUsage(Protocol):
    """Called from threads, by a route that is not counted against the plan."""

    def usage(self, caller: Caller) -> Usage:
        """Return what the caller's tenant has used.

        Raises:
            Transient, OutcomeUnknown: the limiter's store does not answer.
        """
        ...
