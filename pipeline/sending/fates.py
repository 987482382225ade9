"""What became of events: by batch while they are kept, each told once.

A ticket is a number, given out by `put`. A batch keeps the tickets of its events in eight bytes each, so a million
fates that nobody has asked for yet weigh 8 MB.
"""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import msgspec

Kind = Literal["acknowledged", "spilled", "refused", "unknown", "waiting"]
KINDS: tuple[Kind, ...] = ("acknowledged", "spilled", "refused", "unknown", "waiting")


@dataclass(frozen=True)
class Fate:
    """What became of one event.

    Attributes:
        kind: `acknowledged`: the stream has it, at the position that follows. `spilled`: it is in a file, on disk, and
            will be sent from there. `refused`: it is nowhere, and `why` says why. `unknown`: it was sent over HTTP, and no
            answer came for as long as the producer tries; `why` says more. `waiting`: it is still in memory.
        shard_id: of an acknowledged event.
        sequence_number: of its Kinesis record.
        subsequence_number: its index in the aggregate.
        path: the file of a spilled event.
        why: of a refused or unknown event.
        code: why a server refused it, as a stable word.
        pointer: JSON pointer to the fault.
        receipt: of the request that carried an event acknowledged over HTTP; there is no position then.
        status: of the answer, where the server refused the whole request, not this event.
    """

    kind: Kind
    shard_id: str = ""
    sequence_number: str = ""
    subsequence_number: int = 0
    path: Path | None = None
    why: str = ""
    code: str = ""
    pointer: str = ""
    receipt: str = ""
    status: int = 0


class BatchFate(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What became of a batch; its events share it. `tickets` are in the order of the aggregate."""

    kind: Kind
    tickets: "array[int]"
    shard_id: str = ""
    sequence_number: str = ""
    path: Path | None = None
    why: str = ""
    code: str = ""
    pointer: str = ""
    receipt: str = ""
    status: int = 0

    def of(self, index: int) -> Fate:
        """Return the fate of one of its events."""
        place = (self.shard_id, self.sequence_number, index if self.shard_id else 0)
        return Fate(
            self.kind, *place, self.path, self.why, self.code, self.pointer, self.receipt, self.status
        )


@dataclass(frozen=True)
class Report:
    """What became of events since the last report.

    Attributes:
        batches: every batch that was settled, and what still waits, as batches as well.
        folded: events whose single fates were not kept (`keep_fates`), counted by kind.
        unreceipted: acknowledged batches whose receipt is not stored yet; 0 after an orderly close.
        problem: what keeps events or receipts from going out, in words; "" when nothing does.
    """

    batches: tuple[BatchFate, ...]
    folded: Mapping[Kind, int] = field(default_factory=dict)
    unreceipted: int = 0
    problem: str = ""

    def count(self, kind: Kind) -> int:
        """Return how many events had this fate."""
        return self.folded.get(kind, 0) + sum(len(one.tickets) for one in self.batches if one.kind == kind)

    @property
    def acknowledged(self) -> int:
        """Return how many events the stream has."""
        return self.count("acknowledged")

    @property
    def spilled(self) -> int:
        """Return how many events are on disk."""
        return self.count("spilled")

    @property
    def refused(self) -> int:
        """Return how many events are nowhere."""
        return self.count("refused")

    @property
    def unknown(self) -> int:
        """Return how many events may be there or not."""
        return self.count("unknown")

    @property
    def receipts(self) -> tuple[str, ...]:
        """Return the receipts of what was acknowledged over HTTP, by which it can be followed until it is queryable."""
        return tuple(dict.fromkeys(one.receipt for one in self.batches if one.receipt))

    @property
    def waiting(self) -> int:
        """Return how many events are still in memory."""
        return self.count("waiting")

    def fates(self) -> Iterator[tuple[int, Fate]]:
        """Yield every ticket and its fate."""
        for batch in self.batches:
            for index, ticket in enumerate(batch.tickets):
                yield ticket, batch.of(index)

    def of(self, ticket: int) -> Fate:
        """Return the fate of one event.

        Raises:
            KeyError: it was told by an earlier report, or is among those that are only counted (`folded`).
        """
        batch, index = self._places[ticket]
        return batch.of(index)

    @cached_property
    def _places(self) -> dict[int, tuple[BatchFate, int]]:
        return {
            ticket: (batch, index) for batch in self.batches for index, ticket in enumerate(batch.tickets)
        }

    def __str__(self) -> str:
        said = [
            f"{self.count(kind):,} {kind}" for kind in KINDS if self.count(kind) or kind == "acknowledged"
        ]
        return ", ".join(said) + (f" ({self.problem})" if self.problem else "")


# A batch of one event weighs 549 bytes here (label, fate, positions), not 8: a slow program over many slots makes only
# such batches. So a million fates are kept in at most 62,500 batches, 34 MB.
_EVENTS_PER_BATCH = 16
_FEW_BATCHES = 1_000  # kept in any case


class Unreported:
    """Settled batches that no report has told yet, oldest first, singly at most `keep` events in `keep` / 16 batches."""

    def __init__(self, keep: int) -> None:
        self._keep, self._events = keep, 0
        self._keep_batches = max(_FEW_BATCHES, keep // _EVENTS_PER_BATCH)
        self._batches: dict[object, BatchFate] = {}
        self._folded: dict[Kind, int] = {}

    def settle(self, key: object, fate: BatchFate) -> None:
        """Note a batch's fate; a spilled one that nobody heard of may still become acknowledged."""
        before = self._batches.pop(key, None)
        if before is not None:
            self._events -= len(before.tickets)
        elif not fate.tickets:
            return
        elif not self._keep:  # nobody will ask: the events are only counted
            self._folded[fate.kind] = self._folded.get(fate.kind, 0) + len(fate.tickets)
            return
        self._batches[key] = fate
        self._events += len(fate.tickets)
        while self._events > self._keep or len(self._batches) > self._keep_batches:
            oldest = self._batches.pop(next(iter(self._batches)))
            self._events -= len(oldest.tickets)
            self._folded[oldest.kind] = self._folded.get(oldest.kind, 0) + len(oldest.tickets)

    def known(self, key: object) -> BatchFate | None:
        """Return the fate of a batch that no report has told yet."""
        return self._batches.get(key)

    def take(self, waiting: Iterable["array[int]"], unreceipted: int, problem: str) -> Report:
        """Return a report of everything, and forget what is settled."""
        batches = [*self._batches.values(), *(BatchFate("waiting", one) for one in waiting if one)]
        report = Report(tuple(batches), self._folded, unreceipted, problem)
        self._batches, self._folded, self._events = {}, {}, 0
        return report
