"""The duplicate window of one lineage: memory is a cache of `ids/`.

Knows the committed segments of the lineage and all its ancestors, and reads the fingerprints it lacks: after a
restart, after a reshard, or when another worker decided a segment.
"""

from dataclasses import dataclass

from pipeline.core.errors import Corrupt, NotFound
from pipeline.core.keys import ids_key
from pipeline.core.segment import Lineage, Segment
from pipeline.core.window import (
    Fingerprints,
    Flags,
    SegmentAge,
    SegmentId,
    Window,
    choose,
    decode_ids,
)
from pipeline.facts import WindowLoaded
from pipeline.flows.retrying import again
from pipeline.flows.write import WritePorts


@dataclass(frozen=True)
class WindowLimits:
    """How far the window reaches: back in arrival time, and in ids."""

    window_us: int = 24 * 3_600_000_000
    max_ids: int = 5_000_000


class DuplicateWindow:
    """Which ids were accepted lately in one lineage and its ancestors."""

    def __init__(self, lineage: Lineage, limits: WindowLimits, ports: WritePorts) -> None:
        self._lineage, self._limits, self._ports = lineage, limits, ports
        self._window = Window()
        self._known: dict[SegmentId, SegmentAge] = {}
        self._family = [lineage.short]
        self._known_since_us = 0

    def refresh(self, first_arrival_us: int) -> None:
        """Learn from the ledger which segments there are; call after every open."""
        ledger, clock, facts = self._ports.ledger, self._ports.clock, self._ports.facts
        if self._lineage.parents and len(self._family) == 1:
            everyone = again("lineages", ledger.lineages, clock=clock, facts=facts)
            self._family = family(self._lineage, everyone)
        since = first_arrival_us - self._limits.window_us
        for short in self._family:
            found = again("recent", lambda short=short: ledger.recent(short, since), clock=clock, facts=facts)  # type: ignore[misc]
            for segment in found:
                self._know(segment)
        self._known_since_us = since

    def flags(self, prints: Fingerprints, first_arrival_us: int) -> Flags:
        """Return which of a new segment's rows are duplicates; remembers nothing."""
        horizon = first_arrival_us - self._limits.window_us
        if horizon < self._known_since_us:  # a backlog: its window reaches back further than was asked for
            self.refresh(first_arrival_us)
        self._slide(horizon)
        return self._window.seen(prints)

    def remember(self, segment: Segment, prints: Fingerprints) -> None:
        """Take in a segment's fingerprints; call only when its plan holds."""
        age = self._know(segment)
        self._window.add(age, prints)

    def _know(self, segment: Segment) -> SegmentAge:
        identity = SegmentId(segment.lineage, segment.ordinal)
        age = SegmentAge(identity, segment.max_arrival_us, segment.counts.rows)
        self._known[identity] = age
        return age

    def _slide(self, horizon_us: int) -> None:
        chosen = choose([age for age in self._known.values() if age.ids], horizon_us, self._limits.max_ids)
        self._known = {age.id: age for age in chosen}
        self._known_since_us = max(self._known_since_us, horizon_us)
        self._window.keep_only(self._known)
        missing = [age for age in chosen if age.id not in self._window.segments]
        for age in missing:
            self._window.add(age, self._read(age.id))
        if missing:
            self._ports.facts(
                WindowLoaded(
                    lineage=self._lineage.short,
                    segments=len(chosen),
                    ids=sum(age.ids for age in chosen),
                    bytes=self._window.size_bytes,
                    reached_us=chosen[-1].max_arrival_us,
                )
            )

    def _read(self, segment: SegmentId) -> Fingerprints:
        key = ids_key(segment.lineage, segment.ordinal)
        try:
            data = again(
                "ids", lambda: self._ports.objects.get(key), clock=self._ports.clock, facts=self._ports.facts
            )
        except NotFound as exc:
            raise Corrupt(f"{key}: the ledger has this segment committed, but its ids are gone") from exc
        return decode_ids(data)


def family(lineage: Lineage, everyone: list[Lineage]) -> list[str]:
    """Return a lineage and all its ancestors, by short form."""
    by_short = {one.short: one for one in everyone}
    found, todo = [lineage.short], list(lineage.parents)
    while todo:
        short = todo.pop()
        if short not in found:
            found.append(short)
            todo += by_short[short].parents if short in by_short else ()
    return found
