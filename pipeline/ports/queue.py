"""The queue of replay messages, and the dead-letter queue beside it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Received(NamedTuple):
    """One message in hand: hidden from everybody else for a while.

    `receipt` names this very receipt, not the message; `attempts` says how often it was received, this time included.
    """

    body: str
    receipt: str
    attempts: int


class MessageQueue(Protocol):
    """A queue that gives every message at least once, in no order. Called from one thread."""

    def ask(self) -> None:
        """Ask whether the queue is there; cheap, and changes nothing.

        Raises:
            StoreUnusable: it is missing, or closed to this process; `stores` names it.
            Transient, OutcomeUnknown: it does not answer.
        """
        ...

    def send(self, bodies: Sequence[str]) -> None:
        """Put messages; any number.

        May be repeated; on return each of them is in the queue, some perhaps twice.

        Raises:
            Corrupt: it will never take one of them; others may be in it.
            Transient, OutcomeUnknown: some may be in it; repeat the whole call.
        """
        ...

    def receive(self, wait_seconds: int) -> list[Received]:
        """Return up to ten messages, or none after `wait_seconds` (0 to 20).

        Raises:
            Transient: try again.
        """
        ...

    def delete(self, receipts: Sequence[str]) -> None:
        """Remove received messages for good; up to ten. One that is gone is no error.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Keep received messages hidden for so many seconds from now; 0 gives them back. Up to ten.

        A message whose time has run out may belong to somebody else already: it is left alone.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def bury(self, messages: Sequence[tuple[str, str]]) -> None:
        """Put (body, reason) into the dead-letter queue; does not remove them from this one. Up to ten.

        May be repeated; on return each of them is there, some perhaps twice.

        Raises:
            Transient, OutcomeUnknown: some may be there; repeat the whole call.
        """
        ...

    def depth(self) -> int:
        """Return about how many messages wait or are in somebody's hand."""
        ...

    def in_hand(self) -> int:
        """Return about how many messages are in somebody's hand: received, and neither deleted nor visible again."""
        ...
