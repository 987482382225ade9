"""The guards of the protocol, each with a switch that turns it off: what would happen without it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import add

import msgspec
import numpy as np

from pipeline.core.aggregate import Aggregate, AggregateKey, fold_rows
from pipeline.core.encode import EncodedRows
from pipeline.core.errors import OutcomeUnknown
from pipeline.core.event import Record
from pipeline.core.gap import Reading
from pipeline.core.segment import Lineage, Position, Segment
from pipeline.core.staging import unstage
from pipeline.core.window import Fingerprints, SegmentId
from pipeline.flows.load import Cut, Loader, LoadLimits
from pipeline.flows.window import DuplicateWindow
from pipeline.flows.write import WritePorts, commit, write
from pipeline.ports.ledger import Opening, PlanAnswer
from tests.fakes.index import MemoryAggregates
from tests.fakes.ledger import MemoryLedger
from tests.fakes.objects import MemoryObjects, Stored
from tests.sim.invariants import Invariant


@dataclass(frozen=True)
class Guard:
    """One way to run without a guard, or without several that cover each other.

    `caught_by` names the invariants one of which must break within 500 seeds; none: another guard covers it.
    """

    name: str
    caught_by: frozenset[Invariant] = frozenset()
    loader: type[Loader] = Loader
    ledger: Callable[[], MemoryLedger] = MemoryLedger
    aggregates: Callable[[], MemoryAggregates] = MemoryAggregates
    objects: Callable[[], MemoryObjects] = MemoryObjects
    checkpoint_ahead: bool = False


NONE = Guard("none")


class AnyPlanHolds(MemoryLedger):
    """No conditional put: the last plan wins."""

    def plan(self, segment: Segment) -> PlanAnswer:
        self.rows[segment.lineage, segment.ordinal] = segment
        return PlanAnswer.HOLDS


class OrdinalNotChecked(MemoryLedger):
    def ordinal_is_free(self, segment: Segment) -> bool:
        return segment is not None


class PredecessorNotChecked(MemoryLedger):
    def predecessor_fits(self, segment: Segment) -> bool:
        return segment is not None


class SealNotChecked(MemoryLedger):
    def seal_is_unchanged(self, segment: Segment) -> bool:
        return segment is not None


class BareShardIds(MemoryLedger):
    """The shard's own id stands in keys and fences, whatever stream and epoch it is of."""

    def short_form(self, shard_id: str) -> str:
        return shard_id


class DigestNotCompared(MemoryObjects):
    """Whatever is there is taken for ours."""

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        super().put_if_absent(key, body, digest)
        return None


class Overwriting(MemoryObjects):
    """Plain puts."""

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        self.stored[key] = Stored(bytes(body), digest)
        return None


class NoStaging(Loader):
    """A planned segment is finished out of what this worker has collected."""

    def open(self) -> None:
        while True:
            opening = self._read_opening()
            planned = opening.newest
            if planned is None or planned.state == "committed":
                break
            self._newest = replace(planned, ordinal=planned.ordinal - 1, end=planned.start)
            cut = self._encode(planned.shard_end)
            write(unstage(cut.staged, cut.digest), self._ports)
            commit(planned, self._ports)
        self._adopt(opening)


class TwoReads(Loader):
    """The ordinal is read when the segment is encoded, the start when it was opened."""

    def _encode(self, shard_end: bool) -> Cut:
        start, newest = self.committed, self._read_opening().newest
        if newest is not None:
            self._newest = replace(newest, end=start)
        return super()._encode(shard_end)


class RecordsDropped(Loader):
    """A refused plan throws away the raw records too."""

    def _refused(self, cut: Cut, answer: PlanAnswer) -> None:
        self._clear()
        super()._refused(cut, answer)


class UnknownHolds(Loader):
    """A plan whose answer was lost is taken for one that holds."""

    def _plan(self, cut: Cut) -> PlanAnswer:
        try:
            return self._ports.ledger.plan(cut.segment)
        except OutcomeUnknown:
            return PlanAnswer.HOLDS


class RememberedEarly(Loader):
    """Fingerprints enter the window before the plan holds."""

    def _encode(self, shard_end: bool) -> Cut:
        cut = super()._encode(shard_end)
        self._window.remember(cut.segment, cut.prints)
        return cut


class NotReadBack(Loader):
    """The window is what this process remembers."""

    def __init__(self, lineage: Lineage, rules: object, limits: LoadLimits, ports: WritePorts) -> None:
        super().__init__(lineage, rules, limits, ports)  # type: ignore[arg-type]
        self._window = _Forgetful(lineage, limits.window, ports)


class _Forgetful(DuplicateWindow):
    def _read(self, segment: SegmentId) -> Fingerprints:
        none = np.zeros(0 * segment.ordinal, dtype=np.uint64)
        return Fingerprints(none, none)


class NoAncestors(Loader):
    """The window ends where the shard begins."""

    def __init__(self, lineage: Lineage, rules: object, limits: LoadLimits, ports: WritePorts) -> None:
        super().__init__(replace(lineage, parents=()), rules, limits, ports)  # type: ignore[arg-type]


class PlannedNotFinished(Loader):
    """A planned segment is left to whoever planned it."""

    def open(self) -> None:
        self._adopt(self._read_opening())


class CutInside(Loader):
    """A cut is considered after every record handed over, also inside a Kinesis record taken apart."""

    def process(self, records: Sequence[Record], *, trimmed: bool = False) -> None:
        del trimmed
        for record in records:
            self._collect(list(self._after_end([record])))
            self.tick()


class CoveredLookedForOnce(Loader):
    """What is covered is dropped once per call, though a cut inside the call may show that more is covered."""

    def process(self, records: Sequence[Record], *, trimmed: bool = False) -> None:
        del trimmed
        for record in list(self._after_end(records)):
            self._collect([record])
            self.tick()


class WindowOfNow(Loader):
    """The window reaches back from the time of opening, not from the first arrival of a backlog."""

    def __init__(self, lineage: Lineage, rules: object, limits: LoadLimits, ports: WritePorts) -> None:
        super().__init__(lineage, rules, limits, ports)  # type: ignore[arg-type]
        self._window = _AskedOnce(lineage, limits.window, ports)


class _AskedOnce(DuplicateWindow):
    def expire(self) -> None:
        self._ask(self._ports.clock.now_us() - self._limits.window_us)
        self._known_since_us = -(10**18)


class StagedLate(Loader):
    """The staging object is written when the plan holds."""

    def _stage(self, cut: Cut) -> None:
        """Wait for the plan."""

    def _holds(self, cut: Cut) -> None:
        super()._stage(cut)
        super()._holds(cut)


class PartsForgotten(Loader):
    """The end of a segment is what the last record says of itself, not its last unit."""

    def _last_position(self) -> Position | None:
        held = self._open.records
        if not held:
            return self.committed
        return Position(held[-1].sequence_number, held[-1].subsequence_number or 0)


class NoFence(MemoryAggregates):
    """Totals are plain puts: whoever comes last wins."""

    def is_newer(self, item: Aggregate) -> bool:
        return item is not None


class TotalsAdded(MemoryAggregates):
    """What a segment makes of an item is added to it each time it is written."""

    def put_newer(self, items: Sequence[Aggregate]) -> None:
        for item in items:
            before = self.items.get(item.key)
            if before is not None and before.last_ordinal == item.last_ordinal:
                hours = tuple(map(add, before.hours, item.hours))
                self.items[item.key] = msgspec.structs.replace(item, hours=hours)
            else:
                super().put_newer([item])


class TotalsKept(Loader):
    """The totals of the last segment are trusted after somebody else decided one."""

    def _adopt(self, opening: Opening) -> None:
        kept = self._aggregates
        super()._adopt(opening)
        self._aggregates = kept


class TotalsReadBefore(Loader):
    """The totals are read before the segment's predecessor is known to be committed."""

    def _read_opening(self) -> Opening:
        self._early = self._ports.aggregates.read(list(self._seen()))
        return super()._read_opening()

    def _seen(self) -> set[AggregateKey]:
        found: set[AggregateKey] = getattr(self, "_keys", set())
        return found

    def _totals(self, rows: EncodedRows, ordinal: int) -> list[Aggregate]:
        self._keys = self._seen() | set(fold_rows(rows.filed, rows.words, self.lineage.short))
        self._aggregates = {**getattr(self, "_early", {}), **self._aggregates}
        return super()._totals(rows, ordinal)


class GapsNotRecorded(Loader):
    """Whoever fell behind goes on from the oldest record there is, without a word."""

    def _settle_gap(self, first: Record | None, *, trimmed: bool = False, shard_end: bool = False) -> None:
        """Say nothing."""


class NotedThoughCollected(Loader):
    """An idle read is noted though records are collected and not committed."""

    def caught_up(self, asked_us: int, *, trimmed: bool = False) -> None:
        self._settle_gap(None, trimmed=trimmed)
        self._reach.caught_up(asked_us, committed=True)


class NotedWithoutMargin(Loader):
    """Records are taken to be seen at the moment they arrive."""

    def __init__(self, lineage: Lineage, rules: object, limits: LoadLimits, ports: WritePorts) -> None:
        keeping = replace(limits.keeping, margin_us=0) if limits.keeping else None
        super().__init__(lineage, rules, replace(limits, keeping=keeping), ports)  # type: ignore[arg-type]


class StartsNotCounted(MemoryLedger):
    """Every start is the first."""

    def started(self, lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        return super().started(lineage, at, now_us, start)._replace(starts=1)


_I = Invariant
_REDONE = frozenset({_I.AGREEMENT, _I.NOT_LOST, _I.NOT_REPEATED, _I.MANIFEST})
_LOST = frozenset({_I.NOT_LOST})
_FLAGS = frozenset({_I.DUPLICATES})
_TOTALS = frozenset({_I.AGGREGATES})

GUARDS = {
    one.name: one
    for one in (
        NONE,
        Guard("plan", frozenset({_I.DECIDED_ONCE, _I.SEALED}), ledger=AnyPlanHolds),
        Guard("ordinal", frozenset({_I.DECIDED_ONCE}), ledger=OrdinalNotChecked),
        Guard("staging", _REDONE, NoStaging),
        Guard("staged before the plan", frozenset({_I.AGREEMENT}), StagedLate),
        Guard("one read", frozenset({_I.LEDGER}), TwoReads),
        Guard("predecessor", ledger=PredecessorNotChecked),
        Guard("one read + predecessor", frozenset({_I.NOT_REPEATED}), TwoReads, PredecessorNotChecked),
        Guard("records kept", _LOST, RecordsDropped),
        Guard("unknown is not holds", frozenset({_I.AGREEMENT}), UnknownHolds),
        Guard("lineage in keys", _LOST | {_I.COUNTS, _I.LEDGER}, ledger=BareShardIds),
        Guard("digest", objects=DigestNotCompared),
        Guard("if-none-match", objects=Overwriting),
        Guard("staging + digest", _REDONE - {_I.AGREEMENT}, NoStaging, objects=DigestNotCompared),
        Guard("staging + if-none-match", frozenset({_I.UNCHANGED}), NoStaging, objects=Overwriting),
        Guard("remembered after the plan", _FLAGS, RememberedEarly),
        Guard("window read back", _FLAGS, NotReadBack),
        Guard("ancestors", _FLAGS, NoAncestors),
        Guard("window of a backlog", _FLAGS, WindowOfNow),
        Guard("seal version", frozenset({_I.SEALED}), ledger=SealNotChecked),
        Guard("fence", _TOTALS, aggregates=NoFence),
        Guard("totals, not additions", _TOTALS, aggregates=TotalsAdded),
        Guard("totals of the predecessor", _TOTALS, TotalsKept),
        Guard("totals after the commit", _TOTALS, TotalsReadBefore),
        Guard("planned finished first", _LOST | {_I.DRAINS}, PlannedNotFinished),
        Guard(
            "planned finished first + predecessor",
            _LOST | {_I.LEDGER},
            PlannedNotFinished,
            PredecessorNotChecked,
        ),
        Guard("gap recorded", _LOST, GapsNotRecorded),
        Guard("noted when committed", frozenset({_I.WATERMARKS}), NotedThoughCollected),
        Guard("noted with a margin", frozenset({_I.WATERMARKS}), NotedWithoutMargin),
        Guard("starts counted", frozenset({_I.DRAINS}), ledger=StartsNotCounted),
        Guard("checkpoint after commit", _LOST, checkpoint_ahead=True),
        Guard("cut between records", _LOST | {_I.COUNTS}, CutInside),
        Guard("covered looked for anew", frozenset({_I.NOT_REPEATED}), CoveredLookedForOnce),
        Guard("records covered whole", frozenset({_I.NOT_REPEATED}), PartsForgotten),
    )
}
