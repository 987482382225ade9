"""How far the archive is: what became of events whose place in the stream is known.

Any number may ask at once; the ledger is asked once for all of them, a few times a second at most.
"""

import asyncio
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pipeline.core.arrival_receipt import ArrivalReceipt, read_receipt, receipt_text
from pipeline.core.arrived import NOTHING, Arrived, Edge, Stretch, edge_of, stretch_of
from pipeline.core.segment import Segment
from pipeline.flows.changes import Changes
from pipeline.flows.stretches import Stretches, look_up, stretch_at
from pipeline.ports.clock import Clock
from pipeline.ports.ledger import Ledger

State = Literal["lost", "received", "archived", "queryable"]
# From the worst on: of several shards the worst counts.
STATES: tuple[State, ...] = ("lost", "received", "archived", "queryable")
POLL_SECONDS = 0.25  # between two looks at one lineage, however many wait
_LINEAGES_SECONDS = 1.0  # between two looks for a shard that no loader has begun


class _Look(NamedTuple):
    """One look at a lineage: its short form, how far it is, and what its newest segment covers."""

    lineage: str
    edge: Edge
    stretch: Stretch | None = None


_NOWHERE = _Look("", NOTHING)


class Follower:
    """Looks at the ledger for whoever waits on an event loop.

    Memory is bounded for each shard (`flows.stretches.KEPT`). A look at a lineage reads its newest segment, and one more
    where segments were decided between two looks. A place that lies further back than what is remembered is looked up
    alone, one at a time for each shard.

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
        self._known: dict[str, tuple[float, _Look]] = {}
        self._looking: dict[str, asyncio.Future[_Look]] = {}
        self._stretches: dict[str, Stretches] = {}
        self._turns: dict[str, asyncio.Lock] = {}
        self._changes = Changes(self._look_of, POLL_SECONDS)

    async def state(self, receipt: ArrivalReceipt) -> State:
        """Return the state that all events of a receipt have reached; `lost` where any may be in a gap.

        Raises:
            Transient: the ledger does not answer.
            Corrupt: the ledger lacks a segment.
        """
        return _worst(await self._states(receipt.arrived()))

    async def wait(self, receipt: ArrivalReceipt, wanted: State, seconds: float) -> State:
        """Return the state once it is what is wanted, or `lost`, or after so many seconds as it is then.

        Raises:
            Transient, Corrupt: as `state` does.
        """
        until, places = self._clock.monotonic() + seconds, receipt.arrived()
        while True:
            found = await self._states(places)
            state, left = _worst(found), until - self._clock.monotonic()
            if state == "lost" or STATES.index(state) >= STATES.index(wanted) or left <= 0:
                return state
            behind = {
                shard: look
                for shard, (one, look) in found.items()
                if STATES.index(one) < STATES.index(wanted)
            }
            await self._changes.wait(behind, left)

    async def _states(self, places: Mapping[str, Arrived]) -> "dict[str, tuple[State, _Look]]":
        """Return the state in each shard, and the look that it follows from."""
        found = {}
        for shard_id, arrived in places.items():
            look = await self._look_of(shard_id)
            found[shard_id] = await self._state(shard_id, look, arrived), look
        return found

    async def _state(self, shard_id: str, look: _Look, arrived: Arrived) -> State:
        edge = look.edge
        if not edge.covers(arrived.last):
            return "lost" if edge.drops(arrived) else "received"
        if await self._lost(shard_id, look, arrived):
            return "lost"
        return "queryable" if edge.committed is not None and arrived.last <= edge.committed else "archived"

    async def _lost(self, shard_id: str, look: _Look, arrived: Arrived) -> bool:
        """Return whether some of what is decided may be in a gap."""
        known = self._stretches.setdefault(shard_id, Stretches())
        dropped = known.drops(arrived)
        if dropped is None:
            async with self._turns.setdefault(shard_id, asyncio.Lock()):
                dropped = known.drops(arrived)  # somebody may have looked it up meanwhile
                if dropped is None:
                    found = await asyncio.get_running_loop().run_in_executor(
                        self._threads, look_up, self._ledger, look.lineage, look.edge.ordinal, arrived
                    )
                    known.add(reversed(found))
                    dropped = any(one.drops(arrived) for one in found)
        return dropped

    async def _look_of(self, shard_id: str) -> _Look:
        looked_at, known = self._known.get(shard_id, (float("-inf"), _NOWHERE))
        if self._clock.monotonic() - looked_at < POLL_SECONDS:
            return known
        looking = self._looking.get(shard_id)
        if looking is None:
            loop = asyncio.get_running_loop()
            looking = loop.run_in_executor(self._threads, self._look, shard_id, known)
            self._looking[shard_id] = looking
            looking.add_done_callback(lambda done: self._looked(shard_id, done))
        return await asyncio.shield(looking)

    def _looked(self, shard_id: str, done: "asyncio.Future[_Look]") -> None:
        self._looking.pop(shard_id, None)
        if not done.cancelled() and done.exception() is None:
            look = done.result()
            self._known[shard_id] = self._clock.monotonic(), look
            if look.stretch is not None:
                self._stretches.setdefault(shard_id, Stretches()).add([look.stretch])

    def _look(self, shard_id: str, known: _Look) -> _Look:
        """Look at a lineage, of which so much was known."""
        if shard_id not in self._lineages and self._clock.monotonic() - self._listed_at >= _LINEAGES_SECONDS:
            self._listed_at = self._clock.monotonic()
            name, epoch = self._stream
            self._lineages |= {
                one.shard_id: one.short
                for one in self._ledger.lineages()
                if not one.redrives and one.name == f"{name}-{epoch}-{one.shard_id}"
            }
        short = self._lineages.get(shard_id)
        newest = self._ledger.open(short).newest if short is not None else None
        if short is None or newest is None:
            return _NOWHERE
        found = _Look(short, edge_of(newest), self._covered_by(newest, known))
        return known if found == known else found  # the same one: whoever waits sees that nothing changed

    def _covered_by(self, newest: Segment, known: _Look) -> Stretch | None:
        """Return what the newest segment covers; the one before it is read only where it is not known."""
        if newest.ordinal == known.edge.ordinal:
            return known.stretch
        if newest.ordinal == known.edge.ordinal + 1 and newest.gap_beyond is None:
            return stretch_of(newest, [known.edge.gap] if known.edge.gap else [])
        return stretch_at(self._ledger, newest)


def _worst(found: "Mapping[str, tuple[State, _Look]]") -> State:
    return min((state for state, _ in found.values()), key=STATES.index, default="received")


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

    def text(self, tenant_id: str, receipt: ArrivalReceipt) -> str | None:
        """Return a receipt as its tenant holds it; None: it would be too long for a URL."""
        return receipt_text(receipt, self.key, "\0".join(self.stream), tenant_id)

    def read(self, tenant_id: str, text: str) -> ArrivalReceipt | None:
        """Return what a receipt says; None when it is none of ours.

        Raises:
            Crossed: it is another tenant's.
        """
        return read_receipt(text, self.key, "\0".join(self.stream), tenant_id)
