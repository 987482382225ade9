"""The loader without one guard each: what would happen without it."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np

from pipeline.core.aggregate import Aggregate, AggregateKey, fold_rows
from pipeline.core.encode import EncodedRows
from pipeline.core.errors import OutcomeUnknown
from pipeline.core.event import Record
from pipeline.core.keys import SegmentRef
from pipeline.core.segment import Lineage, Position
from pipeline.core.staging import unstage
from pipeline.core.window import Fingerprints
from pipeline.flows.load import Cut, Loader, LoadLimits
from pipeline.flows.window import DuplicateWindow
from pipeline.flows.write import WritePorts, commit, write
from pipeline.ports.ledger import Opening, PlanAnswer


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
    def _read(self, segment: SegmentRef) -> Fingerprints:
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


class AheadNotRefused(Loader):
    """A total that pretends to hold this segment already is believed."""

    def _refuse_newer(self, before: object, ordinal: int) -> None:
        """Look at nothing."""


class NeverExpired(Loader):
    """The window is not asked for again when others decided segments."""

    def __init__(self, lineage: Lineage, rules: object, limits: LoadLimits, ports: WritePorts) -> None:
        super().__init__(lineage, rules, limits, ports)  # type: ignore[arg-type]
        self._window = _NeverExpired(lineage, limits.window, ports)


class _NeverExpired(DuplicateWindow):
    def expire(self) -> None:
        """Forget nothing."""


class KeptWhole(Loader):
    """Kept records are collected again although a segment of somebody else covers them."""

    def _adopt(self, opening: Opening) -> None:
        kept = self._open.records
        self._clear()
        super()._adopt(opening)
        self._collect(kept)


class ReadTwice(Loader):
    """What the stream gives again is taken again, until it is committed."""

    def _after_end(self, records: Iterable[Record]) -> Iterator[Record]:
        last = self.committed
        for record in records:
            if last is None or last < Position(record.sequence_number, record.subsequence_number or 0):
                yield record


class RulesNotStored(Loader):
    """Nobody can say later what a segment was judged by."""

    def start(self) -> Position | None:
        self.open()
        return self.committed


class OwnArrivals(Loader):
    """A segment's arrivals are the worker's own time."""

    def _arrivals(self) -> list[int]:
        return [self._ports.clock.now_us()]


class ArrivalOfNow(Loader):
    """An empty last segment arrives when this worker's clock says."""

    def _arrivals(self) -> list[int]:
        return [one.arrived_us for one in self._open.records] or [self._ports.clock.now_us()]


class SealOfLater(Loader):
    """The seal is read again when the segment is encoded, and only its version."""

    def _encode(self, shard_end: bool) -> Cut:
        cut = super()._encode(shard_end)
        version = self._ports.ledger.seal_state().version
        return replace(cut, segment=replace(cut.segment, seal_version=version))


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
