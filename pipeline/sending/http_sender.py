"""The sending thread's work: what threads put goes into requests, answers come back, whoever waits is told.

One thread calls `round`; each lane has a thread that only does requests. The decisions are `http_outbox`'s.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from queue import Empty, SimpleQueue

from pipeline.ports.clock import Clock
from pipeline.sending.fates import BatchFate, Report, Unreported
from pipeline.sending.http_answer import Outcome
from pipeline.sending.http_batch import HttpBatch, HttpOptions
from pipeline.sending.http_outbox import HttpOutbox
from pipeline.sending.inbox import Inbox

_IDLE_SECONDS = 60.0
_SHORT_LINGER_SECONDS = 0.02  # below it every event wakes the thread
_CLOSED = "the producer is closed: connect again"


def given_up(why: str) -> str:
    """Return what a program is told that goes on with a producer which an unknown error has ended."""
    return f"this producer can send nothing any more: {why}; report it, and connect again"


@dataclass(eq=False)
class Wait:
    """Somebody who waits until every event before a ticket is settled; `reply` gets one None then."""

    before: int
    reply: "SimpleQueue[None]"


class HttpSender:
    """The life of one producer, without its first thread.

    Args:
        options: limits and patience.
        send: does one request; called in a thread of each lane.
        make_outbox: given where fates go.
        clock: of time-outs and dates.
        on_batch: told of each settled batch, in the sending thread.
    """

    def __init__(
        self,
        options: HttpOptions,
        send: Callable[[HttpBatch], Outcome],
        make_outbox: Callable[[Callable[[BatchFate, int], None]], HttpOutbox],
        clock: Clock,
        on_batch: Callable[[BatchFate], None] | None,
    ) -> None:
        self._options, self._send, self._clock, self._on_batch = options, send, clock, on_batch
        self.inbox = Inbox(options.max_buffer_bytes, clock)
        self.outbox = make_outbox(self._settled)
        self._fates, self._keys = Unreported(options.keep_fates), count()
        self._untold: list[BatchFate] = []
        self._answers: SimpleQueue[tuple[HttpBatch, Outcome | Exception]] = SimpleQueue()
        self._lanes: list[SimpleQueue[HttpBatch | None]] = [SimpleQueue() for _ in range(options.lanes)]
        self._started = [False] * options.lanes
        self._lock = threading.Lock()
        self._waits: list[Wait] = []
        self._closing = False
        self.finished = self.ended = False

    def round(self) -> float:
        """Do what can be done now; return how many seconds there is nothing to do, unless woken."""
        with self._lock:
            now = self._clock.monotonic()
            closing = self._closing  # before the taking: then nothing comes after it
            self.outbox.add(*self.inbox.take(), now)
            self._take_answers(now)
            at_once = closing or bool(self._waits)
            for batch in self.outbox.due(now, at_once=at_once):
                self._start(batch)
            self.inbox.problem = self.outbox.problem
            self.finished = closing and not self.outbox
            done = self._done()
            wait = self._seconds_left(now, at_once=at_once)
        self._tell(done)
        return wait

    def close(self) -> None:
        """Take nothing more, send what is here, and finish; may be called again."""
        self.inbox.shut(_CLOSED)
        self._closing = True
        self.inbox.wake.put(None)

    def give_up(self, why: str, cause: BaseException) -> None:
        """Take nothing more, since nothing can be sent; each event that is left is refused, or unknown where it was sent."""
        self.inbox.shut(given_up(why), cause)
        with self._lock:
            self.outbox.add(*self.inbox.take(), self._clock.monotonic())
            self.outbox.give_up(why)
            self.inbox.problem = self.outbox.problem
        self._tell([])

    def end(self) -> None:
        """Let go of the lanes, and of whoever waits: there will be no further round."""
        for lane in self._lanes:
            lane.put(None)
        with self._lock:
            self.ended = True
            waits, self._waits = self._waits, []
        for one in waits:
            one.reply.put(None)

    def wait_for(self, wait: Wait) -> None:
        """Tell somebody when everything before is settled."""
        with self._lock:
            if self.ended:
                wait.reply.put(None)
                return
            self._waits.append(wait)
        self.inbox.wake.put(None)

    def forget(self, wait: Wait) -> None:
        """Tell somebody nothing any more."""
        with self._lock:
            self._waits = [one for one in self._waits if one is not wait]

    def report(self) -> Report:
        """Return every fate that was not reported yet, and what still waits."""
        with self._lock:
            waiting = [*self.outbox.tickets(), self.inbox.tickets()]
            return self._fates.take(waiting, 0, self.inbox.problem)

    def _start(self, batch: HttpBatch) -> None:
        if not self._started[batch.lane]:
            self._started[batch.lane] = True
            name = f"headrace-http-{batch.lane}"
            threading.Thread(target=self._run_lane, args=(batch.lane,), name=name, daemon=True).start()
        self._lanes[batch.lane].put(batch)

    def _run_lane(self, number: int) -> None:
        while (batch := self._lanes[number].get()) is not None:
            outcome: Outcome | Exception
            try:
                outcome = self._send(batch)
            except Exception as exc:  # noqa: BLE001 - nobody foresaw it: the sending thread gives up with it
                outcome = exc
            self._answers.put((batch, outcome))
            self.inbox.wake.put(None)

    def _take_answers(self, now: float) -> None:
        while True:
            try:
                batch, outcome = self._answers.get_nowait()
            except Empty:
                return
            if isinstance(outcome, Exception):
                raise outcome
            self.outbox.answered(batch, outcome, now, time.time())

    def _settled(self, fate: BatchFate, cost_bytes: int) -> None:
        self._fates.settle(next(self._keys), fate)
        self.inbox.release(cost_bytes)
        if self._on_batch is not None:
            self._untold.append(fate)

    def _done(self) -> list[Wait]:
        first, opened = self.inbox.first_ticket(), self.outbox.first_ticket()
        reached = first if opened is None else min(first, opened)
        done = [one for one in self._waits if one.before <= reached]
        self._waits = [one for one in self._waits if one.before > reached]
        return done

    def _tell(self, done: list[Wait]) -> None:
        told, self._untold = self._untold, []
        if self._on_batch is not None:
            for fate in told:
                self._on_batch(fate)
        for one in done:
            one.reply.put(None)

    def _seconds_left(self, now: float, *, at_once: bool) -> float:
        wait, linger = self.outbox.seconds_left(now, at_once=at_once), self._options.linger_seconds
        # While there is anything to send this thread looks in by itself; what is put meanwhile need not wake it.
        attended = bool(self.outbox) and linger >= _SHORT_LINGER_SECONDS
        self.inbox.attended = attended
        if not attended and self.inbox.has_items():
            return 0.0
        return min(wait, linger if attended else _IDLE_SECONDS)
