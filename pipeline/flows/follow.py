"""How far the archive is: what became of events whose place in the stream is known.

Any number may ask at once; the ledger is asked once for all of them, a few times a second at most.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline.core.arrival_receipt import ArrivalReceipt, read_receipt, receipt_text
from pipeline.core.segment import Position, Segment
from pipeline.ports.clock import Clock
from pipeline.ports.ledger import Ledger

State = Literal["received", "archived", "queryable"]
STATES: tuple[State, ...] = ("received", "archived", "queryable")
POLL_SECONDS = 0.25  # between two looks at one lineage, however many wait
_LINEAGES_SECONDS = 1.0  # between two looks for a shard that no loader has begun


class Reach(NamedTuple):
    """How far one lineage is: up to where it is decided, and up to where it is committed; None: nothing yet."""

    decided: Position | None
    committed: Position | None

    def state(self, place: Position) -> State:
        """Return what became of the record at a place."""
        if self.committed is not None and place <= self.committed:
            return "queryable"
        return "archived" if self.decided is not None and place <= self.decided else "received"


NOWHERE = Reach(None, None)


def reach_of(newest: Segment | None) -> Reach:
    """Return how far a lineage is by its newest segment: the one before a planned one is committed."""
    if newest is None:
        return NOWHERE
    return Reach(newest.end, newest.end if newest.state == "committed" else newest.start)


class Follower:
    """Looks at the ledger for whoever waits on an event loop.

    Args:
        ledger: asked in `threads`.
        stream: name and epoch of the stream whose shards are meant.
        clock: for the age of what is known.
        threads: where calls run.
    """

    def __init__(self, ledger: Ledger, stream: tuple[str, str], clock: Clock, threads: Executor) -> None:
        self._ledger, self._stream, self._clock, self._threads = ledger, stream, clock, threads
        self._lineages: dict[str, str] = {}
        self._listed_at = float("-inf")
        self._known: dict[str, tuple[float, Reach]] = {}
        self._looking: dict[str, asyncio.Future[Reach]] = {}

    async def state(self, places: Mapping[str, Position]) -> State:
        """Return the state that all of these places have reached.

        Raises:
            Transient: the ledger does not answer.
        """
        found = [(await self._reach(shard)).state(place) for shard, place in places.items()]
        return min(found, key=STATES.index, default="received")

    async def wait(self, places: Mapping[str, Position], wanted: State, seconds: float) -> State:
        """Return the state once it is what is wanted, or after so many seconds as it is then."""
        until = self._clock.monotonic() + seconds
        while True:
            state = await self.state(places)
            left = until - self._clock.monotonic()
            if STATES.index(state) >= STATES.index(wanted) or left <= 0:
                return state
            await asyncio.sleep(min(POLL_SECONDS, left))

    async def _reach(self, shard_id: str) -> Reach:
        looked_at, known = self._known.get(shard_id, (float("-inf"), NOWHERE))
        if self._clock.monotonic() - looked_at < POLL_SECONDS:
            return known
        looking = self._looking.get(shard_id)
        if looking is None:
            loop = asyncio.get_running_loop()
            looking = self._looking[shard_id] = loop.run_in_executor(self._threads, self._look, shard_id)
            looking.add_done_callback(lambda done: self._looked(shard_id, done))
        return await asyncio.shield(looking)

    def _looked(self, shard_id: str, done: "asyncio.Future[Reach]") -> None:
        self._looking.pop(shard_id, None)
        if not done.cancelled() and done.exception() is None:
            self._known[shard_id] = self._clock.monotonic(), done.result()

    def _look(self, shard_id: str) -> Reach:
        if shard_id not in self._lineages and self._clock.monotonic() - self._listed_at >= _LINEAGES_SECONDS:
            self._listed_at = self._clock.monotonic()
            name, epoch = self._stream
            self._lineages |= {
                one.shard_id: one.short
                for one in self._ledger.lineages()
                if not one.redrives and one.name == f"{name}-{epoch}-{one.shard_id}"
            }
        short = self._lineages.get(shard_id)
        return NOWHERE if short is None else reach_of(self._ledger.open(short).newest)


@dataclass(frozen=True)
class ArrivalReceipts:
    """Receipts of one stream, as texts that only their tenant can use.

    Attributes:
        key: signs them; the same in every process.
        stream: name and epoch: a receipt of another creation of the stream is none.
        follower: says how far the archive is.
    """

    key: bytes
    stream: tuple[str, str]
    follower: Follower

    def text(self, tenant_id: str, receipt: ArrivalReceipt) -> str:
        """Return a receipt as its tenant holds it."""
        return receipt_text(receipt, self.key, "\0".join(self.stream), tenant_id)

    def read(self, tenant_id: str, text: str) -> ArrivalReceipt | None:
        """Return what a receipt says; None when it is none of ours.

        Raises:
            Crossed: it is another tenant's.
        """
        return read_receipt(text, self.key, "\0".join(self.stream), tenant_id)
