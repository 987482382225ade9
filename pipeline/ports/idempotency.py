"""Requests that carry an `Idempotency-Key`: which are under way, and what was answered (table `idempotency`)."""

from typing import Protocol

from pipeline.core.idempotency import Entry, StoredAnswer


class Requests(Protocol):
    """One entry for each key of each tenant, changed by compare-and-set. Any number of processes; consistent.

    An entry whose `expires_us` has passed counts as none, whether it is still there or not.
    """

    def claim(self, entry: Entry, now_us: int) -> Entry | None:
        """Store an entry where there is none; None when this one is there now, also when an earlier call had stored it.

        Otherwise return the entry that is there, unchanged.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def take_over(self, found: Entry, owner: str, locked_until_us: int) -> bool:
        """Give an entry that is in progress to another owner, if it is still as `found`: owner and lock.

        True when it has that owner now, also when an earlier call had done it.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def complete(self, entry: Entry, answer: StoredAnswer) -> bool:
        """Store the answer, if the entry is in progress and `entry.owner` has it; True when the answer is there.

        False: somebody else has it, or the answer is larger than an entry holds; nothing was stored.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def unlock(self, entry: Entry) -> None:
        """Let the next attempt begin at once, if the entry is in progress and `entry.owner` has it.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def forget(self, entry: Entry) -> None:
        """Remove an entry, if it is in progress and `entry.owner` has it.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...
