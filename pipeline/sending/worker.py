"""What the sending thread does, one round at a time; no round waits for anything but one call.

A round:
1. collect   what threads left in the inbox becomes batches; what lingered long enough is closed
2. spill     batches whose slot has something on disk go behind it; all of them while the stream takes nothing
3. send      one call; what it acknowledges is settled
4. receipt   write receipts that are due, if the stream is the same still; delete spill files that nobody needs
5. tell      callbacks, and whoever waits in flush, drain or close
"""

import threading
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Literal

from pipeline.core.errors import ConfigProblem, NotFound, OutcomeUnknown, Transient
from pipeline.core.receipt import AckedBatch
from pipeline.facts import FactSink, SpillDrained, StreamMadeAnew
from pipeline.ports.clock import Clock
from pipeline.ports.receipts import Receipts
from pipeline.ports.stream import RecordSink, StreamCheck
from pipeline.sending.batches import Batch, Batcher, ProducerSettings
from pipeline.sending.fates import BatchFate, Report, Unreported
from pipeline.sending.inbox import Inbox
from pipeline.sending.lookout import Lookout
from pipeline.sending.outbox import Acked, Outbox
from pipeline.sending.receipting import ReceiptBook
from pipeline.sending.spill import OnDisk, Spill

_IDLE_SECONDS = 1.0  # a put that a signal cut off after it took the event did not wake anybody
_CLOSED = "this producer is closed; make a new one with connect()"


@dataclass(frozen=True)
class WorkerPorts:
    """What the sending thread works on."""

    sink: RecordSink
    receipts: Receipts
    clock: Clock
    random: Callable[[], float]
    facts: FactSink
    on_batch: Callable[[BatchFate], None] | None = None
    check: StreamCheck | None = None  # None: the stream cannot be made anew


@dataclass(eq=False)
class Waiter:
    """Somebody who waits; `reply` gets one None when it is done."""

    wanted: Literal["flush", "drain", "close"]
    before: int  # ticket; a flush is for all events before it
    reply: "SimpleQueue[None]"


class Worker:
    """The life of one producer, without its thread.

    Raises:
        ConfigProblem: the producer's id cannot be part of a label.
        Transient: the receipts of a producer that left something in the spill cannot be read.
    """

    def __init__(
        self,
        producer_id: str,
        stream: tuple[str, str],
        inbox: Inbox,
        ports: WorkerPorts,
        settings: ProducerSettings,
        spill: Spill | None = None,
        keep_fates: int = 1_000_000,
    ) -> None:
        self.producer_id, self.inbox = producer_id, inbox
        self._ports, self._settings, self._spill = ports, settings, spill
        self._lock = threading.Lock()
        self._outbox = Outbox(
            stream[0], ports.sink, settings.backoff, ports.random, self._acknowledged, self._lock
        )
        self._batcher = Batcher(producer_id, settings, self._outbox.lanes.append)
        self._fates = Unreported(keep_fates)
        self._book = ReceiptBook(producer_id, stream, ports.receipts, ports.clock)
        self._books = {producer_id: self._book}
        for left in spill.left if spill is not None else ():
            self._books[left.producer] = _taken_over(left.producer, left.acked, stream, ports)
            for one in left.batches:
                self._outbox.lanes.append(one)
        self._stream, self._lookout = stream, Lookout(stream, ports.check, ports.clock)
        self._waiters: list[Waiter] = []
        self._untold: list[BatchFate] = []
        self._opened_at = self._not_before = self._receipt_not_before = 0.0
        self._down = self._broken = self._told_anew = False
        self._closing = self._last_collected = False
        self.finished = self.ended = False  # finished: all is done; ended: there will be no further round

    # The sending thread ----------------------------------------------------------------------------------

    def round(self) -> float:
        """Do what is to be done; return the seconds until there may be more."""
        with self._lock:
            self._collect()
            self._to_disk()
        self._send()
        self._receipt()
        self._tell()
        return self._seconds_left()

    def give_up(self, why: str, cause: BaseException) -> None:
        """Nothing will ever be sent again: what is in memory goes to disk, or is refused; nothing more is taken."""
        self.inbox.problem = why
        self.inbox.shut(f"this producer sends nothing more: {why}; make a new one with connect()", cause)
        with self._lock:
            self._broken = self._down = True
            self._collect()
            self._batcher.close_all()
            self._to_disk()
            for batch in self._outbox.lanes.clear():
                self.inbox.release(self._settle(batch, BatchFate("refused", batch.tickets, why=why)))

    def end(self) -> None:
        """Let go of the spill folder, and of whoever waits: there will be no further round."""
        if self._spill is not None:
            self._spill.close()
        with self._lock:
            self.ended = True
            waiters, self._waiters = self._waiters, []
        for one in waiters:
            one.reply.put(None)

    def _collect(self) -> None:
        self._last_collected = self._closing  # looked at before the taking: then nothing comes after it
        first, items = self.inbox.take()
        if items and not self._batcher:
            self._opened_at = self._ports.clock.monotonic()
        self._batcher.add_all(items, first)
        lingered = self._ports.clock.monotonic() - self._opened_at >= self._settings.linger_seconds
        if self._batcher and (lingered or self._waiters or self._last_collected):
            self._batcher.close_all()

    def _to_disk(self) -> None:
        if self._spill is None:
            return
        lanes = self._outbox.lanes
        batches = list(lanes.in_memory()) if self._down else lanes.behind_disk()
        if not batches:
            return
        stored = self._spill.write(batches, lambda: list(self._book.unwritten))
        self.inbox.problem = self._spill.problem or self.inbox.problem
        lanes.replace({one.label: one for one in stored})
        for batch, on_disk in zip(batches, stored, strict=False):
            self.inbox.release(self._settle(batch, BatchFate("spilled", batch.tickets, path=on_disk.path)))

    def _send(self) -> None:
        clock = self._ports.clock
        if not self._outbox.lanes or self._broken or clock.monotonic() < self._not_before:
            return
        if self._lookout.look_after_silence() is not None:
            self._made_anew()
            return
        try:
            wait = self._outbox.attempt()
        except Transient as exc:
            self.inbox.problem, self._down = str(exc), True
            wait = self._ports.random() * self._settings.backoff.cap_seconds
            with self._lock:
                self._to_disk()
        except (ConfigProblem, NotFound) as exc:
            self.give_up(str(exc), exc)
            return
        else:
            if not wait:
                self.inbox.problem, self._down = "", False
        self._not_before = clock.monotonic() + wait

    def _acknowledged(self, acked: Sequence[Acked]) -> None:
        by_producer: dict[str, list[Acked]] = {}
        freed_bytes = 0
        for one in acked:
            by_producer.setdefault(one.ready.label.producer, []).append(one)
            batch = one.batch
            if isinstance(one.ready, Batch):
                tickets, memory = one.ready.tickets, one.ready
            else:
                before = self._fates.known(one.ready.label)
                tickets, memory = before.tickets if before else array("q"), None
            fate = BatchFate("acknowledged", tickets, batch.shard_id, batch.sequence_number)
            if memory is not None:
                freed_bytes += self._settle(memory, fate)
            else:
                self._fates.settle(one.ready.label, fate)
        self.inbox.release(freed_bytes)
        for producer, found in by_producer.items():
            batches = [one.batch for one in found]
            self._books[producer].add(batches)
            if self._spill is not None:
                on_disk = [one.ready for one in found if isinstance(one.ready, OnDisk)]
                self._spill.acknowledged(producer, batches, on_disk)

    def _settle(self, batch: Batch, fate: BatchFate) -> int:
        """A batch leaves the memory; return how many bytes are to be released."""
        self._fates.settle(batch.label, fate)
        if self._ports.on_batch is not None:
            self._untold.append(fate)
        return batch.cost_bytes

    def _receipt(self) -> None:
        if self._ports.clock.monotonic() < self._receipt_not_before:
            return
        try:
            if any(self._is_due(producer) for producer in self._books) and self._lookout.look() is not None:
                self._made_anew()
            for producer, book in self._books.items():
                if self._is_due(producer):
                    book.confirm(self._lookout.successor)
                    book.write(closed=self._is_last(producer))
        except (Transient, OutcomeUnknown, ConfigProblem) as exc:
            self.inbox.problem = f"Receipts cannot be written: {exc}"
            self._receipt_not_before = self._ports.clock.monotonic() + self._settings.backoff.cap_seconds
            return
        self._sweep()
        if self._at_end() and not self._book.unwritten:
            self.finished = True

    def _made_anew(self) -> None:
        """Another stream is in the place of ours: what it took gets no receipt under ours, and it gets nothing more."""
        for book in self._books.values():
            book.confirm(self._lookout.successor)
        disowned = sum(len(book.disowned) for book in self._books.values())
        why = self._lookout.why(disowned)
        if self._told_anew:
            return
        self._told_anew = True
        name, epoch = self._stream
        self._ports.facts(StreamMadeAnew(stream=name, epoch=epoch, unreceipted_batches=disowned))
        self.give_up(why, ConfigProblem(why))

    def _is_due(self, producer: str) -> bool:
        book = self._books[producer]
        if book.unwritten and (book.due() or self._drained(producer)):
            return True
        return not book.closed and self._is_last(producer)

    def _is_last(self, producer: str) -> bool:
        """True when nothing will be acknowledged to a producer after what its book holds now."""
        if self._spill is not None and self._spill.waiting(producer):
            return False
        return producer != self.producer_id or (not self._broken and self._at_end())

    def _drained(self, producer: str) -> bool:
        """True when a producer's files only wait for a receipt, or the producer for its end."""
        if self._at_end():
            return True
        return (
            self._spill is not None and producer in self._spill.owners() and not self._spill.waiting(producer)
        )

    def _sweep(self) -> None:
        if self._spill is None or not self._spill:
            return
        problem = self._spill.sweep(
            lambda one: (
                not self._books[one].unwritten and (one == self.producer_id or self._books[one].closed)
            )
        )
        self.inbox.problem = problem or self.inbox.problem
        if not self._spill:
            self._ports.facts(SpillDrained(path=str(self._spill.folder)))

    def _tell(self) -> None:
        told, self._untold = self._untold, []
        if self._ports.on_batch is not None:
            for fate in told:
                self._ports.on_batch(fate)
        with self._lock:
            done = [one for one in self._waiters if self._is_done(one)]
            self._waiters = [one for one in self._waiters if one not in done]
        for one in done:
            one.reply.put(None)

    def _is_done(self, waiter: Waiter) -> bool:
        if waiter.wanted == "flush":
            firsts = [batch.tickets[0] for batch in self._outbox.lanes.in_memory()]
            firsts.append(self.inbox.first_ticket())
            opened = self._batcher.first_ticket()
            return min(firsts if opened is None else [*firsts, opened]) >= waiter.before
        if waiter.wanted == "drain":
            return self._broken or self._spill is None or not self._spill
        return self.finished

    def _at_end(self) -> bool:
        """True when the producer is closed, and all that was ever put is settled."""
        in_memory = bool(self._batcher) or any(True for _ in self._outbox.lanes.in_memory())
        return self._last_collected and not in_memory

    def _seconds_left(self) -> float:
        now = self._ports.clock.monotonic()
        # While a batch is open this thread comes back by itself; what is put meanwhile need not wake it. Looked at
        # after it is said: whoever put before, and woke nobody, is seen here.
        self.inbox.attended = bool(self._batcher)
        if not self.inbox.attended and self.inbox.has_items():
            return 0.0
        waits = [_IDLE_SECONDS]
        if self._outbox.lanes and not self._broken:
            waits.append(self._not_before - now)
        if self._batcher:
            waits.append(self._opened_at + self._settings.linger_seconds - now)
        waits += [
            max(book.seconds_left(), self._receipt_not_before - now)
            for book in self._books.values()
            if book.unwritten
        ]
        return max(0.0, min(waits))

    # Other threads ---------------------------------------------------------------------------------------

    def close(self) -> None:
        """Take nothing more, send what is here, and finish; may be called again."""
        self.inbox.shut(_CLOSED)
        self._closing = True

    def wait_for(self, waiter: Waiter) -> None:
        """Tell a waiter when it is done."""
        with self._lock:
            if self.ended:
                waiter.reply.put(None)
                return
            self._waiters.append(waiter)
        self.inbox.wake.put(None)

    def forget(self, waiter: Waiter) -> None:
        """Tell a waiter nothing any more."""
        with self._lock:
            self._waiters = [one for one in self._waiters if one is not waiter]

    def report(self) -> Report:
        """Return every fate that was not reported yet, and what still waits."""
        with self._lock:
            waiting: Iterable[array[int]] = [
                *(batch.tickets for batch in self._outbox.lanes.in_memory()),
                *self._batcher.tickets(),
                self.inbox.tickets(),
            ]
            unreceipted = sum(len(book.unwritten) + len(book.disowned) for book in self._books.values())
            return self._fates.take(waiting, unreceipted, self.inbox.problem)

    def has_spill(self) -> bool:
        """True when something waits on disk, or for the receipt after which its file can go."""
        return bool(self._spill)

    def left_by_fork(self) -> None:
        """In a forked child: close its copies of the parent's files."""
        if self._spill is not None:
            self._spill.close()


def _taken_over(
    producer: str, acked: list[AckedBatch], stream: tuple[str, str], ports: WorkerPorts
) -> ReceiptBook:
    """Go on with the receipts of a producer that is gone."""
    stored = ports.receipts.of(producer)
    book = ReceiptBook(
        producer,
        stream,
        ports.receipts,
        ports.clock,
        number=max((one.number for one in stored), default=-1) + 1,
    )
    known = {(batch.slot, batch.number) for one in stored for batch in one.batches}
    book.add(one for one in acked if (one.slot, one.number) not in known)
    book.closed = any(one.closed for one in stored)
    return book
