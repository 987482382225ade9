"""What a tenant has used of its plan."""

from typing import NamedTuple, Protocol

from pipeline.core.caller import Caller


class Usage(NamedTuple):
    """What is used and left now.

    Attributes:
        month: of UTC, as 2024-03.
        used_requests, left_requests: of the month's quota; used counts what processes have reserved and not used yet.
        left_burst_requests: what the tenant's bucket of requests holds, as far as this process knows; None: unknown.
    """

    month: str
    used_requests: int
    left_requests: int
    left_burst_requests: int | None = None


class TellsUsage(Protocol):
    """Called from threads, by a route that is not counted against the plan."""

    def usage(self, caller: Caller) -> Usage:
        """Return what the caller's tenant has used.

        Raises:
            Transient: the limiter's store does not answer.
        """
        ...
