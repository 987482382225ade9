"""The loader of one shard: a segment is decided once, and its effects are made true however often it takes.

The steps are those of design §6, and carry its numbers:

1. open      one consistent read of the newest segment; a planned one is finished first
2. collect   whole Kinesis records after its end; decode, judge; raw records are kept
3. cut       when a limit is reached; only between Kinesis records; mark duplicates, encode
4. stage     one object with every effect, its digest in its name
5. plan      one transaction decides; on any refusal or unknown outcome only the encoding is thrown away
6. write     what the staging object says
7. commit    planned -> committed
8. checkpoint  by the driver, at `committed`

A crash between any two steps costs nothing but time: before 5 nothing was decided, after it nothing is computed.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.aggregate import Aggregate, AggregateKey, apply, fold_refusals, fold_rows
from pipeline.core.decode import Decoder
from pipeline.core.encode import EncodedRows, Place, encode_refusals, encode_rows
from pipeline.core.errors import Corrupt, OutcomeUnknown
from pipeline.core.event import Record
from pipeline.core.index import build_index
from pipeline.core.keys import ids_key, rules_key, staging_key
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rules import Rules
from pipeline.core.segment import (
    Counts,
    CutLimits,
    Filling,
    Lineage,
    Position,
    SealState,
    Segment,
    batch_ranges,
    cut_reason,
)
from pipeline.core.slots import parse_label
from pipeline.core.staging import Effects, StagedObject, digest_of, stage, unstage
from pipeline.core.window import Fingerprints, encode_ids
from pipeline.facts import LoaderOpened, PlanRefused, SegmentCommitted, ShardEnded, UnitsRefused
from pipeline.flows.retrying import again
from pipeline.flows.window import DuplicateWindow, WindowLimits
from pipeline.flows.write import WritePorts, commit, finish, put_once, write
from pipeline.ports.ledger import Opening, PlanAnswer

_CHUNK_RECORDS = 1_000  # a cut is considered after so many records, or so many bytes of them
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class LoadLimits:
    """When to cut, and how far duplicates are looked for."""

    cut: CutLimits
    window: WindowLimits


@dataclass(frozen=True)
class Cut:
    """One encoded segment, not yet decided."""

    segment: Segment
    staged: bytes
    digest: str
    prints: Fingerprints
    codes: Counter[str]
    aggregates: dict[AggregateKey, Aggregate]


class Loader:
    """Loads one lineage; used by one thread, for as long as a worker owns the shard."""

    def __init__(self, lineage: Lineage, rules: Rules, limits: LoadLimits, ports: WritePorts) -> None:
        self.lineage = lineage
        self._rules, self._limits, self._ports = rules, limits, ports
        self._decoder = Decoder(rules)
        self._window = DuplicateWindow(lineage, limits.window, ports)
        self._newest: Segment | None = None
        self._seal = SealState()
        self._aggregates: dict[AggregateKey, Aggregate] = {}  # as the newest segment left them
        self._clear()

    @property
    def committed(self) -> Position | None:
        """Return the position up to which everything is committed: what may be checkpointed."""
        return self._newest.end if self._newest else None

    @property
    def ended(self) -> bool:
        """True when the shard's last segment is committed."""
        return self._newest is not None and self._newest.shard_end

    @property
    def pending_units(self) -> int:
        """Return the number of units that are collected and not committed."""
        return self._open.units

    def start(self) -> Position | None:
        """Store the rules and open; return where to read on (None: from the beginning of the shard)."""
        document = self._rules.document
        key = rules_key(self._rules.digest)
        put_once(StagedObject(key, document, digest_of(document)), self._ports)
        self.open()
        ordinal = self._newest.ordinal if self._newest else 0
        self._ports.facts(
            LoaderOpened(lineage=self.lineage.short, shard_id=self.lineage.shard_id, ordinal=ordinal)
        )
        return self.committed

    # 1. open ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the end of the ledger, finishing a planned segment first; drop what is covered."""
        while True:
            opening = self._read_opening()
            if opening.newest is None or opening.newest.state == "committed":
                break
            finish(opening.newest, self._ports)
        self._adopt(opening)

    def _read_opening(self) -> Opening:
        ledger, short = self._ports.ledger, self.lineage.short
        return again("open", lambda: ledger.open(short), clock=self._ports.clock, facts=self._ports.facts)

    def _adopt(self, opening: Opening) -> None:
        """Take ordinal, start and seal from one read, and judge the kept records again."""
        self._newest, self._seal = opening.newest, opening.seal
        self._aggregates = {}
        kept = self._open.records
        self._clear()
        self._window.expire()
        self._collect(list(self._after_end(kept)))

    # 2. collect ------------------------------------------------------------------------------------------

    def process(self, records: Sequence[Record]) -> None:
        """Collect records in stream order and cut as limits are reached; what was seen before is dropped."""
        for chunk in _chunks(list(records)):
            self._collect(list(self._after_end(chunk)))  # a cut may have moved the end: looked at anew
            self.tick()

    def tick(self) -> None:
        """Cut if a limit is reached; call at least every few seconds, with or without records."""
        reason = cut_reason(self._filling(), self._limits.cut)
        if reason is not None:
            self.cut(reason)

    def _after_end(self, records: Iterable[Record]) -> Iterator[Record]:
        last = self._last_position()
        for record in records:
            position = _position(record)
            if last is None or last < position:
                last = position
                yield record

    def _last_position(self) -> Position | None:
        """Return the position of the last unit collected, or the end of the ledger.

        The sub-sequence number is that of the record's last unit, also where we took the aggregate apart: whoever
        reads the shard next, whole records or parts, finds all of it covered.
        """
        held, last = self._open, len(self._open.records) - 1
        if last < 0:
            return self.committed
        units = [(one.record, one.subsequence_number) for one in held.refusals[-1:]]
        for rows in [chunk.common.slice(chunk.common.num_rows - 1) for chunk in held.chunks[-1:]]:
            units += zip(rows["record"].to_pylist(), rows["subsequence_number"].to_pylist(), strict=True)
        inner = max(subsequence for record, subsequence in units if record == last)
        return Position(held.records[-1].sequence_number, inner)

    def _collect(self, records: list[Record]) -> None:
        if not records:
            return
        self._collected_at = self._ports.clock.monotonic()
        if not self._open.records:
            self._opened_at = self._collected_at
        self._open.add(records)

    def _clear(self) -> None:
        self._open = OpenSegment(self._decoder, self._rules.schemas)
        self._opened_at = self._collected_at = self._ports.clock.monotonic()

    def _filling(self) -> Filling:
        now = self._ports.clock.monotonic() if self._open.records else self._opened_at
        return Filling(
            rows=self._open.units,
            bytes=self._open.bytes,
            age_seconds=now - self._opened_at,
            idle_seconds=now - self._collected_at,
            files=len(self._open.partitions),
            ranges=self._open.ranges,
        )

    # 3-7. cut, stage, plan, write, commit ----------------------------------------------------------------

    def cut(self, reason: str, *, shard_end: bool = False) -> Position | None:
        """Decide and write what is collected; return the position up to which everything is committed.

        Args:
            reason: which limit asked for it, or "stop", or "shard end".
            shard_end: the shard is closed and everything in it was collected.
        """
        while self._open.records or (shard_end and not self.ended):
            began = self._ports.clock.monotonic()
            cut = self._encode(shard_end)  # 3
            self._stage(cut)  # 4
            answer = self._plan(cut)  # 5
            if answer is not PlanAnswer.HOLDS:
                self._refused(cut, answer)
                continue
            self._holds(cut)
            effects: Effects = unstage(cut.staged, cut.digest)
            write(effects, self._ports)  # 6
            ours = commit(cut.segment, self._ports)  # 7
            self._newest = cut.segment.committed()
            if ours:
                self._say(cut, reason, self._ports.clock.monotonic() - began)
        return self.committed

    def _encode(self, shard_end: bool) -> Cut:
        ordinal = self._newest.ordinal + 1 if self._newest else 1
        place, held = Place(self.lineage, ordinal, self._seal), self._open
        prints = held.fingerprints()
        duplicate = self._window.flags(prints, min(self._arrivals()))
        rows = encode_rows(held.chunks, duplicate, held.records, place)
        files = rows.files + encode_refusals(held.refusals, held.records, place)
        objects = [StagedObject(entry.key, body, entry.digest) for entry, body in files]
        if len(prints):
            ids = encode_ids(prints)
            objects.append(StagedObject(ids_key(self.lineage.short, ordinal), ids, digest_of(ids)))
        effects = Effects(
            self.lineage.short,
            ordinal,
            tuple(objects),
            tuple(entry for entry, _ in files),
            tuple(build_index(rows.filed, rows.words, place.writer)),
            tuple(self._totals(rows, ordinal)),
        )
        staged = stage(effects)
        digest = digest_of(staged)
        counts = held.counts(int(duplicate.sum()), len(files), sum(len(body) for _, body in files))
        segment = self._segment(ordinal, digest, counts, shard_end)
        codes = Counter(str(one.code) for one in held.refusals)
        return Cut(segment, staged, digest, prints, codes, {one.key: one for one in effects.aggregates})

    def _totals(self, rows: EncodedRows, ordinal: int) -> list[Aggregate]:
        """Return the aggregates as they are after this segment.

        What they were before is read after the predecessor was committed, and so with all of its effects; nobody
        adds to them but the segment that takes this ordinal.
        """
        lineage, held = self.lineage.short, self._open
        deltas = fold_rows(rows.filed, rows.words, lineage)
        fold_refusals(deltas, held.refusals, held.records, self._rules, lineage)
        before = {key: self._aggregates[key] for key in deltas if key in self._aggregates}
        unknown = [key for key in deltas if key not in before]
        if unknown and ordinal > 1:
            read = self._ports.aggregates.read
            before |= again(
                "aggregates", lambda: read(unknown), clock=self._ports.clock, facts=self._ports.facts
            )
        self._refuse_newer(before, ordinal)
        return apply(before, deltas, ordinal)

    def _refuse_newer(self, before: Mapping[AggregateKey, Aggregate], ordinal: int) -> None:
        """Stop before a total that already pretends to hold this segment: the fence would swallow all that follows.

        Raises:
            Corrupt: nobody has decided this ordinal, and yet the total says so.
        """
        ahead = [key for key, one in before.items() if one.last_ordinal >= ordinal]
        if ahead:
            newest = self._read_opening().newest
            if newest is None or newest.ordinal < ordinal:
                raise Corrupt(
                    f"aggregate {' '.join(min(ahead))} pretends to hold segment {before[min(ahead)].last_ordinal} of a "
                    f"lineage whose newest is {ordinal - 1}: run `headrace audit`"
                )

    def _segment(self, ordinal: int, digest: str, counts: Counts, shard_end: bool) -> Segment:
        start, records = self._newest.end if self._newest else None, self._open.records
        arrivals = self._arrivals()
        labels = {record.sequence_number: parse_label(record.partition_key) for record in records}
        return Segment(
            lineage=self.lineage.short,
            ordinal=ordinal,
            state="planned",
            start=start,
            end=self._last_position(),
            staging_key=staging_key(self.lineage.short, ordinal, digest),
            counts=counts,
            batches=batch_ranges([label for label in labels.values() if label]),
            rules_digest=self._rules.digest,
            seal_version=self._seal.version,
            first_arrival_us=min(arrivals),
            max_arrival_us=max(arrivals),
            shard_end=shard_end,
        )

    def _arrivals(self) -> list[int]:
        """Return when the records arrived: nearly, but not always, in stream order.

        Without records, now, and not before the segment before: this worker's clock may be wrong, and whoever looks for
        young segments ends at an old one.
        """
        before = self._newest.max_arrival_us if self._newest else 0
        arrivals = [record.arrived_us for record in self._open.records]
        return arrivals or [max(self._ports.clock.now_us(), before)]

    def _stage(self, cut: Cut) -> None:
        put_once(StagedObject(cut.segment.staging_key, cut.staged, cut.digest), self._ports)

    def _plan(self, cut: Cut) -> PlanAnswer:
        def decide() -> PlanAnswer:
            try:
                return self._ports.ledger.plan(cut.segment)
            except OutcomeUnknown:
                return PlanAnswer.UNKNOWN  # perhaps it holds: opening again shows it

        return again("plan", decide, clock=self._ports.clock, facts=self._ports.facts)

    def _refused(self, cut: Cut, answer: PlanAnswer) -> None:
        """Throw away the encoding only; the raw records stay until a committed segment covers them."""
        segment = cut.segment
        self._ports.facts(PlanRefused(lineage=segment.lineage, ordinal=segment.ordinal, answer=answer.value))
        self.open()

    def _holds(self, cut: Cut) -> None:
        """Everything collected is decided: remember its ids and totals, let go of its records."""
        self._window.remember(cut.segment, cut.prints)
        self._aggregates = cut.aggregates
        self._clear()

    def _say(self, cut: Cut, reason: str, seconds: float) -> None:
        segment, counts = cut.segment, cut.segment.counts
        if cut.codes:
            self._ports.facts(UnitsRefused(lineage=segment.lineage, ordinal=segment.ordinal, codes=cut.codes))
        self._ports.facts(
            SegmentCommitted(
                lineage=segment.lineage,
                ordinal=segment.ordinal,
                reason=reason,
                records=counts.records,
                rows=counts.rows,
                duplicates=counts.duplicates,
                quarantined=counts.quarantined,
                files=counts.files,
                bytes=counts.bytes,
                seconds=round(seconds, 3),
            )
        )
        if segment.shard_end:
            self._ports.facts(ShardEnded(lineage=segment.lineage, shard_id=self.lineage.shard_id))


def _position(record: Record) -> Position:
    return Position(record.sequence_number, record.subsequence_number or 0)


def _chunks(records: list[Record]) -> Iterator[list[Record]]:
    """Split between Kinesis records; one record that was taken apart already stays in one chunk."""
    chunk: list[Record] = []
    size = 0
    for record in records:
        full = len(chunk) >= _CHUNK_RECORDS or size >= _CHUNK_BYTES
        if full and record.sequence_number != chunk[-1].sequence_number:
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += len(record.data)
    if chunk:
        yield chunk
