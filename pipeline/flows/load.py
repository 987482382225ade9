"""The loader of one shard: a segment is decided once, and its effects are made true however often it takes.

The steps, by the numbers that the code carries:

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

from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile

from pipeline.core.apart import weight
from pipeline.core.errors import HeadraceError
from pipeline.core.event import Limits, Record
from pipeline.core.keys import staging_key
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rules import Rules
from pipeline.core.segment import (
    Counts,
    Filling,
    Gap,
    Lineage,
    Position,
    Segment,
    batch_ranges,
    cut_reason,
)
from pipeline.core.slots import parse_label
from pipeline.facts import LoaderOpened, PlanRefused, ShardEnded
from pipeline.flows.decide import Cut, Decider, LoadLimits
from pipeline.flows.reach import Reach
from pipeline.flows.retrying import again
from pipeline.flows.rules import FixedRules
from pipeline.flows.rules_look import RulesLook
from pipeline.flows.suspicion import Suspicion
from pipeline.flows.write import WritePorts
from pipeline.ports.ledger import Opening, PlanAnswer
from pipeline.ports.rules import NewestRules

__all__ = ["Cut", "LoadLimits", "Loader"]

_CHUNK_RECORDS = 1_000  # a cut is considered after so many records, or so many bytes of them
_CHUNK_BYTES = 2**20


class Loader(Decider):
    """Loads one lineage; used by one thread, for as long as a worker owns the shard.

    `rules` are what units are judged by, or give the newest: a segment is judged by one set of them, and what is collected
    when newer ones are found is judged again.
    """

    def __init__(
        self, lineage: Lineage, rules: Rules | NewestRules, limits: LoadLimits, ports: WritePorts
    ) -> None:
        newest = FixedRules(rules) if isinstance(rules, Rules) else rules
        super().__init__(lineage, newest(), limits, ports)
        self._look = RulesLook(newest, ports.clock)
        self._reach, self._suspicion = (
            Reach(lineage, limits.keeping, ports),
            Suspicion(lineage, ports, limits.hunt_seconds),
        )
        self._gap: Gap | None = None  # what the next segment has to say
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
        self._store_rules()
        self.open()
        self._suspicion.begin(self._reach.begin(self._newest, self.committed))
        ordinal = self._newest.ordinal if self._newest else 0
        self._ports.facts(
            LoaderOpened(lineage=self.lineage.short, shard_id=self.lineage.shard_id, ordinal=ordinal)
        )
        return self.committed

    def stop(self) -> None:
        """Commit what is collected, and note that this loader stopped in order; call it once, at the end."""
        self.cut("stop")
        ledger, short = self._ports.ledger, self.lineage.short
        again("stopped", lambda: ledger.stopped(short), clock=self._ports.clock, facts=self._ports.facts)

    # 1. open ---------------------------------------------------------------------------------------------

    def _adopt(self, opening: Opening) -> None:
        """Take ordinal, start and seal from one read; drop what is covered, judge the other kept records again."""
        super()._adopt(opening)
        kept = self._open.records
        self._clear()
        self._reach.adopt(opening.newest)
        self._collect(list(self._after_end(kept)))

    # 2. collect ------------------------------------------------------------------------------------------

    def process(self, records: Sequence[Record], *, trimmed: bool = False) -> None:
        """Collect records in stream order and cut as limits are reached; what was seen before is dropped.

        Args:
            records: in stream order.
            trimmed: the stream refused the position they were to follow on, and began at its oldest record.

        Raises:
            HeadraceError: a search for records that kill did not come to its end; what it cleared is committed.
        """
        unsure = None
        self._look.begin_batch()
        if records:
            self._settle_gap(records[0], trimmed=trimmed)
            unsure = self._suspicion.look(list(self._after_end(records)))
        number = unsure.sequence_number if unsure else ""
        known = list(takewhile(lambda record: record.sequence_number != number, records))
        for chunk in _chunks(known, self._rules.limits):
            self._collect(list(self._after_end(chunk)))  # a cut may have moved the end: looked at anew
            self.tick()
        if unsure:
            self.cut("suspicion")
            raise HeadraceError(
                f"lineage {self.lineage.short}: {self._limits.hunt_seconds:g} seconds (by kcl.timeout_seconds) were over before all "
                f"records that kill were found; what lies before {number} is committed, the next start goes on from there"
            )

    def tick(self) -> None:
        """Cut if a limit is reached; call at least every few seconds, with or without records."""
        self._judge_anew(self._look.when_due())
        reason = cut_reason(self._filling(), self._limits.cut)
        if reason is not None:
            self.cut(reason)

    def caught_up(self, asked_us: int, *, trimmed: bool = False) -> None:
        """Call after a read that gave nothing and reached the newest record of an open shard.

        Args:
            asked_us: a moment before that read was asked for: never the time of this call, before which the process may
                have stood still. A driver that is handed records which were fetched ahead takes a moment before that.
            trimmed: as of `process`.
        """
        self._settle_gap(None, trimmed=trimmed)
        self._reach.caught_up(asked_us, committed=not self._open.records)

    def _settle_gap(self, first: Record | None, *, trimmed: bool = False, shard_end: bool = False) -> None:
        """Decide that there is a gap before what was just read, if records may have been dropped there.

        It is an empty segment at the end of what is committed, decided once like any other. `first` is None where nothing
        was left to read.
        """
        now, last = self._ports.clock.now_us(), self._last_position()
        if self._reach.gap(now, last, first, trimmed=trimmed) is None:
            return
        self.cut("gap")
        while True:
            self.open()  # and the ledger's note: somebody else may have been here
            self._reach.refresh(self._newest)
            self._gap, ordinal = (
                self._reach.gap(now, self.committed, first, trimmed=trimmed),
                self._place().ordinal,
            )
            if self._gap is None or self.ended or self._decide("gap", shard_end=shard_end):
                break
            trimmed = (
                trimmed and self._place().ordinal == ordinal
            )  # else somebody has settled it, perhaps we did
        self._gap = None

    def _after_end(self, records: Iterable[Record]) -> Iterator[Record]:
        last = self._last_position()
        if self.ended:  # nothing lies after a shard's end: what is held is in its gap
            return
        number, inner = (last.sequence_number, last.subsequence_number) if last else ("", 0)
        for record in records:
            own = record.subsequence_number or 0
            if record.sequence_number == number:  # events of one aggregate: 56 digits need no reading
                if own <= inner:
                    continue
            elif number and int(record.sequence_number) < int(number):
                continue
            number, inner = record.sequence_number, own
            yield record

    def _last_position(self) -> Position | None:
        """Return the position of the last unit collected, or the end of the ledger."""
        return self._open.last or self.committed

    def _collect(self, records: list[Record]) -> None:
        if not records:
            return
        self._collected_at = self._ports.clock.monotonic()
        if not self._open.records:
            self._opened_at = self._collected_at
        judged = len(self._open.refusals)
        with self._ports.computing():
            self._open.add(records, self._suspicion.deadly)
        self._reach.collected(records)
        self._judge_anew(self._look.for_unknown(self._open.refusals[judged:], self._open.records))

    def _judge_anew(self, rules: Rules | None) -> None:
        """Judge what is collected by newer rules, if these are other ones; it is as old as it was."""
        if rules is None or rules.digest == self._rules.digest:
            return
        kept, opened_at, collected_at = self._open.records, self._opened_at, self._collected_at
        self._judge_by(rules)
        self._clear()
        self._collect(kept)
        self._opened_at, self._collected_at = opened_at, collected_at

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

    def cut(self, reason: str, *, shard_end: bool = False, trimmed: bool = False) -> Position | None:
        """Decide and write what is collected; return the position up to which everything is committed.

        Args:
            reason: which limit asked for it, or "stop", or "shard end".
            shard_end: the shard is closed and everything in it was collected.
            trimmed: with `shard_end`: its end was given without a record, and it may have had some: the stream refused the
                position, or lists the shard no more.
        """
        if shard_end and not self.ended:
            self._settle_gap(None, shard_end=True, trimmed=trimmed)
        while self._open.records or (shard_end and not self.ended):
            self._decide(reason, shard_end=shard_end)
        return self.committed

    def _decide(self, reason: str, *, shard_end: bool) -> bool:
        """Take one segment through steps 3 to 7; False when its plan was refused, and the ledger opened again."""
        began, before = self._ports.clock.monotonic(), self.committed
        cut = self._encode(shard_end)  # 3
        self._stage(cut)  # 4
        answer = self._plan(cut)  # 5
        if answer is not PlanAnswer.HOLDS:
            self._refused(cut, answer)
            return False
        self._holds(cut)
        self._make_true(cut, reason, began)  # 6, 7
        self._reach.adopt(self._newest)
        if self.committed != before:  # a gap alone leaves the next start in front of the same records
            self._suspicion.lift()
        return True

    def _encode(self, shard_end: bool) -> Cut:
        place = self._place()
        made = self._encoded(place, min(self._arrivals()))
        segment = self._segment(place.ordinal, made.digest, made.counts, shard_end)
        traced = tuple(self._open.traced)
        return Cut(segment, made.staged, made.digest, made.prints, made.codes, made.aggregates, traced)

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
            gap=self._gap,
            gap_beyond=self._reach.beyond(self._last_position(), max(arrivals)) if records else None,
        )

    def _arrivals(self) -> list[int]:
        """Return when the records arrived: nearly, but not always, in stream order."""
        arrivals = [record.arrived_us for record in self._open.records]
        return arrivals or [self._reach.born_us]

    def _refused(self, cut: Cut, answer: PlanAnswer) -> None:
        """Throw away the encoding only; the raw records stay until a committed segment covers them."""
        segment = cut.segment
        self._ports.facts(PlanRefused(lineage=segment.lineage, ordinal=segment.ordinal, answer=answer.value))
        self.open()

    def _holds(self, cut: Cut) -> None:
        """Everything collected is decided: let go of its records too."""
        super()._holds(cut)
        self._clear()

    def _say(self, cut: Cut, reason: str, seconds: float) -> None:
        super()._say(cut, reason, seconds)
        if cut.segment.shard_end:
            self._ports.facts(ShardEnded(lineage=self.lineage.short, shard_id=self.lineage.shard_id))


def _chunks(records: list[Record], limits: Limits) -> Iterator[list[Record]]:
    """Split between Kinesis records, by what they come to once inflated.

    One record that was taken apart already stays in one chunk.
    """
    chunk: list[Record] = []
    size = 0
    for record in records:
        full = len(chunk) >= _CHUNK_RECORDS or size >= _CHUNK_BYTES
        if full and record.sequence_number != chunk[-1].sequence_number:
            yield chunk
            chunk, size = [], 0
        chunk.append(record)
        size += weight(record.data, limits)
    if chunk:
        yield chunk
