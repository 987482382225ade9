"""The parts of the product and of its stores without one guard each: what would happen without it."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from operator import add
from typing import Any

import msgspec
import numpy as np

from pipeline.core.aggregate import Aggregate, AggregateKey, fold_rows
from pipeline.core.encode import EncodedRows
from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.core.event import Record
from pipeline.core.index import IndexItem, build_index
from pipeline.core.manifest import DataFile
from pipeline.core.receipt import Receipt
from pipeline.core.segment import Lineage, Position, Segment
from pipeline.core.staging import Effects, unstage
from pipeline.core.window import Fingerprints, SegmentId
from pipeline.flows import load
from pipeline.flows import window as window_flow
from pipeline.flows import write as write_flow
from pipeline.flows.load import Cut, Loader, LoadLimits
from pipeline.flows.read import Shards
from pipeline.flows.window import DuplicateWindow
from pipeline.flows.write import WritePorts, commit, write
from pipeline.ports.ledger import Opening, PlanAnswer
from pipeline.producer import Producer
from pipeline.producer import producer as producer_module
from tests.fakes.index import MemoryAggregates, MemoryIndex
from tests.fakes.ledger import MemoryLedger
from tests.fakes.manifest import MemoryManifest
from tests.fakes.objects import MemoryObjects, Stored
from tests.sim.scenario import LEDGER_DISORDER_US


class HastyLedger(MemoryLedger):
    """The ledger as it is, guards and all: like the real one it ends a search for young segments at a much older one."""

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        found = []
        for segment in reversed(self.segments(lineage)):
            if segment.max_arrival_us < since_us - LEDGER_DISORDER_US:
                break
            if segment.state == "committed" and segment.max_arrival_us >= since_us:
                found.append(segment)
        return found


class AnyPlanHolds(HastyLedger):
    """No conditional put: the last plan wins."""

    def plan(self, segment: Segment) -> PlanAnswer:
        self.rows[segment.lineage, segment.ordinal] = segment
        return PlanAnswer.HOLDS


class OrdinalNotChecked(HastyLedger):
    def ordinal_is_free(self, segment: Segment) -> bool:
        return segment is not None


class PredecessorNotChecked(HastyLedger):
    def predecessor_fits(self, segment: Segment) -> bool:
        return segment is not None


class SealNotChecked(HastyLedger):
    def seal_is_unchanged(self, segment: Segment) -> bool:
        return segment is not None


class BareShardIds(HastyLedger):
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

    def process(self, records: Sequence[Record]) -> None:
        for record in records:
            self._collect(list(self._after_end([record])))
            self.tick()


class CoveredLookedForOnce(Loader):
    """What is covered is dropped once per call, though a cut inside the call may show that more is covered."""

    def process(self, records: Sequence[Record]) -> None:
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


class CommitNotCompared(HastyLedger):
    """Whoever commits an ordinal decides what it was."""

    def commit(self, segment: Segment) -> bool:
        found = self.rows.get((segment.lineage, segment.ordinal))
        self.rows[segment.lineage, segment.ordinal] = segment.committed()
        return found is None or found.state == "planned"


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


class ParentsNotAwaited(Shards):
    """Children are started at once."""

    def _ended(self, short: str) -> bool:
        return bool(short)


class AnswersUnread(Producer):
    """A PutRecords call that was answered is taken for one that stored everything (FailedRecordCount is not read)."""

    def _put(self, chosen: Sequence[Any]) -> list[Any]:
        super()._put(chosen)
        self._ready = [batch for batch in self._ready if batch not in chosen]
        return []


class ReceiptsForgotten(Producer):
    """A receipt that could not be stored is forgotten."""

    def _put_receipt(self, receipt: Receipt) -> None:
        with suppress(Transient, OutcomeUnknown):
            self._receipts.put(receipt)


class PartOfManifest(MemoryManifest):
    """What BatchWriteItem leaves unprocessed is not sent again."""

    def put_all(self, entries: Sequence[DataFile]) -> None:
        super().put_all(entries[:2])


class PartOfIndex(MemoryIndex):
    """What BatchWriteItem leaves unprocessed is not sent again."""

    def put_all(self, items: Sequence[IndexItem]) -> None:
        super().put_all(items[:2])


# functions that are no method -------------------------------------------------------------------------------


@contextmanager
def patched(where: Any, name: str, value: Any) -> Iterator[None]:
    """Let a name of a module or class mean something else for a while."""
    usual = getattr(where, name)
    setattr(where, name, value)
    try:
        yield
    finally:
        setattr(where, name, usual)


def _backwards(effects: Effects, ports: WritePorts) -> None:
    ports.aggregates.put_newer(effects.aggregates)
    ports.index.put_all(effects.index)
    write(effects, ports)


@contextmanager
def written_backwards() -> Iterator[None]:
    """Totals and index come before the rows."""
    with patched(load, "write", _backwards), patched(write_flow, "write", _backwards):
        yield


def _commits_first(effects: Effects, ports: WritePorts) -> None:
    segment = ports.ledger.segment(effects.lineage, effects.ordinal)
    if segment is not None:
        commit(segment, ports)
    write(effects, ports)


@contextmanager
def committed_first() -> Iterator[None]:
    """The commit comes before what it speaks of."""
    with patched(load, "write", _commits_first), patched(write_flow, "write", _commits_first):
        yield


@contextmanager
def parents_only() -> Iterator[None]:
    """The window knows parents, and no grandparents."""

    def near(lineage: Lineage, _everyone: object) -> list[str]:
        return [lineage.short, *lineage.parents]

    with patched(window_flow, "family", near):
        yield


@contextmanager
def positions_as_text() -> Iterator[None]:
    """Sequence numbers are compared as text."""
    with patched(Position, "_key", lambda self: (self.sequence_number, self.subsequence_number)):
        yield


@contextmanager
def index_without_segment() -> Iterator[None]:
    """Index items of one lineage and day share a name, whatever segment they are of."""

    def shared(filed: Any, words: Any, writer: str) -> list[IndexItem]:
        return build_index(filed, words, f"{writer.split('#', maxsplit=1)[0]}#{1:012d}")

    with patched(load, "build_index", shared):
        yield


@contextmanager
def slots_mixed() -> Iterator[None]:
    """Several batches of one slot go out in one call."""
    with patched(producer_module, "_one_call", lambda ready: list(ready)[:5]):
        yield
