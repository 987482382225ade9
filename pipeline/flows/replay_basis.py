"""What is committed when a replay job is planned, as one moment saw it."""

from functools import partial
from typing import NamedTuple

from pipeline.core.errors import Transient
from pipeline.core.keys import SegmentRef
from pipeline.core.segment import Lineage, SealState, settled
from pipeline.facts import FactSink
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.ledger import Ledger
from pipeline.ports.reading import Each

MAX_READS = 50  # of all lineages; a lineage commits every few seconds, a read of hundreds takes far less
_PAUSE_SECONDS = 0.05  # between them


class Snapshot(NamedTuple):
    """What was true when the plan was made: segments above `newest` are not in it."""

    seal: SealState
    newest: dict[str, int]

    @property
    def basis(self) -> int:
        """Return how many segments are in it.

        It orders snapshots: of two, the one with the higher basis holds all of the other; equal bases, equal segments.
        """
        return sum(self.newest.values())

    def holds(self, segment: SegmentRef) -> bool:
        """True when a segment is committed."""
        return segment.ordinal <= self.newest.get(segment.lineage, 0)


def snapshot(
    ledger: Ledger,
    each: Each,
    clock: Clock,
    facts: FactSink,
) -> Snapshot:
    """Read the ledger until two reads in a row are equal.

    Ordinals only rise, so what both reads saw was true of all lineages at once, between the two:

        read 1   A = 4             B = 7
        read 2            A = 4             B = 7
                          ^ A was 4 and B was 7, whenever that was after the first B and before the second A

    A single read may see a late commit of B and miss an earlier one of A: two such bases could not be ordered.

    Raises:
        Transient: segments were committed all the time.
    """
    seal = again("seal", ledger.seal_state, clock=clock, facts=facts)

    def ordinal(lineage: Lineage) -> int:
        return settled(again("open", partial(ledger.open, lineage.short), clock=clock, facts=facts).newest)

    before: dict[str, int] | None = None
    for _ in range(MAX_READS):
        lineages = again("lineages", ledger.lineages, clock=clock, facts=facts)
        found = zip(lineages, each(ordinal, lineages), strict=True)
        now = {one.short: number for one, number in found if number}
        if now == before:
            return Snapshot(seal, now)
        if before is not None:
            clock.pause(_PAUSE_SECONDS)
        before = now
    raise Transient(
        f"segments were committed between any two of {MAX_READS} reads of the ledger: try again in a quieter moment"
    )
