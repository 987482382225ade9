"""Port `Receipts` in memory."""

from collections.abc import Sequence

from pipeline.core.receipt import Receipt


class MemoryReceipts:
    """Receipts by (producer, number)."""

    def __init__(self) -> None:
        self.stored: dict[tuple[str, int], Receipt] = {}

    def put(self, receipt: Receipt) -> None:
        """Store one receipt."""
        self.stored[receipt.producer, receipt.number] = receipt

    def of(self, producer: str) -> Sequence[Receipt]:
        """Return the receipts of one producer, by number."""
        return [one for one in self.all() if one.producer == producer]

    def all(self) -> Sequence[Receipt]:
        """Return every receipt, by producer and number."""
        return [self.stored[key] for key in sorted(self.stored)]
