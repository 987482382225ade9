"""Port `Ledger` in memory."""

from pipeline.core.errors import Corrupt
from pipeline.core.gap import Reading
from pipeline.core.segment import Lineage, Position, SealState, Segment, redrive_lineage
from pipeline.ports.ledger import Opening, PlanAnswer


class MemoryLedger:
    """Segments by (lineage, ordinal); each condition of a plan is one method."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], Segment] = {}
        self.registered: dict[str, Lineage] = {}
        self.seal = SealState()
        self.readings: dict[str, Reading] = {}
        self._started_at: dict[str, Position | None] = {}
        self._last_start: dict[str, str] = {}

    def register(self, stream: str, epoch: str, shard_id: str, parents: tuple[str, ...]) -> Lineage:
        """Return the lineage of a shard, giving it a short form at first sight."""
        name = f"{stream}-{epoch}-{shard_id}"
        if name not in self.registered:
            short = self.short_form(shard_id)
            self.registered[name] = Lineage(name, short, stream, shard_id, parents)
        return self.registered[name]

    def register_redrive(self, source: Lineage) -> Lineage:
        """Return the redrive lineage of a source."""
        wanted = redrive_lineage(source, f"{len(self.registered) + 1:04d}")
        return self.registered.setdefault(wanted.name, wanted)

    def short_form(self, _shard_id: str) -> str:
        """Return a short form nobody has."""
        return f"{len(self.registered) + 1:04d}"

    def lineages(self) -> list[Lineage]:
        """Return every registered lineage, by short form."""
        return sorted(self.registered.values(), key=lambda one: one.short)

    def open(self, lineage: str) -> Opening:
        """Return the newest segment of a lineage and the seal state."""
        found = self.segments(lineage)
        return Opening(found[-1] if found else None, self.seal)

    def seal_state(self) -> SealState:
        """Return the seal state."""
        return self.seal

    def plan(self, segment: Segment) -> PlanAnswer:
        """Decide a segment: all conditions hold and it is put, or nothing happens."""
        if not self.ordinal_is_free(segment):
            return PlanAnswer.ORDINAL_TAKEN
        if not self.predecessor_fits(segment):
            return PlanAnswer.PREDECESSOR
        if not self.seal_is_unchanged(segment):
            return PlanAnswer.SEAL_MOVED
        self.rows[segment.lineage, segment.ordinal] = segment
        return PlanAnswer.HOLDS

    def ordinal_is_free(self, segment: Segment) -> bool:
        """True when nobody decided this ordinal."""
        return (segment.lineage, segment.ordinal) not in self.rows

    def predecessor_fits(self, segment: Segment) -> bool:
        """True when the segment before is committed and ends where this one starts; the first has none."""
        if segment.ordinal == 1:
            return True
        before = self.rows.get((segment.lineage, segment.ordinal - 1))
        return before is not None and before.state == "committed" and before.end == segment.start

    def seal_is_unchanged(self, segment: Segment) -> bool:
        """True when the seal version is the one the segment was made under."""
        return segment.seal_version == self.seal.version

    def commit(self, segment: Segment) -> bool:
        """Turn a planned segment into a committed one."""
        found = self.rows.get((segment.lineage, segment.ordinal))
        if found is None or found.committed() != segment.committed():
            raise Corrupt(f"commit {segment.lineage}/{segment.ordinal}: the ledger holds {found}")
        self.rows[segment.lineage, segment.ordinal] = segment.committed()
        return found.state == "planned"

    def segments(self, lineage: str) -> list[Segment]:
        """Return all segments of a lineage, oldest first."""
        return [self.rows[key] for key in sorted(self.rows) if key[0] == lineage]

    def segment(self, lineage: str, ordinal: int) -> Segment | None:
        """Return one segment."""
        return self.rows.get((lineage, ordinal))

    def started(self, lineage: str, at: Position | None, now_us: int, start: str) -> Reading:
        """Count a start at a committed end, once."""
        before = self.reading(lineage)
        if self._last_start.get(lineage) == start:
            return before
        self._last_start[lineage] = start
        here = self._started_at.get(lineage) == at
        self._started_at[lineage] = at
        self.readings[lineage] = before._replace(
            starts=before.starts + 1 if here else 1, begun_us=before.begun_us or now_us
        )
        return self.readings[lineage]

    def stopped(self, lineage: str) -> None:
        """Forget the starts."""
        self.readings[lineage] = self.reading(lineage)._replace(starts=0)

    def reading(self, lineage: str) -> Reading:
        """Return what is noted."""
        return self.readings.get(lineage, Reading())

    def note_read(self, lineage: str, until_us: int) -> None:
        """Note how far an idle lineage is read."""
        before = self.reading(lineage)
        if until_us > before.read_until_us:
            self.readings[lineage] = before._replace(
                read_until_us=until_us, open_until_us=before.read_until_us
            )

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        """Return the committed segments whose latest arrival is at or after `since_us`, newest first."""
        return [
            segment
            for segment in reversed(self.segments(lineage))
            if segment.state == "committed" and segment.max_arrival_us >= since_us
        ]

    def raise_seal(self, day: str) -> None:
        """Seal everything up to `day`, as the sealer's first step does."""
        self.seal = SealState(self.seal.version + 1, day)
