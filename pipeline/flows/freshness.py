"""How far the archive is behind its streams: the arrival up to which everything is archived, by stream.

It is of the deployment, not of a tenant, and says nothing of shards: their number and names are nobody's business.
"""

import threading
from collections.abc import Sequence
from typing import NamedTuple

from pipeline.core.gap import known_until
from pipeline.core.segment import Lineage
from pipeline.ports.clock import Clock
from pipeline.ports.ledger import Ledger

# An answer of this age is given to everybody: two reads a shard are not made for each request.
KEPT_SECONDS = 5.0


class StreamFreshness(NamedTuple):
    """What arrived on a stream until `archived_until_us` is archived; None: there is a shard of which nothing is."""

    stream: str
    archived_until_us: int | None


class Freshness:
    """Looks at the ledger, once for all who ask within `KEPT_SECONDS`. Called from any thread."""

    def __init__(self, ledger: Ledger, clock: Clock) -> None:
        self._ledger, self._clock = ledger, clock
        self._lock = threading.Lock()
        self._seen: tuple[StreamFreshness, ...] = ()
        self._at: float | None = None

    def look(self) -> tuple[StreamFreshness, ...]:
        """Return how fresh each stream is, by name.

        Raises:
            Transient: try again.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._at is None or now - self._at > KEPT_SECONDS:
                self._seen, self._at = tuple(_measure(self._ledger)), now
            return self._seen


def _measure(ledger: Ledger) -> Sequence[StreamFreshness]:
    """Take the oldest end of a stream's open shards; a stream that was made again counts by its newest creation."""
    epochs: dict[str, str] = {}
    known: dict[tuple[str, str], list[int | None]] = {}
    for one in ledger.lineages():
        if one.redrives:
            continue  # nothing is on its way there
        newest = ledger.open(one.short).newest
        epochs[one.stream] = max(epochs.get(one.stream, ""), _epoch(one))
        if newest is None or not newest.shard_end:
            ends = known.setdefault((one.stream, _epoch(one)), [])
            ends.append(known_until(newest, ledger.reading(one.short)))
    return [StreamFreshness(name, _least(known.get((name, epochs[name]), []))) for name in sorted(epochs)]


def _epoch(one: Lineage) -> str:
    return one.name.removeprefix(one.stream + "-").removesuffix("-" + one.shard_id).rjust(20, "0")


def _least(ends: Sequence[int | None]) -> int | None:
    known = [one for one in ends if one is not None]
    return min(known) if known and len(known) == len(ends) else None
