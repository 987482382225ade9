"""Deciding segments of one lineage: the numbered steps that the loader and a redrive have in common (decision 1).

Step 1 finds the end of the ledger, steps 3 to 5 encode, stage and plan, steps 6 and 7 write and commit. What goes into a
segment, and what becomes of a refused plan, is for whoever decides.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.aggregate import Aggregate, AggregateKey, apply, fold_refusals, fold_rows
from pipeline.core.days import day_of
from pipeline.core.decode import Decoder
from pipeline.core.encode import EncodedRows, Place, encode_refusals, encode_rows
from pipeline.core.errors import Corrupt, OutcomeUnknown
from pipeline.core.gap import Keeping
from pipeline.core.index import build_index
from pipeline.core.keys import ids_key, rules_key
from pipeline.core.manifest import DataFile, partition_name
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rules import Rules
from pipeline.core.segment import Counts, CutLimits, Lineage, SealState, Segment
from pipeline.core.staging import Effects, StagedObject, digest_of, stage, unstage
from pipeline.core.tracing import TracedEvent
from pipeline.core.window import Fingerprints, encode_ids
from pipeline.facts import SegmentCommitted, UnitsRefused
from pipeline.flows.retrying import again
from pipeline.flows.window import DuplicateWindow, WindowLimits
from pipeline.flows.write import WritePorts, commit, finish, put_once, write
from pipeline.ports.ledger import Opening, PlanAnswer


@dataclass(frozen=True)
class LoadLimits:
    """When to cut, how far duplicates are looked for, and what the stream keeps (None: not known, no gap is found).

    `hunt_seconds` is how long records of one read are searched for one that kills.
    """

    cut: CutLimits
    window: WindowLimits
    keeping: Keeping | None = None
    hunt_seconds: float = 180.0


@dataclass(frozen=True)
class Encoding:
    """What a segment would make true, in one object; the segment itself is not made yet."""

    staged: bytes
    digest: str
    counts: Counts
    prints: Fingerprints
    codes: Counter[str]
    aggregates: dict[AggregateKey, Aggregate]


@dataclass(frozen=True)
class Cut:
    """One encoded segment, not yet decided."""

    segment: Segment
    staged: bytes
    digest: str
    prints: Fingerprints
    codes: Counter[str]
    aggregates: dict[AggregateKey, Aggregate]
    traced: Sequence[TracedEvent] = ()


class Decider:
    """Decides segments of one lineage, one after the other; used by one thread."""

    def __init__(self, lineage: Lineage, rules: Rules, limits: LoadLimits, ports: WritePorts) -> None:
        self.lineage = lineage
        self._rules, self._limits, self._ports = rules, limits, ports
        self._decoder = Decoder(rules)
        self._window = DuplicateWindow(lineage, limits.window, ports)
        self._newest: Segment | None = None
        self._seal = SealState()
        self._aggregates: dict[AggregateKey, Aggregate] = {}  # as the newest segment left them
        self._open = OpenSegment(self._decoder, rules.schemas)

    def _judge_by(self, rules: Rules) -> None:
        """Take other rules, which are stored before anything is decided by them; nothing may be collected."""
        self._rules, self._decoder = rules, Decoder(rules)
        self._store_rules()

    def _store_rules(self) -> None:
        """Keep what units are judged by, under the name that segments give."""
        document = self._rules.document
        put_once(StagedObject(rules_key(self._rules.digest), document, digest_of(document)), self._ports)

    # 1. open ---------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Find the end of the ledger, finishing a planned segment first."""
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
        """Take ordinal and seal from one read."""
        self._newest, self._seal = opening.newest, opening.seal
        self._aggregates = {}
        self._window.expire()

    # 3. encode -------------------------------------------------------------------------------------------

    def _place(self) -> Place:
        """Return where the next segment's rows belong."""
        return Place(self.lineage, self._newest.ordinal + 1 if self._newest else 1, self._seal)

    def _encoded(
        self, place: Place, first_arrival_us: int, marks: Sequence[tuple[DataFile, bytes]] = ()
    ) -> Encoding:
        """Encode what is collected, and files of marks with it."""
        held, ordinal = self._open, place.ordinal
        prints = held.fingerprints()
        duplicate = self._window.flags(prints, first_arrival_us)
        with self._ports.computing():
            rows = encode_rows(held.chunks, duplicate, held.records, place)
            files = [*rows.files, *encode_refusals(held.refusals, held.records, place), *marks]
            index = tuple(build_index(rows.filed, rows.words, place.writer))
        objects = [StagedObject(entry.key, body, entry.digest) for entry, body in files]
        if len(prints):
            ids = encode_ids(prints)
            objects.append(StagedObject(ids_key(self.lineage.short, ordinal), ids, digest_of(ids)))
        effects = Effects(
            self.lineage.short,
            ordinal,
            tuple(objects),
            tuple(entry for entry, _ in files),
            index,
            tuple(self._totals(rows, ordinal)),
        )
        staged = stage(effects)
        counts = held.counts(int(duplicate.sum()), len(files), sum(len(body) for _, body in files))
        codes = Counter(str(one.code) for one in held.refusals)
        totals = {one.key: one for one in effects.aggregates}
        return Encoding(staged, digest_of(staged), counts, prints, codes, totals)

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

    # 4-7. stage, plan, write, commit ---------------------------------------------------------------------

    def _stage(self, cut: Cut) -> None:
        put_once(StagedObject(cut.segment.staging_key, cut.staged, cut.digest), self._ports)

    def _plan(self, cut: Cut) -> PlanAnswer:
        def decide() -> PlanAnswer:
            try:
                return self._ports.ledger.plan(cut.segment)
            except OutcomeUnknown:
                return PlanAnswer.UNKNOWN  # perhaps it holds: opening again shows it

        return again("plan", decide, clock=self._ports.clock, facts=self._ports.facts)

    def _holds(self, cut: Cut) -> None:
        """Everything collected is decided: remember its ids and totals."""
        self._window.remember(cut.segment, cut.prints)
        self._aggregates = cut.aggregates

    def _make_true(self, cut: Cut, reason: str, began: float) -> None:
        """Write and commit a segment whose plan holds; `began` is when it was cut, by the clock's seconds."""
        effects = unstage(cut.staged, cut.digest)
        write(effects, self._ports)  # 6
        ours = commit(cut.segment, self._ports)  # 7
        self._newest = cut.segment.committed()
        if ours:
            self._say(cut, reason, self._ports.clock.monotonic() - began)
            if cut.traced:
                self._tell_spans(cut, effects)

    def _tell_spans(self, cut: Cut, effects: Effects) -> None:
        """Tell of each traced event in which file it is: a span of its own, a child of its request's.

        Links from one span for all would be fewer, and leave the request's trace without its end.
        """
        now_us, seal, segment = self._ports.clock.now_us(), self._seal, cut.segment
        keys = {(one.partition, one.name.partition("#")[0]): one.key for one in effects.entries}
        late = {
            one.partition.rpartition("#")[0]: one.key
            for one in effects.entries
            if one.name.startswith("late#")
        }
        for one in cut.traced:
            dt = day_of(one.event_time_us)
            open_key = keys.get((partition_name(one.event_type, dt), "open"), "")
            key = late.get(one.event_type, "") if seal.is_late(dt) else open_key
            self._ports.spans(one.archived(f"{segment.lineage}/{segment.ordinal}", key, now_us))

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
