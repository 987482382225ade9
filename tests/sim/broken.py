"""Stores, producer and functions without one guard each: what would happen without it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from operator import add
from typing import Any

import msgspec

from pipeline.core.aggregate import Aggregate
from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.core.gap import Reading
from pipeline.core.index import IndexItem, build_index
from pipeline.core.manifest import DataFile
from pipeline.core.receipt import Receipt
from pipeline.core.segment import Lineage, Position, Segment
from pipeline.core.staging import Effects
from pipeline.flows import decide
from pipeline.flows import window as window_flow
from pipeline.flows import write as write_flow
from pipeline.flows.read import Shards
from pipeline.flows.write import WritePorts, commit, write
from pipeline.ports.ledger import PlanAnswer
from pipeline.ports.receipts import Receipts
from pipeline.ports.stream import OutgoingRecord, PutAnswer, RecordSink
from pipeline.sending import Producer
from pipeline.sending.lanes import Lanes, Ready
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


class CommitNotCompared(HastyLedger):
    """Whoever commits an ordinal decides what it was."""

    def commit(self, segment: Segment) -> bool:
        found = self.rows.get((segment.lineage, segment.ordinal))
        self.rows[segment.lineage, segment.ordinal] = segment.committed()
        return found is None or found.state == "planned"


class StartsNotCounted(HastyLedger):
    """Every start is the first."""

    def started(self, lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        return super().started(lineage, at, now_us, start)._replace(starts=1)


class ParentsNotAwaited(Shards):
    """Children are started at once."""

    def _ended(self, short: str) -> bool:
        return bool(short)


class ExpiredAtOnce(Shards):
    """Shards that expired unread are closed in any order."""

    def _left_open(self) -> Iterator[Lineage]:
        return (one for one in self._gone if self._is_left_open(one))


class AnswersUnread(Producer):
    """A PutRecords call that was answered is taken for one that stored everything (FailedRecordCount is not read)."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._outbox._sink = _Trusted(self._outbox._sink)


@dataclass(frozen=True)
class _Trusted:
    inner: RecordSink

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        answers = self.inner.put(records)
        return [PutAnswer("shardId-000000000000", "0", "") if one.error else one for one in answers]


class ReceiptsForgotten(Producer):
    """A receipt that could not be stored is forgotten."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._book._receipts = _Forgetful(self._book._receipts)


@dataclass(frozen=True)
class _Forgetful:
    inner: Receipts

    def put(self, receipt: Receipt) -> None:
        with suppress(Transient, OutcomeUnknown):
            self.inner.put(receipt)

    def of(self, producer: str) -> Sequence[Receipt]:
        return self.inner.of(producer)

    def all(self) -> Sequence[Receipt]:
        return self.inner.all()


class PartOfManifest(MemoryManifest):
    """What BatchWriteItem leaves unprocessed is not sent again."""

    def put_all(self, entries: Sequence[DataFile]) -> None:
        super().put_all(entries[:2])


class PartOfIndex(MemoryIndex):
    """What BatchWriteItem leaves unprocessed is not sent again."""

    def put_all(self, items: Sequence[IndexItem]) -> None:
        super().put_all(items[:2])


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
    with patched(decide, "write", _backwards), patched(write_flow, "write", _backwards):
        yield


def _commits_first(effects: Effects, ports: WritePorts) -> None:
    segment = ports.ledger.segment(effects.lineage, effects.ordinal)
    if segment is not None:
        commit(segment, ports)
    write(effects, ports)


@contextmanager
def committed_first() -> Iterator[None]:
    """The commit comes before what it speaks of."""
    with patched(decide, "write", _commits_first), patched(write_flow, "write", _commits_first):
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

    with patched(decide, "build_index", shared):
        yield


@contextmanager
def slots_mixed() -> Iterator[None]:
    """Several batches of one slot go out in one call."""

    def call(lanes: Lanes) -> list[Ready]:
        return [ready for queue in lanes._slots.values() for ready in queue][:5]

    def done(lanes: Lanes, ready: Ready) -> None:
        lanes._slots[ready.label.slot].remove(ready)
        if not lanes._slots[ready.label.slot]:
            del lanes._slots[ready.label.slot]

    with patched(Lanes, "call", call), patched(Lanes, "done", done):
        yield
