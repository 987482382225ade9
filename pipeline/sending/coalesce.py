"""Events of many requests into the aggregates of one producer, and the answers back to whoever waits.

Everything here happens on one event loop; the producer's own thread only leaves what became of batches, and wakes the
loop once for all that it left. Memory is bounded by the producer: what finds no room is not taken.
"""

import asyncio
from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.core.errors import OutcomeUnknown
from pipeline.sending.batches import Item
from pipeline.sending.event import Wire
from pipeline.sending.fates import BatchFate
from pipeline.sending.threaded import EventProducer, Outgoing

_SETTLED_KEPT = 256  # first tickets of settled requests, before the list of them is made again
OpenProducer = Callable[[Callable[[BatchFate], None]], EventProducer]


class Place(NamedTuple):
    """A position in a shard: sequence numbers are decimal, so of two the longer one is further."""

    digits: int
    number: str
    event: int  # its number in its record


@dataclass(eq=False, slots=True)
class Sent:
    """Events that were taken together.

    Attributes:
        done: resolved, with nothing, once the fate of each is known, or at `expire`.
        acknowledged: for each event, whether the stream has it.
        furthest: shard -> the furthest place of an acknowledged event.
        firsts: shard -> a place in the first record, where acknowledged events lie in more than one record.
    """

    first_ticket: int
    done: "asyncio.Future[None]"
    acknowledged: bytearray
    furthest: dict[str, Place] = field(default_factory=dict)
    firsts: dict[str, Place] = field(default_factory=dict)
    open: int = 0

    def expire(self) -> None:
        """Let whoever waits go on with what is known now."""
        if not self.done.done():
            self.done.set_result(None)

    def settle(self, tickets: "array[int]", index: int, end: int, shard_id: str, number: str) -> None:
        """Note the fate of events that share a record.

        Args:
            tickets: of the record's events; those from `index` to before `end` are of this request.
            index: as said.
            end: as said.
            shard_id: where the record is; "" where the stream does not have it.
            number: its sequence number.
        """
        if shard_id:
            acknowledged, first = self.acknowledged, self.first_ticket
            for ticket in tickets[index:end]:
                acknowledged[ticket - first] = 1
            known = self.furthest.get(shard_id)
            place = Place(len(number), number, end - 1)
            if known is not None and known.number != number:
                self.firsts[shard_id] = min(place, known, self.firsts.get(shard_id, place))
            if known is None or known < place:
                self.furthest[shard_id] = place
        self.open -= end - index
        if not self.open and not self.done.done():
            self.done.set_result(None)


class Ingest:
    """Takes events on an event loop, and tells when the stream has them.

    Args:
        open_producer: makes the producer; it is given where to tell what became of batches.
    """

    def __init__(self, open_producer: OpenProducer) -> None:
        self._open = open_producer
        self._producer: EventProducer | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._sent: dict[int, Sent] = {}  # by first ticket: requests whose events are not all settled
        self._firsts: list[int] = []  # their first tickets, and some that are settled, in order
        self._waiting = 0  # events
        self._fates: deque[BatchFate] = deque()
        self._woken = False

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Open the producer; call once, before the first event.

        Raises:
            ConfigProblem, NotFound, Transient: there is nothing to send to.
        """
        self._loop, self._producer = loop, self._open(self._settled)

    def ready(self, events: Iterable[Outgoing]) -> list[Item]:
        """Return events that were judged as `put_all` takes them."""
        return self._opened().ready(events)

    def put_all(self, items: list[Item]) -> Sent:
        """Take events, all or none; call on the loop.

        Raises:
            Transient: there is no room; nothing was taken.
            ConfigProblem: the producer can send nothing any more.
        """
        first, count = self._opened().put_ready(items), len(items)
        sent = Sent(first, asyncio.get_running_loop().create_future(), bytearray(count), open=count)
        self._sent[first] = sent
        self._firsts.append(first)
        self._waiting += count
        return sent

    async def put(self, payload: bytes, tenant_id: str, entity_id: str) -> tuple[str, str]:
        """Send one event of the server's own; return shard and sequence number once the stream has it.

        Raises:
            Transient: there is no room; it was not taken.
            OutcomeUnknown: the producer can send nothing any more.
        """
        sent = self.put_all(self.ready([Wire(tenant_id, entity_id, payload)]))
        await sent.done
        for shard_id, place in sent.furthest.items():
            return shard_id, place.number
        raise OutcomeUnknown("the producer to the stream gave up; the event may be there")

    def waiting(self) -> int:
        """Return how many events were taken whose fate is not known."""
        return self._waiting

    def broken(self) -> str | None:
        """Return why nothing can be sent any more; None while it can."""
        return None if self._producer is None else self._producer.refusal

    def close(self, seconds: float) -> bool:
        """Send what was taken and write the last receipt; blocks. False: something is left, nobody knows of it."""
        if self._producer is None:
            return True
        report = self._producer.close(seconds)
        return not (report.waiting or report.refused or report.unreceipted)

    def _opened(self) -> EventProducer:
        if self._producer is None:
            raise RuntimeError("Ingest was given events before its start")
        return self._producer

    def _settled(self, fate: BatchFate) -> None:
        """Take what became of a batch (the sending thread)."""
        self._fates.append(fate)
        if not self._woken and self._loop is not None:
            self._woken = True
            if self._loop.is_closed():  # the server has ended without waiting for this
                return
            self._loop.call_soon_threadsafe(self._tell)

    def _tell(self) -> None:
        self._woken = False  # first: what is left from here on wakes the loop again
        fates = self._fates
        while fates:
            fate = fates.popleft()
            has_it = fate.kind == "acknowledged"
            shard_id, number = (fate.shard_id, fate.sequence_number) if has_it else ("", "")
            self._settle(fate.tickets, shard_id, number)
        if len(self._firsts) > 2 * len(self._sent) + _SETTLED_KEPT:
            self._firsts = [first for first in self._firsts if first in self._sent]

    def _settle(self, tickets: "array[int]", shard_id: str, number: str) -> None:
        """Settle the events of one record; those of a request stand together in it, as tickets come in order."""
        index, count = 0, len(tickets)
        while index < count:
            ticket = tickets[index]
            sent = self._sent.get(ticket)
            if sent is None:
                sent = self._sent[self._firsts[bisect_right(self._firsts, ticket) - 1]]
            beyond = sent.first_ticket + len(sent.acknowledged)
            end = index + 1
            if end < count and tickets[end] < beyond:
                end = bisect_left(tickets, beyond, end)
            sent.settle(tickets, index, end, shard_id, number)
            if not sent.open:
                del self._sent[sent.first_ticket]
            index = end
        self._waiting -= count
