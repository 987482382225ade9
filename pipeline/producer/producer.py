"""The producer: events in, KPL aggregates out, a receipt for what was acknowledged.

An entity belongs to one virtual slot; batches of a slot go out one after the other, so an entity's events stay in
order, also over partial failures. One thread uses a producer.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pipeline.core.errors import ConfigProblem, InvalidEvent, OutcomeUnknown, Transient
from pipeline.core.event import RefusalCode
from pipeline.core.kpl import Aggregate
from pipeline.core.receipt import MAX_BATCHES, AckedBatch, Receipt
from pipeline.core.retry import Backoff
from pipeline.core.slots import BatchLabel, hash_key, parse_label, slot_of
from pipeline.ports.clock import Clock
from pipeline.ports.receipts import Receipts
from pipeline.ports.stream import OutgoingRecord, RecordSink

MAX_PUT_RECORDS = 500  # Kinesis limit per call
MAX_PUT_BYTES = 4_500_000  # per call; Kinesis takes 10 MiB, older stacks 5 MB, keys included
MAX_RECORD_BYTES = 2**20  # Kinesis limit, partition key included, unless the stream is set higher
_RECORD_ROOM = 512  # of it for label, hash key, checksum and the event's own header
MAX_EVENT_BYTES = MAX_RECORD_BYTES - _RECORD_ROOM
RECEIPT_SECONDS = 10.0  # a crash leaves at most so much unreceipted


_slot_of = lru_cache(maxsize=65_536)(slot_of)  # a program's busiest entities; hashing costs 1 us
_PATIENT = Backoff(attempts=12, base_seconds=0.1, cap_seconds=5.0)  # about half a minute of a busy stream


@dataclass(frozen=True)
class ProducerSettings:
    """How events are batched."""

    slots: int = 64
    max_batch_bytes: int = 262_144
    max_batch_events: int = 2_000
    linger_seconds: float = 0.2
    backoff: Backoff = _PATIENT


@dataclass(frozen=True)
class _Batch:
    label: BatchLabel
    record: OutgoingRecord


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
    ) -> None:
        if parse_label(str(BatchLabel(producer_id, 0, 0, 1))) is None:
            raise ConfigProblem(f"producer id {producer_id!r}: must be 4 to 32 characters of a-z and 0-9")
        self.producer_id = producer_id
        self._closed = False
        self._stream, self._sink, self._receipts = stream, sink, receipts
        self._clock, self._random, self._settings = clock, random, settings or ProducerSettings()
        self._open: dict[int, Aggregate] = {}
        self._next_number = [0] * self._settings.slots
        self._ready: list[_Batch] = []
        self._ready_bytes = 0
        self._acked: list[AckedBatch] = []
        self._receipt_number = 0
        self._flushed_at = self._receipted_at = clock.monotonic()
        self._acked_from_us = clock.now_us()
        self.events_acknowledged = 0
        self.bytes_acknowledged = 0

    def put(self, tenant_id: str, entity_id: str, payload: bytes) -> None:
        """Take one event: finished envelope JSON. Sends when enough is waiting; blocks while the stream is busy.

        Raises:
            InvalidEvent: the event fits into no Kinesis record; it was not taken, its neighbours are as they were.
            Transient: the stream refused for longer than the back-off allows; nothing that was put is forgotten,
                call `flush` to try again.
        """
        if len(payload) > MAX_EVENT_BYTES:
            raise InvalidEvent(
                RefusalCode.TOO_LARGE,
                "",
                f"{len(payload)} bytes; a Kinesis record holds {MAX_EVENT_BYTES} at most",
            )
        if self._closed:
            raise ConfigProblem("this producer is closed; its last receipt is written: make a new one")
        slot = _slot_of(tenant_id, entity_id, self._settings.slots)
        batch = self._open.get(slot)
        if batch is not None and batch.size_bytes + len(payload) > MAX_EVENT_BYTES:
            self._close(slot)
            batch = None
        if batch is None:
            batch = self._open[slot] = Aggregate()
        batch.add(payload)
        if (
            batch.size_bytes >= self._settings.max_batch_bytes
            or batch.count >= self._settings.max_batch_events
        ):
            self._close(slot)
            if self._ready_bytes >= MAX_PUT_BYTES:
                self._send()

    def tick(self) -> None:
        """Send what has waited for longer than the linger time; call now and then."""
        if self._clock.monotonic() - self._flushed_at >= self._settings.linger_seconds:
            self.flush()

    def flush(self) -> None:
        """Send everything that was put; on return all of it is acknowledged."""
        for slot in list(self._open):
            self._close(slot)
        self._send()
        self._flushed_at = self._clock.monotonic()
        if self._flushed_at - self._receipted_at >= RECEIPT_SECONDS:
            self._write_receipts(closed=False)

    def close(self) -> None:
        """Flush and write the last receipt; a second call does nothing."""
        if not self._closed:
            self.flush()
            self._write_receipts(closed=True)
            self._closed = True

    def _close(self, slot: int) -> None:
        batch = self._open.pop(slot)
        label = BatchLabel(self.producer_id, slot, self._next_number[slot], batch.count)
        self._next_number[slot] += 1
        key = hash_key(slot, self._settings.slots)
        data = batch.encode(str(label), key)
        self._ready.append(_Batch(label, OutgoingRecord(data, str(label), key)))
        self._ready_bytes += len(data)

    def _send(self) -> None:
        waits = self._settings.backoff.waits(self._random)
        while self._ready:
            chosen = list(_one_call(self._ready))
            try:
                refused = self._put(chosen)
            except (Transient, OutcomeUnknown):
                refused = chosen  # if they were stored all the same, the loader flags the copies
            if len(refused) < len(chosen):
                waits = self._settings.backoff.waits(self._random)
                continue
            wait = next(waits, None)
            if wait is None:
                raise Transient(
                    f"stream {self._stream[0]} took nothing in {self._settings.backoff.attempts} attempts; "
                    f"{len(self._ready)} batches are still here: call flush() to try again"
                )
            self._clock.pause(wait)

    def _put(self, chosen: Sequence[_Batch]) -> list[_Batch]:
        """Put batches; note what was acknowledged, return what was refused."""
        answers = self._sink.put([batch.record for batch in chosen])
        done: set[BatchLabel] = set()
        for batch, answer in zip(chosen, answers, strict=True):
            if answer.error:
                continue
            label = batch.label
            done.add(label)
            self._acked.append(
                AckedBatch(label.slot, label.number, label.events, answer.shard_id, answer.sequence_number)
            )
            self.events_acknowledged += label.events
            self.bytes_acknowledged += len(batch.record.data)
        self._ready = [batch for batch in self._ready if batch.label not in done]
        self._ready_bytes = sum(len(batch.record.data) for batch in self._ready)
        if len(self._acked) >= MAX_BATCHES:
            self._write_receipts(closed=False)
        return [batch for batch in chosen if batch.label not in done]

    def _write_receipts(self, *, closed: bool) -> None:
        now = self._clock.now_us()
        closed = closed and (
            self._receipt_number > 0 or bool(self._acked)
        )  # nothing sent, nothing to witness
        while self._acked or closed:
            batches = tuple(self._acked[:MAX_BATCHES])
            last = closed and len(batches) == len(self._acked)
            self._put_receipt(
                Receipt(
                    producer=self.producer_id,
                    number=self._receipt_number,
                    stream=self._stream[0],
                    epoch=self._stream[1],
                    acked_from_us=self._acked_from_us,
                    acked_until_us=now,
                    batches=batches,
                    closed=last,
                )
            )
            # Only now: what is in no stored receipt would look as if nobody had sent it.
            self._acked = self._acked[len(batches) :]
            self._receipt_number += 1
            if last:
                break
        self._acked_from_us, self._receipted_at = now, self._clock.monotonic()

    def _put_receipt(self, receipt: Receipt) -> None:
        waits = self._settings.backoff.waits(self._random)
        while True:
            try:
                return self._receipts.put(receipt)
            except (Transient, OutcomeUnknown) as exc:
                wait = None if exc.spent else next(waits, None)
                if wait is None:
                    raise
                self._clock.pause(wait)


def _one_call(ready: Iterable[_Batch]) -> Iterable[_Batch]:
    """Yield the batches of one PutRecords call: at most one per slot, so that a refusal cannot turn their order."""
    slots: set[int] = set()
    size = 0
    for batch in ready:
        if batch.label.slot in slots:
            continue
        size += len(batch.record.data) + len(batch.record.partition_key)
        if slots and (size > MAX_PUT_BYTES or len(slots) == MAX_PUT_RECORDS):
            return
        slots.add(batch.label.slot)
        yield batch
