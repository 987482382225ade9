"""The duplicate window of one lineage: memory is a cache of `ids/`.

Knows the committed segments of the lineage and all its ancestors, and reads the fingerprints it lacks: after a
restart, after a reshard, or when another worker decided a segment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

from pipeline.core.errors import Corrupt, NotFound
from pipeline.core.filed import Flags
from pipeline.core.keys import SegmentRef, ids_key
from pipeline.core.segment import Lineage, Segment
from pipeline.core.window import Fingerprints, Window, decode_ids
from pipeline.core.window_reach import Reach, SegmentAge
from pipeline.facts import WindowLoaded
from pipeline.flows.retrying import again
from pipeline.flows.write import WritePorts


@dataclass(frozen=True)
class WindowLimits:
    """How far the window reaches: back in arrival time, and in ids."""

    window_us: int = 24 * 3_600_000_000
    max_ids: int = 5_000_000


_NOTHING_IS_KNOWN = 2**63  # later than any arrival


class DuplicateWindow:
    """Which ids were accepted lately in one lineage and its ancestors."""

    def __init__(self, lineage: Lineage, limits: WindowLimits, ports: WritePorts) -> None:
        self._lineage, self._limits, self._ports = lineage, limits, ports
        self._window = Window()
        self._reach = Reach(limits.max_ids)
        self._missing: dict[SegmentRef, SegmentAge] = {}  # inside the reach, and not read yet
        self._family = [lineage.short]
        self._redrives: set[str] = set()  # of them, those that take in refused units again
        self._known_since_us = _NOTHING_IS_KNOWN

    def expire(self) -> None:
        """Call after every open: others may have decided segments, so the ledger is asked before the next cut."""
        self._known_since_us = _NOTHING_IS_KNOWN

    def _ask(self, since_us: int) -> None:
        """Learn from the ledger which segments there are, back to an arrival time."""
        ledger, clock, facts = self._ports.ledger, self._ports.clock, self._ports.facts
        if self._lineage.parents and len(self._family) == 1:
            everyone = again("lineages", ledger.lineages, clock=clock, facts=facts)
            self._family = family(self._lineage, everyone)
            self._redrives = {one.short for one in everyone if one.redrives}
        for short in self._family:
            for segment in self._recent(short, since_us):
                age = _age(segment)
                if self._reach.add(age) and age.id not in self._window:
                    self._missing[age.id] = age
        self._known_since_us = since_us

    def _recent(self, lineage: str, since_us: int) -> list[Segment]:
        ledger, clock, facts = self._ports.ledger, self._ports.clock, self._ports.facts
        if lineage in self._redrives:  # its segments are not in the order of arrival, and few
            found = again("segments", lambda: ledger.segments(lineage), clock=clock, facts=facts)
            return [one for one in found if one.state == "committed" and one.max_arrival_us >= since_us]
        return again("recent", lambda: ledger.recent(lineage, since_us), clock=clock, facts=facts)

    def flags(self, prints: Fingerprints, first_arrival_us: int) -> Flags:
        """Return which of a new segment's rows are duplicates; remembers nothing."""
        if not len(prints):
            return self._window.seen(prints)  # an empty last segment of a shard need not read the window back
        horizon = first_arrival_us - self._limits.window_us
        if horizon < self._known_since_us:
            self._ask(horizon)
        self._slide(horizon)
        return self._window.seen(prints)

    def remember(self, segment: Segment, prints: Fingerprints) -> None:
        """Take in a segment's fingerprints; call only when its plan holds."""
        age = _age(segment)
        if self._reach.add(age):
            self._window.add(age, prints)
            self._missing.pop(age.id, None)

    def _slide(self, horizon_us: int) -> None:
        self._known_since_us = max(self._known_since_us, horizon_us)
        gone = self._reach.slide(horizon_us)
        self._window.leave(gone)
        for one in gone:
            self._missing.pop(one, None)
        if self._missing:
            self._read_back(list(self._missing.values()))
            self._missing = {}
            self._ports.facts(
                WindowLoaded(
                    lineage=self._lineage.short,
                    segments=len(self._reach),
                    ids=self._reach.ids,
                    bytes=self._window.size_bytes,
                    reached_us=self._reach.reached_us,
                )
            )

    def _read_back(self, missing: list[SegmentAge]) -> None:
        """Take in ids files, several read at once; each reader holds one file, and one of them adds at a time."""
        adding = Lock()

        def take(age: SegmentAge) -> None:
            prints = self._read(age.id)
            with adding:
                self._window.add(age, prints)

        self._ports.each(take, missing)

    def _read(self, segment: SegmentRef) -> Fingerprints:
        key = ids_key(*segment)
        try:
            data = again(
                "ids", lambda: self._ports.objects.get(key), clock=self._ports.clock, facts=self._ports.facts
            )
        except NotFound as exc:
            raise Corrupt(f"{key}: the ledger has this segment committed, but its ids are gone") from exc
        return decode_ids(data)


def _age(segment: Segment) -> SegmentAge:
    return SegmentAge(segment.ref, segment.max_arrival_us, segment.counts.rows)


def family(lineage: Lineage, everyone: list[Lineage]) -> list[str]:
    """Return the lineages, by short form, whose ids a lineage looks at: itself and all its ancestors.

    A redrive comes later than all of its shard's kin: it looks at the shard's descendants too, to which the producer may
    have sent the event again, and at the redrives of all of them. No shard looks at a redrive.
    """
    by_short = {one.short: one for one in everyone}
    found = [lineage.short, *_reached(lineage.parents, {one.short: one.parents for one in everyone})]
    if lineage.redrives:
        children = {
            one.short: tuple(other.short for other in everyone if one.short in other.parents)
            for one in everyone
        }
        kin = _reached((lineage.redrives,), children)  # redrives are children of what they redrive
        ancestors = [one for one in found if one in by_short]
        kin += [other.short for other in everyone if other.redrives in ancestors]
        found += kin
    return list(dict.fromkeys(found))


def _reached(first: Sequence[str], leads_to: Mapping[str, Sequence[str]]) -> list[str]:
    found: list[str] = []
    todo = list(first)
    while todo:
        short = todo.pop()
        if short not in found:
            found.append(short)
            todo += leads_to.get(short, ())
    return found
