"""The producer of one thread: events in, KPL aggregates out, a receipt for what was acknowledged.

An entity belongs to one virtual slot; batches of a slot go out one after the other, so an entity's events stay in
order, also over partial failures. One thread uses a producer, and waits in it while the stream is busy; a user's
program has `pipeline.producer` for more.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress

from pipeline.core.errors import ConfigProblem, OutcomeUnknown, Transient
from pipeline.core.receipt import MAX_BATCHES
from pipeline.ports.clock import Clock
from pipeline.ports.receipts import Receipts
from pipeline.ports.stream import RecordSink, StreamCheck, Successor
from pipeline.sending.batches import Batcher, ProducerSettings, check_size, slot_of_entity
from pipeline.sending.lanes import MAX_PUT_BYTES
from pipeline.sending.lookout import Lookout
from pipeline.sending.outbox import Acked, Outbox
from pipeline.sending.receipting import ReceiptBook


class Producer:
    """Puts events to one stream.

    Args:
        producer_id: 4 to 32 of a-z and 0-9, never used twice: batch numbers start at 0.
        stream: the stream's name and epoch, for the receipt.
        sink: where records go. Must not retry by itself.
        receipts: where receipts go.
        clock: time, stepped in tests.
        random: returns 0 <= x < 1, for jitter.
        settings: how events are batched.
        check: whether the stream was made anew; None: it cannot be.

    Raises:
        ConfigProblem: the id cannot be part of a batch's label.
    """

    def __init__(
        self,
        producer_id: str,
        stream: tuple[str, str],
        sink: RecordSink,
        receipts: Receipts,
        clock: Clock,
        random: Callable[[], float],
        settings: ProducerSettings | None = None,
        check: StreamCheck | None = None,
    ) -> None:
        self.producer_id = producer_id
        self._clock, self._random, self._settings = clock, random, settings or ProducerSettings()
        self._outbox = Outbox(stream[0], sink, self._settings.backoff, random, self._acknowledged)
        self._batcher = Batcher(producer_id, self._settings, self._outbox.lanes.append)
        self._book = ReceiptBook(producer_id, stream, receipts, clock)
        self._lookout = Lookout(stream, check, clock)
        self._closed = False
        self._flushed_at = clock.monotonic()
        self.events_acknowledged = 0
        self.bytes_acknowledged = 0

    def put(self, tenant_id: str, entity_id: str, payload: bytes) -> None:
        """Take one event: finished envelope JSON. Sends when enough is waiting; blocks while the stream is busy.

        Args:
            tenant_id: of the event.
            entity_id: of the event; chooses the slot.
            payload: judged as one event already (`flows.ingest` does it); what holds several would be counted as one.

        Raises:
            InvalidEvent: the event fits into no Kinesis record; it was not taken, its neighbours are as they were.
            Transient: the stream refused for longer than the back-off allows; nothing that was put is forgotten,
                call `flush` to try again.
            ConfigProblem: the producer is closed, or the stream was made anew: nothing more can be sent.
        """
        check_size(payload)
        if self._closed:
            raise ConfigProblem("this producer is closed; its last receipt is written: make a new one")
        self._give_up_if(self._lookout.successor)
        self._batcher.add(slot_of_entity(tenant_id, entity_id, self._settings.slots), payload)
        if self._outbox.lanes.memory_bytes >= MAX_PUT_BYTES:
            self._send()

    def tick(self) -> None:
        """Send what has waited for longer than the linger time; call now and then."""
        if self._clock.monotonic() - self._flushed_at >= self._settings.linger_seconds:
            self.flush()

    def flush(self) -> None:
        """Send everything that was put; on return all of it is acknowledged."""
        self._batcher.close_all()
        self._send()
        self._flushed_at = self._clock.monotonic()
        if self._book.due():
            self._write_receipts(closed=False)

    def close(self) -> None:
        """Flush and write the last receipt; a second call does nothing."""
        if not self._closed:
            self.flush()
            self._write_receipts(closed=True)
            self._closed = True

    def _send(self) -> None:
        while self._outbox.lanes:
            self._give_up_if(self._lookout.look_after_silence())
            try:
                wait = self._outbox.attempt()
            except Transient as exc:
                left = len(self._outbox.lanes)
                raise Transient(f"{exc}; {left} batches are still here: call flush() to try again") from exc
            if wait:
                self._clock.pause(wait)
            if len(self._book.unwritten) >= MAX_BATCHES:
                self._write_receipts(closed=False)

    def _acknowledged(self, acked: Sequence[Acked]) -> None:
        self._book.add(one.batch for one in acked)
        for one in acked:
            self.events_acknowledged += one.batch.events
            self.bytes_acknowledged += len(one.ready.outgoing().data)

    def _give_up_if(self, successor: Successor | None) -> None:
        """Raise where another stream is in the place of ours; what was acknowledged before is receipted, once that can be."""
        if successor is None:
            return
        self._book.confirm(successor)
        with suppress(Transient, OutcomeUnknown):
            self._book.write()
        left = (
            f"{len(self._outbox.lanes)} batches were not sent"
            if self._outbox.lanes
            else "nothing is left unsent"
        )
        raise ConfigProblem(f"{self._lookout.why(len(self._book.disowned))}; {left}: make a new producer")

    def _write_receipts(self, *, closed: bool) -> None:
        waits = self._settings.backoff.waits(self._random)
        while True:
            try:
                successor = self._lookout.look()
                self._book.confirm(successor)
                self._book.write(closed=closed)
            except (Transient, OutcomeUnknown) as exc:
                wait = None if exc.spent else next(waits, None)
                if wait is None:
                    raise
                self._clock.pause(wait)
            else:
                return self._give_up_if(successor)
