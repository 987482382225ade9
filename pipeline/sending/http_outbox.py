"""Which request goes next, and what becomes of its events: pure, so that any order of answers can be tried.

Events of an entity go by one lane. A lane has one request on its way; the next follows when each event of the one before
is settled. Every event is settled once: acknowledged, refused, or unknown when nobody answered for as long as is tried.

Time (`now`, monotonic seconds), randomness and keys are arguments; whoever sends calls `due`, does the requests, and tells
`answered` what came.
"""

from array import array
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain

from msgspec import structs

from pipeline.sending.batches import Item
from pipeline.sending.fates import BatchFate, Kind
from pipeline.sending.http_answer import Again, Outcome, Refuse, Renew, Settled, Split, verdict
from pipeline.sending.http_batch import HttpBatch, HttpOptions

_NEVER = float("inf")


class _Lane:
    __slots__ = ("in_flight", "open", "open_bytes", "pending", "since")

    def __init__(self) -> None:
        self.open: deque[tuple[int, bytes]] = deque()  # taken, in no request yet
        self.open_bytes, self.since = 0, 0.0
        self.pending: deque[HttpBatch] = deque()  # to be sent again, oldest first
        self.in_flight: HttpBatch | None = None

    def batches(self) -> Iterator[HttpBatch]:
        if self.in_flight is not None:
            yield self.in_flight
        yield from self.pending


class HttpOutbox:
    """Events on their way to one server.

    Args:
        options: limits and patience.
        settled: takes the fate of events, and what they weighed in memory; each event's once.
        random: 0 <= x < 1.
        new_key: a key that no request had before.
        renewable: a refused credential can be had anew.
        hide: takes secrets out of a server's text.

    Attributes:
        problem: what keeps events from going out; "" when nothing does.
    """

    def __init__(
        self,
        options: HttpOptions,
        settled: Callable[[BatchFate, int], None],
        random: Callable[[], float],
        new_key: Callable[[], str],
        *,
        renewable: bool = False,
        hide: Callable[[str], str] = str,
    ) -> None:
        self._options, self._settle = options, settled
        self._random, self._new_key = random, new_key
        self._renewable, self._hide = renewable, hide
        self._lanes = [_Lane() for _ in range(options.lanes)]
        self._most_events = options.max_batch_events
        self._not_before = 0.0  # for all lanes
        self.problem = ""

    def __bool__(self) -> bool:
        return any(lane.open or lane.in_flight or lane.pending for lane in self._lanes)

    def add(self, first_ticket: int, items: Sequence[Item], now: float) -> None:
        """Take events; their tickets follow one another."""
        for ticket, item in enumerate(items, first_ticket):
            lane = self._lanes[item.slot]
            if not lane.open:
                lane.since = now
            lane.open.append((ticket, item.payload))
            lane.open_bytes += len(item.payload)

    def due(self, now: float, *, at_once: bool = False) -> list[HttpBatch]:
        """Return the requests to send now; each of them must be `answered`. `at_once`: do not wait for more events."""
        found = []
        for number, lane in enumerate(self._lanes):
            if self._ready_at(lane, at_once=at_once) > now:
                continue
            lane.in_flight = batch = lane.pending.popleft() if lane.pending else self._gather(number, lane)
            batch.attempts += 1
            found.append(batch)
        return found

    def seconds_left(self, now: float, *, at_once: bool = False) -> float:
        """Return how long `due` has nothing new; infinite while only answers are awaited."""
        return max(0.0, min(self._ready_at(lane, at_once=at_once) for lane in self._lanes) - now)

    def answered(self, batch: HttpBatch, outcome: Outcome, now: float, unix_now: float) -> None:
        """Take what came of a request that was due."""
        lane = self._lanes[batch.lane]
        lane.in_flight = None
        found = verdict(outcome, len(batch), unix_now)
        if isinstance(found, Renew):
            if self._renewable and not batch.renewed:
                batch.renewed = True
                lane.pending.appendleft(batch)
                return
            found = found.refusal
        batch.renewed = False
        if isinstance(found, Settled):
            self._settled(lane, batch, found, now)
        elif isinstance(found, Again):
            self._again(lane, batch, found, now)
        elif isinstance(found, Split) and len(batch) > 1:
            self._split(lane, batch)
        else:
            self._refuse(batch, found.refusal if isinstance(found, Split) else found)

    def give_up(self, why: str) -> None:
        """Settle every event: nothing is sent any more. One that is on its way, or was once, may be there: it is unknown."""
        for number, lane in enumerate(self._lanes):
            if lane.in_flight is not None:
                lane.in_flight.maybe = True
            batches = list(lane.batches())
            lane.in_flight = None
            lane.pending.clear()
            while lane.open:
                batches.append(self._gather(number, lane))
            for batch in batches:
                self._refuse(batch, Refuse("given_up", why, 0))

    def tickets(self) -> "list[array[int]]":
        """Return the tickets of everything that is not settled."""
        opened = [array("q", [ticket for ticket, _ in lane.open]) for lane in self._lanes]
        return [batch.tickets for lane in self._lanes for batch in lane.batches()] + opened

    def first_ticket(self) -> int | None:
        """Return the smallest ticket that is not settled."""
        firsts = (
            chain(
                (batch.tickets[0] for batch in lane.batches()), (ticket for ticket, _ in list(lane.open)[:1])
            )
            for lane in self._lanes
        )
        return min(chain.from_iterable(firsts), default=None)

    def _ready_at(self, lane: _Lane, *, at_once: bool) -> float:
        if lane.in_flight is not None:
            return _NEVER
        if lane.pending:
            return max(lane.pending[0].not_before, self._not_before)
        if not lane.open:
            return _NEVER
        full = len(lane.open) >= self._most_events or lane.open_bytes >= self._options.max_batch_bytes
        wait = 0.0 if full or at_once else self._options.linger_seconds
        return max(lane.since + wait, self._not_before)

    def _gather(self, number: int, lane: _Lane) -> HttpBatch:
        tickets, payloads, size = array("q"), list[bytes](), 0
        while lane.open and len(tickets) < self._most_events:
            ticket, payload = lane.open[0]
            if tickets and size + len(payload) > self._options.max_batch_bytes:
                break
            lane.open.popleft()
            tickets.append(ticket)
            payloads.append(payload)
            size += len(payload)
        lane.open_bytes -= size
        return HttpBatch(number, self._new_key(), tickets, payloads)

    def _settled(self, lane: _Lane, batch: HttpBatch, found: Settled, now: float) -> None:
        self._tell(batch, found.accepted, BatchFate("acknowledged", array("q"), receipt=found.receipt))
        for one in found.refused:
            why = self._hide(one.message)
            fate = BatchFate("refused", array("q"), why=why, code=one.code, pointer=one.pointer)
            self._tell(batch, [one.index], fate)
        if not found.retry:
            self.problem = ""
            return
        whole = len(found.retry) == len(batch)
        rest = batch if whole else batch.part(found.retry, self._new_key())
        if not whole:
            rest.failing_since, rest.attempts = None, 0  # it is answered, and makes progress
        why = "the server answered that the stream did not answer in time"
        self._again(lane, rest, Again(why, found.wait_seconds), now)

    def _again(self, lane: _Lane, batch: HttpBatch, found: Again, now: float) -> None:
        batch.maybe |= found.maybe
        self.problem = self._hide(found.why)
        wait = self._wait(batch, found)
        if found.calm:
            batch.failing_since = None
        elif batch.failing_since is None:
            batch.failing_since = now
        patience, since = self._options.retry_seconds, batch.failing_since
        if since is not None and patience is not None and now + wait - since > patience:
            self._give_up(batch, found.why)
            return
        batch.not_before = now + wait
        if found.pause:
            self._not_before = max(self._not_before, batch.not_before)
        lane.pending.appendleft(batch)

    def _wait(self, batch: HttpBatch, found: Again) -> float:
        backoff = self._options.backoff
        longest = min(backoff.cap_seconds, backoff.base_seconds * 2.0 ** min(max(batch.attempts - 1, 0), 30))
        if found.wait_seconds is None:
            return self._random() * longest
        # Not before the time that was named, and not all clients at once then.
        return found.wait_seconds + self._random() * min(longest, max(found.wait_seconds / 4, 0.1))

    def _split(self, lane: _Lane, batch: HttpBatch) -> None:
        half = len(batch) // 2
        self._most_events = max(1, min(self._most_events, half))
        halves = [
            batch.part(range(half), self._new_key()),
            batch.part(range(half, len(batch)), self._new_key()),
        ]
        lane.pending.extendleft(reversed(halves))

    def _give_up(self, batch: HttpBatch, why: str) -> None:
        tried = f"given up after {batch.attempts} attempts in {self._options.retry_seconds:g} s: {why}"
        self._refuse(batch, Refuse("unreachable", tried, 0))

    def _refuse(self, batch: HttpBatch, found: Refuse) -> None:
        self.problem = self._hide(found.why)
        kind: Kind = "unknown" if batch.maybe else "refused"
        fate = BatchFate(kind, array("q"), why=self.problem, code=found.code, status=found.status)
        self._tell(batch, range(len(batch)), fate)

    def _tell(self, batch: HttpBatch, indexes: Sequence[int], fate: BatchFate) -> None:
        if not indexes:
            return
        tickets = array("q", [batch.tickets[index] for index in indexes])
        self._settle(structs.replace(fate, tickets=tickets), batch.cost_bytes(indexes))
