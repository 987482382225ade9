"""The world of the redrive simulator: shards whose schema was too strict, loaders before and after it was mended, an archive."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from pipeline.core.kpl import Aggregate
from pipeline.core.redriven import Wanted, read_marks
from pipeline.core.segment import CutLimits, Lineage, Position, Segment
from pipeline.flows.decide import LoadLimits
from pipeline.flows.load import Loader
from pipeline.flows.redrive import Outcome, redrive
from pipeline.flows.window import WindowLimits
from tests.fakes.stream import MemoryStream
from tests.fakes.watched import Perform
from tests.flows.deployment import Deployment
from tests.flows.redriving import FIXED, STRICT, bare, labelled, ports_of
from tests.sim.archive import Place, is_data, read_file
from tests.sim.invariants import Invariant, Violation
from tests.sim.redrive_guards import RedriveGuard
from tests.sim.world import SimClock

_WANTED = (Wanted(), Wanted(), Wanted(code="schema_mismatch"))


@dataclass(frozen=True)
class Sent:
    """One unit: its bytes, and whether the strict and the mended rules accept it."""

    raw: bytes
    strict: bool
    fixed: bool

    def accepted(self, segment: Segment) -> bool:
        """True when the rules of a segment accept it."""
        return self.strict if segment.rules_digest == STRICT.digest else self.fixed


class RedriveYard(Deployment):
    """Everything the actors work on."""

    def __init__(self, random: Random, guard: RedriveGuard) -> None:
        super().__init__()
        self.random = random
        self.clock = SimClock(self.clock.now_us())
        self.stream = MemoryStream(self.clock, shards=random.choice((1, 1, 2)))
        self.ledger = guard.ledger()
        window = WindowLimits(window_us=random.choice((60, 86_400)) * 1_000_000)
        self.limits = LoadLimits(CutLimits(max_rows=random.choice((2, 4, 1_000))), window)
        self.mended = False
        self.sent: dict[Place, Sent] = {}
        self._number = 0
        self._shards = [
            self.ledger.register(self.stream.name, self.stream.epoch, one.shard_id, ())
            for one in self.stream.shards()
        ]

    # actors ----------------------------------------------------------------------------------------------

    def fill(self, perform: Perform) -> None:
        """Produce a little and load it, by rules that may be the old ones still."""
        self.produce_to(self.random.choice(self._shards))
        self.load_all(perform, self.random.choice(self._shards))

    def produce_to(self, lineage: Lineage) -> None:
        """Put a record of one event, or an aggregate of some."""
        units = [self._unit() for _ in range(self.random.choice((1, 1, 3)))]
        data = units[0].raw
        if len(units) > 1:
            packed = Aggregate()
            for one in units:
                packed.add(one.raw)
            data = packed.encode("key", "0")
        record = self.stream.append(lineage.shard_id, data, "key")
        for index, one in enumerate(units):
            self.sent[Place(lineage.short, record.sequence_number, index)] = one

    def _unit(self) -> Sent:
        self._number += 1
        number = self.random.randint(1, self._number) if self.random.random() < 0.2 else self._number
        kind = self.random.random()
        if kind < 0.15:
            return Sent(b"rubbish %d" % self._number, strict=False, fixed=False)
        return Sent(bare(number), False, True) if kind < 0.7 else Sent(labelled(number), True, True)

    def load_all(self, perform: Perform, lineage: Lineage) -> None:
        """Load what there is of a shard."""
        rules = FIXED if self.mended and self.random.random() < 0.6 else STRICT
        loader = Loader(lineage, rules, self.limits, ports_of(self, perform).write)
        after = loader.start()
        records = self.stream.by_id[lineage.shard_id].records
        loader.process([one for one in records if after is None or after < Position(one.sequence_number, 0)])
        loader.cut("test")

    def drain(self, perform: Perform) -> None:
        """Load everything."""
        for lineage in self._shards:
            self.load_all(perform, lineage)

    def redrive(self, perform: Perform, *, everything: bool = False) -> Outcome:
        """Redrive, as the operator's command does."""
        wanted = Wanted() if everything else self.random.choice(_WANTED)
        return redrive(wanted, FIXED, self.limits, ports_of(self, perform))

    def act(self) -> str:
        """Let time pass, or the schema be mended, or days be sealed."""
        chosen = self.random.choice(("time", "time", "mended", "sealed"))
        if chosen == "mended":
            self.mended = True
            return "the mended schema is deployed"
        if chosen == "sealed" and self.random.random() < 0.3:
            self.ledger.raise_seal("2024-03-10")
            return "a day is sealed"
        seconds = self.random.choice((1, 30, 20_000))
        self.clock.advance(seconds)
        return f"{seconds} s pass"

    def after(self, effect: str) -> None:
        """Everything is looked at when all is done."""

    # the end ---------------------------------------------------------------------------------------------

    def check(self) -> Iterator[Violation]:
        """Each unit is a row once, or refused once; what was refused and is accepted now is both, with one mark."""
        first = {place: one.accepted(self._judged(place)) for place, one in self.sent.items()}
        refused = Counter(place for place, accepted in first.items() if not accepted)
        again = Counter(place for place in refused if self.sent[place].fixed)
        rows, quarantined, marks = self._stored()
        wanted = Counter(place for place, accepted in first.items() if accepted) + again
        for invariant, wrong in (
            (Invariant.NOT_LOST, wanted - rows),
            (Invariant.NOT_REPEATED, rows - wanted),
            (Invariant.QUARANTINE, (refused - quarantined) + (quarantined - refused)),
            (Invariant.MARKED, (again - marks) + (marks - again)),
        ):
            if wrong:
                yield Violation(invariant, f"{wrong.total()} units, such as {min(wrong)}")
        report = self.audit()
        if not report.balanced:
            yield Violation(Invariant.AUDIT, f"{report.differences[:1]}, {report.in_flight} on their way")

    def _judged(self, place: Place) -> Segment:
        at = int(place.sequence_number)
        segments = self.ledger.segments(place.lineage)
        return next(one for one in segments if one.end and at <= int(one.end.sequence_number))

    def _stored(self) -> tuple[Counter[Place], Counter[Place], Counter[Place]]:
        """Return the places of rows, of refused units and of marks, all by the shard's own lineage."""
        sources = {one.short: one.redrives or one.short for one in self.ledger.lineages()}
        shards = {one.shard_id: one.short for one in self._shards}
        rows, refused, marks = Counter[Place](), Counter[Place](), Counter[Place]()
        for key, stored in self.objects.stored.items():
            if key.startswith("redriven/"):
                marks.update(
                    Place(shards[one.shard_id], one.sequence_number, one.subsequence_number)
                    for one in read_marks(stored.body)
                )
            elif is_data(key):
                file = read_file(key, stored.body)
                rows.update(one.place._replace(lineage=sources[one.place.lineage]) for one in file.rows)
                refused.update(one.place for one in file.refusals)
        return rows, refused, marks
