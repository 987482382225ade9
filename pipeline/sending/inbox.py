"""Where threads leave events for the sending thread: bounded by bytes, and never torn.

A signal's handler may raise in the main thread between any two steps, so an event is taken by one single step (an
append), and all counts are made again from what is really there. Only locks that are taken and given back in C
are used: a handler cannot raise between the taking and the body of `with`.
"""

import threading
from array import array
from queue import Empty, SimpleQueue

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.ports.clock import Clock
from pipeline.sending.batches import EVENT_OVERHEAD_BYTES, Item

_WAKE_BYTES = 2**20  # of waiting events, and the sending thread is woken before the linger time


class Inbox:
    """Events on their way to the sending thread.

    Args:
        max_bytes: how much may wait in memory, here and behind it; one event alone always finds room.
        clock: for the time-outs of `put`.
    """

    def __init__(self, max_bytes: int, clock: Clock) -> None:
        self._max_bytes, self._clock = max_bytes, clock
        self._lock = threading.Lock()
        self._items: list[Item] = []
        self._bytes = 0  # of `_items`; made exact by each `take`
        self._held = 0  # taken, not released
        self._base = 0  # ticket of the first item
        self._waiters: dict[SimpleQueue[None], None] = {}
        self._refusal: str | None = None
        self.cause: BaseException | None = None  # of a refusal that nobody asked for
        self.problem = ""  # why nothing is released, for the message of a time-out
        self.attended = False  # the sending thread looks in by itself before the linger time is over
        self.wake: SimpleQueue[None] = SimpleQueue()

    def put(self, item: Item, timeout: float | None) -> int:
        """Take one event; return its ticket. Waits up to `timeout` seconds for room, for ever with None.

        Raises:
            Transient: there was no room in time; nothing was taken.
            ConfigProblem: it was shut; the message says why.
        """
        cost = len(item.payload) + EVENT_OVERHEAD_BYTES
        deadline = None
        while True:
            with self._lock:
                if self._refusal is not None:
                    raise ConfigProblem(self._refusal) from self.cause
                if self._held + self._bytes + cost <= self._max_bytes or not self._held + self._bytes:
                    ticket = self._base + len(self._items)
                    wake = self._is_news(cost)
                    self._bytes += cost
                    self._items.append(item)  # from this step on it is taken
                    break
                turn: SimpleQueue[None] = SimpleQueue()
                self._waiters[turn] = None
            if deadline is None:
                deadline = self._clock.monotonic() + timeout if timeout is not None else float("inf")
            self._wait(turn, deadline, timeout)
        if wake:
            self.wake.put(None)
        return ticket

    def put_all(self, items: list[Item]) -> int:
        """Take all of some events, or none; return the ticket of the first, the others follow it. Never waits.

        Raises:
            Transient: there is no room; nothing was taken.
            ConfigProblem: it was shut; the message says why.
        """
        cost = sum([len(one.payload) for one in items]) + EVENT_OVERHEAD_BYTES * len(items)
        with self._lock:
            if self._refusal is not None:
                raise ConfigProblem(self._refusal) from self.cause
            if self._held + self._bytes and self._held + self._bytes + cost > self._max_bytes:
                raise Transient(
                    f"{self._held + self._bytes:,} bytes of events are waiting for the stream, the limit is "
                    f"{self._max_bytes:,}; nothing was taken" + (f". {self.problem}" if self.problem else "")
                )
            ticket, wake = self._base + len(self._items), self._is_news(cost)
            self._bytes += cost
            self._items += items
        if wake:
            self.wake.put(None)
        return ticket

    def _is_news(self, cost: int) -> bool:
        """True when the sending thread must hear of what is put now."""
        return not (self._items or self.attended) or self._bytes < _WAKE_BYTES <= self._bytes + cost

    def _wait(self, turn: "SimpleQueue[None]", deadline: float, timeout: float | None) -> None:
        left = deadline - self._clock.monotonic()
        try:
            turn.get(timeout=max(0.0, min(left, threading.TIMEOUT_MAX)))
        except Empty:
            raise Transient(
                f"{self.used_bytes():,} bytes of events are waiting, the limit is {self._max_bytes:,}, and the stream "
                f"freed no room in {timeout or 0:g} s; this event was not taken: try again, or make room "
                f"(max_buffer_bytes, spill)" + (f". {self.problem}" if self.problem else "")
            ) from None
        finally:
            with self._lock:
                self._waiters.pop(turn, None)

    def take(self) -> tuple[int, list[Item]]:
        """Return everything that was put since, and the ticket of its first; the sending thread's."""
        with self._lock:
            first, items = self._base, self._items
            self._items, self._bytes = [], 0
            self._base += len(items)
            self._held += sum([len(one.payload) for one in items]) + EVENT_OVERHEAD_BYTES * len(items)
        return first, items

    def release(self, cost_bytes: int) -> None:
        """Make room; the sending thread's."""
        with self._lock:
            self._held -= cost_bytes
            waiters, self._waiters = self._waiters, {}
        for turn in waiters:
            turn.put(None)

    def shut(self, refusal: str, cause: BaseException | None = None) -> None:
        """Refuse every further event; what was put before is still taken. A cause goes before a refusal without one."""
        with self._lock:
            if self._refusal is None or (cause is not None and self.cause is None):
                self._refusal, self.cause = refusal, cause
            waiters = list(self._waiters)
        for turn in waiters:
            turn.put(None)

    @property
    def refusal(self) -> str | None:
        """Return why nothing is taken any more; None while it is."""
        return self._refusal

    def has_items(self) -> bool:
        """True when something was put that nobody has taken out yet."""
        return bool(self._items)

    def first_ticket(self) -> int:
        """Return the ticket of the oldest event here, or of the next one."""
        with self._lock:
            return self._base

    def next_ticket(self) -> int:
        """Return the ticket that the next event would get: all before it are taken."""
        with self._lock:
            return self._base + len(self._items)

    def tickets(self) -> "array[int]":
        """Return the tickets of the events that nobody has taken out yet."""
        with self._lock:
            return array("q", range(self._base, self._base + len(self._items)))

    def used_bytes(self) -> int:
        """Return how much waits."""
        return self._held + self._bytes
