"""The receipts of one producer: what was acknowledged since the last one, and the number of the next."""

from collections.abc import Iterable

from pipeline.core.receipt import MAX_BATCHES, AckedBatch, Receipt
from pipeline.ports.clock import Clock
from pipeline.ports.receipts import Receipts
from pipeline.ports.stream import Successor

RECEIPT_SECONDS = 10.0  # a crash leaves at most so much unreceipted


class ReceiptBook:
    """Collects acknowledged batches and writes receipts, numbered without a hole.

    Args:
        producer_id: whose receipts.
        stream: the stream's name and epoch.
        receipts: where they go.
        clock: for the interval a receipt speaks of.
        number: of the next receipt; not 0 for a producer that goes on after a crash.
    """

    def __init__(
        self, producer_id: str, stream: tuple[str, str], receipts: Receipts, clock: Clock, number: int = 0
    ) -> None:
        self.producer_id = producer_id
        self._stream, self._receipts, self._clock, self._number = stream, receipts, clock, number
        self.unwritten: list[AckedBatch] = []
        self.disowned: list[AckedBatch] = []  # perhaps of a stream that was made anew: they get no receipt
        self._sure = 0  # so many of `unwritten` are this stream's, whatever comes
        self.closed = False
        self._from_us, self._written_at = clock.now_us(), clock.monotonic()

    def add(self, acked: Iterable[AckedBatch]) -> None:
        """Note acknowledged batches."""
        self.unwritten += acked

    def confirm(self, successor: Successor | None) -> None:
        """Take notice of a look at the stream after all that is noted: where another is in its place, disown what may be that one's."""
        if successor is not None:
            doubtful = self.unwritten[self._sure :]
            ours = [one for one in doubtful if not successor.may_hold(one.shard_id, one.sequence_number)]
            self.disowned += [
                one for one in doubtful if successor.may_hold(one.shard_id, one.sequence_number)
            ]
            self.unwritten[self._sure :] = ours
        self._sure = len(self.unwritten)

    def due(self) -> bool:
        """True when there is enough for a receipt, or the last one is old."""
        return len(self.unwritten) >= MAX_BATCHES or self.seconds_left() <= 0

    def seconds_left(self) -> float:
        """Return the seconds until the next receipt is due by its age."""
        return self._written_at + RECEIPT_SECONDS - self._clock.monotonic()

    def write(self, *, closed: bool = False) -> None:
        """Write receipts of all that is noted; with `closed` the last one says so, unless something was disowned.

        `confirm` comes before. May be repeated.

        Raises:
            Transient, OutcomeUnknown: call again; nothing noted is forgotten.
        """
        now = self._clock.now_us()
        # A producer that sent nothing has nothing to witness.
        witness = self._number > 0 or bool(self.unwritten)
        last_wanted = closed and not self.closed and not self.disowned and witness
        while self.unwritten or last_wanted:
            batches = tuple(self.unwritten[:MAX_BATCHES])
            last = last_wanted and len(batches) == len(self.unwritten)
            self._receipts.put(
                Receipt(
                    producer=self.producer_id,
                    number=self._number,
                    stream=self._stream[0],
                    epoch=self._stream[1],
                    acked_from_us=self._from_us,
                    acked_until_us=now,
                    batches=batches,
                    closed=last,
                )
            )
            # Only now: what is in no stored receipt would look as if nobody had sent it.
            self.unwritten = self.unwritten[len(batches) :]
            self._sure = max(0, self._sure - len(batches))
            self._number += 1
            if last:
                break
        self.closed = self.closed or closed
        self._from_us, self._written_at = now, self._clock.monotonic()
