"""Receipts: what producers say was acknowledged, the audit's witness outside the loader (table `receipts`)."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.core.receipt import Receipt


class Receipts(Protocol):
    """Receipts are written by producers on flush intervals and at close, and read by the audit."""

    def put(self, receipt: Receipt) -> None:
        """Store one receipt; repeating it changes nothing.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def of(self, producer: str) -> Sequence[Receipt]:
        """Return the receipts of one producer, by number.

        Raises:
            Transient: try again.
        """
        ...

    def all(self) -> Sequence[Receipt]:
        """Return every receipt, by producer and number."""
        ...
