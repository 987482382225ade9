"""The ledger: which segment was decided how, once (tables `segments`, `lineages`, `state`)."""

from enum import StrEnum
from typing import NamedTuple, Protocol

from pipeline.core.gap import Reading
from pipeline.core.segment import Lineage, Position, SealState, Segment


class Opening(NamedTuple):
    """What a loader starts from: the newest segment (None at first) and the seal state, read consistently."""

    newest: Segment | None
    seal: SealState


class PlanAnswer(StrEnum):
    """What became of a plan. A refusal is looked at in this order."""

    HOLDS = "holds"
    ORDINAL_TAKEN = "ordinal taken"  # somebody else decided this ordinal, or our own lost answer did
    PREDECESSOR = "predecessor"  # the one before is not committed, or does not end where this starts
    SEAL_MOVED = "seal moved"
    UNKNOWN = "unknown"  # no answer came; never returned by a ledger, it raises OutcomeUnknown


class Ledger(Protocol):
    """One row per segment, decided by compare-and-set.

    Called by loaders (one thread per lineage), by readers of any number. All reads are consistent.
    """

    def register(self, stream: str, epoch: str, shard_id: str, parents: tuple[str, ...]) -> Lineage:
        """Return the lineage of a shard, giving it a short form at first sight.

        May be repeated; the same shard of the same epoch has one short form for ever. `parents` are short forms.

        Raises:
            Transient: try again.
        """
        ...

    def register_redrive(self, source: Lineage) -> Lineage:
        """Return the lineage that takes in again what `source` refused, giving it a short form at first sight.

        May be repeated, by any number at once: a source has one redrive lineage for ever.

        Raises:
            Transient: try again.
        """
        ...

    def lineages(self) -> list[Lineage]:
        """Return every registered lineage, by short form."""
        ...

    def open(self, lineage: str) -> Opening:
        """Return the newest segment of a lineage in one consistent read, and the seal state read after it.

        Raises:
            Transient: try again.
        """
        ...

    def seal_state(self) -> SealState:
        """Return the seal state; every reader asks once, before it reads anything else.

        Raises:
            Transient: try again.
        """
        ...

    def plan(self, segment: Segment) -> PlanAnswer:
        """Decide a segment, all or nothing.

        It holds if its ordinal is free, its predecessor is committed and ends at its start, and the seal version is
        still the one it was made under.

        Raises:
            OutcomeUnknown: it may hold; open again to find out.
            Transient: it does not hold; the same call may be repeated.
        """
        ...

    def commit(self, segment: Segment) -> bool:
        """Turn a planned segment into a committed one; one that is committed already is left as it is.

        Returns:
            True when this call committed it: of many callers, one at most.

        Raises:
            Corrupt: the ledger holds another segment under this ordinal, or none.
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def segments(self, lineage: str) -> list[Segment]:
        """Return all segments of a lineage, oldest first."""
        ...

    def segment(self, lineage: str, ordinal: int) -> Segment | None:
        """Return one segment, planned or committed; None where nothing was decided.

        Raises:
            Transient: try again.
        """
        ...

    def started(self, lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        """Count a start of a loader at a committed end, and return what is noted; the first one ever is `begun_us`.

        At another end than the last time the count begins at 1. `start` is this start's own name: a call that is repeated
        under it counts once, as long as nobody else started in between.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def stopped(self, lineage: str) -> None:
        """Forget the starts: a loader stopped in order.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def reading(self, lineage: str) -> Reading:
        """Return what is noted of reading a lineage.

        Raises:
            Transient: try again.
        """
        ...

    def note_read(self, lineage: str, until_us: int) -> None:
        """Note that everything that had arrived until then lies at or before a committed end; never moves back.

        The note before becomes `open_until_us`.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        """Return the committed segments whose latest arrival is at or after `since_us`, newest first."""
        ...
