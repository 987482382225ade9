"""Redrive: what was refused is judged again by today's rules, and what is accepted now is archived, once.

Each shard's lineage has a redrive lineage in the ledger, whose segments are decided as the loader's are (`flows.decide`):

1. open      the newest redrive segment; a planned one is finished first
2. choose    refused units of the shard that are wanted and bear no mark; judge them again
3. encode    those that are accepted, with their old positions and arrival, and a mark for each
4-7.         stage, plan, write, commit

The ordinal's compare-and-set is what makes it once: whoever plans segment n has seen the marks of all before it. Of two
redrives at once one plan is refused; it opens again, sees the other's marks and chooses anew.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline.core.apart import Packed
from pipeline.core.days import day_of
from pipeline.core.decode import Decoder
from pipeline.core.keys import staging_key
from pipeline.core.manifest import DataFile
from pipeline.core.open_segment import OpenSegment
from pipeline.core.redriven import (
    QUARANTINED,
    RefusedUnit,
    Wanted,
    encode_marks,
    is_tier,
    judge_again,
    marks_of,
)
from pipeline.core.rules import Rules
from pipeline.core.segment import Filling, Lineage, Segment, cut_reason
from pipeline.core.slots import parse_label
from pipeline.facts import PlanRefused, UnitsRedriven
from pipeline.flows.decide import Cut, Decider, LoadLimits
from pipeline.flows.quarantine import (
    QuarantinePorts,
    committed,
    days_of,
    entries_of,
    marks_from,
    settled_of,
    units_in,
)
from pipeline.flows.write import WritePorts
from pipeline.ports.ledger import PlanAnswer

_CHUNK_UNITS = 1_000  # a cut is considered after so many, or so many bytes of them
_CHUNK_BYTES = 2**20


@dataclass
class Outcome:
    """What a redrive did, or would do.

    Attributes:
        looked_at: refused units that were wanted.
        already: of them, those that had been redriven.
        redriven: of them, those that went through now, by the code they had.
        refused: of them, those that are refused still, by the code of today.
        rows: events archived, duplicates among them; more than were redriven where units came apart.
        duplicates: of the rows; unknown in a dry run, and 0.
        segments: that were committed.
    """

    looked_at: int = 0
    already: int = 0
    redriven: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    rows: int = 0
    duplicates: int = 0
    segments: int = 0


@dataclass(frozen=True)
class RedrivePorts:
    """What a redrive needs; `progress` is told of units that were looked at, and how many."""

    write: WritePorts
    progress: Callable[[int], None]

    @property
    def quarantine(self) -> QuarantinePorts:
        """Return what reading the quarantine needs."""
        write = self.write
        return QuarantinePorts(
            write.ledger, write.manifest, write.objects, write.clock, write.facts, lambda _files: None
        )


def redrive(wanted: Wanted, rules: Rules, limits: LoadLimits, ports: RedrivePorts) -> Outcome:
    """Archive the wanted refused units that today's rules accept; leave the others as they are.

    May be stopped at any moment and repeated, by any number at once: each unit goes through once. They are judged in
    this process: `kills_worker` is left out unless it is what is wanted.

    Raises:
        Corrupt: a quarantine file is gone, or is not what was written.
    """
    outcome, register, wanted = Outcome(), ports.write.ledger.register_redrive, wanted.survivable()
    for source, files in _by_source(wanted, ports).items():
        lineage = ports.quarantine.call("register", partial(register, source))
        Redriver(lineage, rules, limits, ports, outcome).run(files, wanted)
    return outcome


def try_redrive(wanted: Wanted, rules: Rules, ports: RedrivePorts) -> Outcome:
    """Say what a redrive would do, and write nothing.

    What another redrive has decided and not committed yet counts as not redriven.
    """
    outcome, decoder, reading, wanted = Outcome(), Decoder(rules), ports.quarantine, wanted.survivable()
    marks = marks_from(reading)
    for files in _by_source(wanted, ports).values():
        for entry in files:
            units = units_in(entry, wanted, reading)
            marked = marks.of(entry.partition.partition("#")[2]) if units else {}
            for unit in units:
                outcome.looked_at += 1
                if unit.place in marked:
                    outcome.already += 1
                else:
                    count, code = judge_again(unit, decoder)
                    (outcome.redriven if code is None else outcome.refused)[code or unit.code] += 1
                    outcome.rows += count
                ports.progress(1)
    return outcome


def _by_source(wanted: Wanted, ports: RedrivePorts) -> dict[Lineage, list[DataFile]]:
    """Return the quarantine files of committed segments that may hold wanted units, by the shard they came through.

    A redrive lineage has some too: what came apart into units of which some were refused anew.
    """
    reading = ports.quarantine
    settled_at = settled_of(reading)  # before the manifest: what is committed is in it
    lineages = {one.short: one for one in reading.call("lineages", ports.write.ledger.lineages)}
    found: dict[Lineage, list[DataFile]] = {}
    for entry in committed(entries_of(wanted, reading), settled_at):
        if is_tier(entry, QUARANTINED):
            writer = lineages[entry.segment.lineage]
            found.setdefault(lineages[writer.redrives or writer.short], []).append(entry)
    return found


class Redriver(Decider):
    """Redrives what one shard's lineage refused."""

    def __init__(
        self, lineage: Lineage, rules: Rules, limits: LoadLimits, ports: RedrivePorts, outcome: Outcome
    ) -> None:
        super().__init__(lineage, rules, limits, ports.write)
        self._reading, self._progress, self._outcome = ports.quarantine, ports.progress, outcome
        self._marks = marks_from(self._reading)
        self._seen: dict[str, int] = {}  # day -> ordinal up to which its marks are known

    def run(self, files: Iterable[DataFile], wanted: Wanted) -> None:
        """Redrive what is wanted of some quarantine files."""
        self._store_rules()
        self.open()
        pending: list[RefusedUnit] = []
        limits = self._limits.cut
        for entry in files:
            pending += units_in(entry, wanted, self._reading)
            while len(pending) >= limits.max_rows or sum(len(one.raw) for one in pending) >= limits.max_bytes:
                pending = self._attempt(pending)
        while pending:
            pending = self._attempt(pending)

    def _attempt(self, pending: list[RefusedUnit]) -> list[RefusedUnit]:
        """Decide one segment at most; return the units that are left, all of them when somebody else was first."""
        self._take(days_of(pending))
        self._open = OpenSegment(self._decoder, self._rules.schemas, Packed(alone=True))
        looked_at, chosen, refused = 0, list[tuple[RefusedUnit, int]](), Counter[str]()
        for chunk in _chunks(pending, min(_CHUNK_UNITS, self._limits.cut.max_rows)):
            verdicts = [
                (one, *judge_again(one, self._decoder))
                for one in chunk
                if one.place not in self._marks.of(day_of(one.arrived_us))
            ]
            accepted = [(one, units) for one, units, code in verdicts if code is None]
            refused.update(code for _, _, code in verdicts if code is not None)
            self._open.add([one.record for one, _ in accepted])
            chosen += accepted
            looked_at += len(chunk)
            if self._is_full():
                break
        if chosen and not self._decide(chosen):
            return pending
        done = self._outcome
        done.looked_at += looked_at
        done.already += looked_at - len(chosen) - refused.total()
        done.redriven.update(one.code for one, _ in chosen)
        done.refused.update(refused)
        self._progress(looked_at)
        return pending[looked_at:]

    def _take(self, days: Sequence[str]) -> None:
        """Learn which units of some days are redriven; nobody but who decides the next segment adds to them."""
        newest = self._newest.ordinal if self._newest else 0
        for dt in days:
            if self._seen.get(dt, -1) < newest:
                self._marks.renew(dt)
                self._seen[dt] = newest

    def _is_full(self) -> bool:
        held = self._open
        filling = Filling(held.units, held.bytes, 0, 0, len(held.partitions))
        return cut_reason(filling, self._limits.cut) is not None

    def _decide(self, chosen: Sequence[tuple[RefusedUnit, int]]) -> bool:
        """Decide a segment of what is open; False when somebody else decided one, and ours is thrown away."""
        began = self._ports.clock.monotonic()
        cut = self._encode(chosen)  # 3
        self._stage(cut)  # 4
        answer = self._plan(cut)  # 5
        segment = cut.segment
        if answer is PlanAnswer.HOLDS:
            self._holds(cut)
            self._make_true(cut, "redrive", began)  # 6, 7
        else:
            self._ports.facts(
                PlanRefused(lineage=segment.lineage, ordinal=segment.ordinal, answer=answer.value)
            )
            self.open()
            if not self._is_ours(segment):
                return False
        codes = Counter(one.code for one, _ in chosen)
        self._ports.facts(UnitsRedriven(lineage=segment.lineage, ordinal=segment.ordinal, codes=codes))
        self._outcome.rows += segment.counts.rows
        self._outcome.duplicates += segment.counts.duplicates
        self._outcome.segments += 1
        return True

    def _is_ours(self, segment: Segment) -> bool:
        """True when a plan held whose answer was lost."""
        ledger = self._ports.ledger
        found = self._reading.call("segment", lambda: ledger.segment(segment.lineage, segment.ordinal))
        return found is not None and found.staging_key == segment.staging_key

    def _encode(self, chosen: Sequence[tuple[RefusedUnit, int]]) -> Cut:
        place, arrivals = self._place(), [one.arrived_us for one, _ in chosen]
        marks = marks_of(chosen, place, self._ports.clock.now_us())
        made = self._encoded(place, min(arrivals), encode_marks(marks, place))
        # The records were counted when they came: only what came apart since makes them more units.
        plain = sum(parse_label(one.partition_key) is None for one, _ in chosen)
        segment = Segment(
            lineage=self.lineage.short,
            ordinal=place.ordinal,
            state="planned",
            start=None,
            end=None,
            staging_key=staging_key(self.lineage.short, place.ordinal, made.digest),
            counts=replace(made.counts, plain_units=made.counts.plain_units - plain),
            batches=(),
            rules_digest=self._rules.digest,
            seal_version=self._seal.version,
            first_arrival_us=min(arrivals),
            max_arrival_us=max(arrivals),
        )
        return Cut(segment, made.staged, made.digest, made.prints, made.codes, made.aggregates)


def _chunks(units: Sequence[RefusedUnit], at_most: int) -> Iterator[list[RefusedUnit]]:
    chunk: list[RefusedUnit] = []
    size = 0
    for unit in units:
        if len(chunk) >= at_most or size >= _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(unit)
        size += len(unit.raw)
    if chunk:
        yield chunk
