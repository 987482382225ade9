"""How far one lineage is read, as its loader knows it: memory, the ledger's note, and the gap when it fell behind."""

import secrets
from collections.abc import Sequence

from pipeline.core.event import Record
from pipeline.core.gap import (
    Keeping,
    Reading,
    born_after,
    gap_after,
    gap_beyond,
    is_settled,
    known_until,
    last_gap,
)
from pipeline.core.open_segment import unit_key
from pipeline.core.segment import Gap, Lineage, Position, Segment
from pipeline.flows.retrying import again
from pipeline.flows.write import WritePorts


class Reach:
    """Moves forward only; belongs to one loader."""

    def __init__(self, lineage: Lineage, keeping: Keeping | None, ports: WritePorts) -> None:
        self._lineage, self._keeping, self._ports = lineage, keeping, ports
        self._known_us: int | None = None
        self._begun_us = 0
        self._noted_us = 0
        self._born_us: int | None = None  # what children inherit: no idle answer counts
        self._gap: Gap | None = None  # the one that the newest segment has not passed

    @property
    def known_us(self) -> int:
        """Return the arrival up to which everything was read or is in a gap; where nothing is known, the first start."""
        return self._begun_us if self._known_us is None else self._known_us

    @property
    def born_us(self) -> int:
        """Return an arrival before which children cannot hold a record: what an end without records says."""
        return self._begun_us if self._born_us is None else self._born_us

    def begin(self, newest: Segment | None, end: Position | None) -> int:
        """Note a start, learn what is known; return how many starts at this committed end did not end in order."""
        ledger, now = self._ports.ledger, self._ports.clock.now_us()
        short, start = (
            self._lineage.short,
            secrets.token_hex(8),
        )  # a name, so that a repeated call counts once
        reading = again(
            "started",
            lambda: ledger.started(short, end, now, start),
            clock=self._ports.clock,
            facts=self._ports.facts,
        )
        self._learn(newest, reading)
        if self._known_us is None:
            self._inherit()
        self._begun_us = reading.begun_us
        return reading.starts

    def _inherit(self) -> None:
        """A shard of which nothing is known was born after all that its parents held, as far as two shards agree on the time."""
        margin_us = self._keeping.margin_us if self._keeping else 0
        for parent in self._lineage.parents:
            newest = again(
                "open",
                lambda parent=parent: self._ports.ledger.open(parent),  # type: ignore[misc]
                clock=self._ports.clock,
                facts=self._ports.facts,
            ).newest
            born_us = born_after(newest, self._read_note(parent))
            if born_us is not None:
                self._forward(born_us - margin_us)
            self._born(born_us)

    def _read_note(self, lineage: str) -> Reading:
        ledger, clock, facts = self._ports.ledger, self._ports.clock, self._ports.facts
        return again("reading", lambda: ledger.reading(lineage), clock=clock, facts=facts)

    def _learn(self, newest: Segment | None, reading: Reading) -> None:
        self._noted_us = max(self._noted_us, reading.read_until_us)
        self._forward(known_until(newest, reading))
        self._born(born_after(newest, reading))
        self._gap = last_gap(newest)

    def _forward(self, known_us: int | None) -> None:
        if known_us is not None:
            self._known_us = max(known_us, self._known_us or known_us)

    def _born(self, born_us: int | None) -> None:
        if born_us is not None:
            self._born_us = max(born_us, self._born_us or born_us)

    def adopt(self, newest: Segment | None) -> None:
        """Learn from the newest segment, which somebody else may have decided."""
        self._learn(newest, Reading())

    def refresh(self, newest: Segment | None) -> None:
        """Learn from the ledger's note too, before a gap is decided: another worker may have been idle here."""
        self._learn(newest, self._read_note(self._lineage.short))

    def collected(self, records: Sequence[Record]) -> None:
        """Take notice of records that were read."""
        latest = max(record.arrived_us for record in records)
        self._forward(latest)
        self._born(latest)

    def gap(self, now_us: int, last: Position | None, first: Record | None, *, trimmed: bool) -> Gap | None:
        """Return what may have been dropped between `last` and `first`, or before now where nothing came.

        Nothing was where reading overlaps with what was read before, nor before a record whose gap is decided already:
        whoever starts again in front of it finds the same place, however much later. Of a lineage that was never read nothing is missed
        that had arrived before its first start.
        """
        if first and last and Position(*unit_key(first)) <= last:
            return None
        if first and is_settled(self._gap, first.sequence_number):
            return None
        place = (first.sequence_number, first.arrived_us) if first else None
        return gap_after(self.known_us, now_us, self._keeping, place, trimmed=trimmed)

    def beyond(self, end: Position | None, max_arrival_us: int) -> Gap | None:
        """Return the gap that whoever comes next has to know, as the records of a segment do not show it."""
        return gap_beyond(self._gap, end, max_arrival_us)

    def caught_up(self, asked_us: int, *, committed: bool) -> None:
        """Take notice of a read that gave nothing at zero lag; note it now and then, where everything is committed.

        What is noted is a fact about the stream and a committed end, true for ever, whoever owns the shard now: nothing
        that had arrived by then lies beyond that end. So the note needs no other condition than that it only moves
        forward.
        """
        if self._keeping is None:
            return
        until = asked_us - self._keeping.margin_us
        self._forward(until)
        if committed and until - self._noted_us >= self._keeping.note_every_us:
            ledger, short = self._ports.ledger, self._lineage.short
            again(
                "note",
                lambda: ledger.note_read(short, until),
                clock=self._ports.clock,
                facts=self._ports.facts,
            )
            self._noted_us = until
