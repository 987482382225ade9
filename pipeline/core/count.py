"""Exact counts of a tenant's events: what aggregates and pointers can answer, and what rows must.

Events are counted without duplicates, by event time. Duplicates are counted apart. Quarantined units are counted by
arrival day, whole days only, and are known by tenant and type alone: they may have had no entity and no source.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa

from pipeline.core.aggregate import HOURS, Aggregate
from pipeline.core.days import DAY_US, HOUR_US, day_of
from pipeline.core.filed import times_of
from pipeline.core.find import Run, chosen_rows, day_span
from pipeline.core.segment import SealState
from pipeline.core.span import Span, instant_of
from pipeline.core.tiers import OPEN, visible

By = Literal["hour", "day", "type", "source"]


@dataclass(frozen=True)
class Question:
    """Which of a tenant's events are counted, and how they are grouped (None: not at all)."""

    span: Span = Span()  # noqa: RUF009 - immutable
    event_type: str | None = None
    source: str | None = None
    entity_id: str | None = None
    by: By | None = None

    @property
    def by_source(self) -> bool:
        """True when the answer depends on the sources of events."""
        return self.source is not None or self.by == "source"


class Count(NamedTuple):
    """Events without duplicates, and duplicates."""

    events: int
    duplicates: int


Groups = Mapping[str, Count]


class TypeDay(NamedTuple):
    """One event type on one event day: what aggregates answer, or do not."""

    event_type: str
    dt: str


class Line(NamedTuple):
    """One line of an answer; `quarantined` is None where it is not known by this group or filter."""

    group: str
    events: int
    duplicates: int
    quarantined: int | None


@dataclass(frozen=True)
class Answer:
    """What was counted: a line for each group that is not empty, the sum of all, and what was looked at."""

    lines: tuple[Line, ...]
    total: Line
    basis: tuple[str, ...]


@dataclass
class Tally:
    """A count that is being made: groups by name ("" where there are none), and what they were counted from."""

    events: Counter[str] = field(default_factory=Counter)
    duplicates: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    basis: set[str] = field(default_factory=set)

    def add(self, groups: Groups, basis: str) -> None:
        """Add groups that were counted from `basis`."""
        self.basis.add(basis)
        for name, count in groups.items():
            self.events[name] += count.events
            self.duplicates[name] += count.duplicates

    def answer(self, question: Question) -> Answer:
        """Return what the question's asker is told."""
        known = (
            question.source is None and question.entity_id is None and question.by not in {"hour", "source"}
        )
        grouped = known and question.by is not None
        refused = self.quarantined if grouped else Counter[str]()
        names = sorted({*+self.events, *+self.duplicates, *+refused}) if question.by else []
        lines = tuple(
            Line(name, self.events[name], self.duplicates[name], refused[name] if grouped else None)
            for name in names
        )
        quarantined = self.quarantined.total() if known else None
        total = Line("all", self.events.total(), self.duplicates.total(), quarantined)
        return Answer(lines, total, tuple(sorted(self.basis)))


def by_day(items: Iterable[Aggregate], event_type: str, seal: SealState) -> dict[TypeDay, list[Aggregate]]:
    """Return what counts for a reader, by day."""
    cells: dict[TypeDay, list[Aggregate]] = defaultdict(list)
    for item in items:
        if visible(item.tier, item.dt, seal):
            cells[TypeDay(event_type, item.dt)].append(item)
    return cells


def from_aggregates(cell: TypeDay, items: Sequence[Aggregate], question: Question) -> Groups | None:
    """Return the groups of a type's day, or None where only its rows can say.

    An aggregate knows events by hour and, apart from that, by source; duplicates by neither.
    """
    hours = _hours(question.span, cell.dt)
    events, duplicates = sum(one.events for one in items), sum(one.duplicates for one in items)
    if not events and not duplicates:
        return {}
    if hours is None:
        return None
    whole = hours == range(HOURS)
    parted = not whole or question.by == "hour"
    if question.by_source:
        return None if parted or duplicates else _by_source(cell, items, question)
    if parted and duplicates:
        return None
    counts = [sum(one.hours[hour] for one in items) for hour in range(HOURS)]
    if question.by == "hour":
        begin = day_span(cell.dt).from_us
        return {hour_name(begin + hour * HOUR_US): Count(counts[hour], 0) for hour in hours if counts[hour]}
    return {_name(cell, question): Count(sum(counts[hour] for hour in hours), duplicates)}


def _by_source(cell: TypeDay, items: Sequence[Aggregate], question: Question) -> Groups | None:
    for one in items:
        if one.other_sources and (question.source is None or question.source not in one.sources):
            return None  # it may be among those that were not named
    found: Counter[str] = Counter()
    for one in items:
        found.update(one.sources)
    if question.source is not None:
        found = Counter({question.source: found[question.source]})
    if question.by == "source":
        return {source: Count(count, 0) for source, count in found.items() if count}
    return {_name(cell, question): Count(found.total(), 0)}


def _hours(span: Span, dt: str) -> range | None:
    """Return the hours of a day that lie in a span, or None when it cuts one."""
    day = day_span(dt)
    first = max(span.from_us, day.from_us) - day.from_us
    until = min(span.until_us, day.until_us) - day.from_us
    if first % HOUR_US or until % HOUR_US:
        return None
    return range(first // HOUR_US, until // HOUR_US)


def from_run(run: Run, question: Question) -> Groups | None:
    """Return the groups of a run of rows by what is known of it, or None where only its rows can say."""
    if question.by_source or not question.span.covers(run.from_us, run.until_us):
        return None
    first, last = run.from_us, run.until_us - 1
    unit = {"hour": HOUR_US, "day": DAY_US}.get(question.by or "")
    if unit is not None and first // unit != last // unit:
        return None
    name = (
        hour_name(first) if question.by == "hour" else _name(TypeDay(run.event_type, day_of(first)), question)
    )
    return {name: Count(run.rows - run.duplicates, run.duplicates)}


def from_rows(tenant_id: str, run: Run, table: pa.Table, question: Question) -> Groups:
    """Count the rows of a run; needs the columns of `columns_for`."""
    chosen = chosen_rows(tenant_id, table, question.span, question.source)
    flags = table.column("is_duplicate").to_numpy()[chosen]
    groups: dict[str, Count] = {}
    for name, rows in _named(table.filter(pa.array(chosen)), run, question).items():
        copies = int(flags[rows].sum())
        groups[name] = Count(len(rows) - copies, copies)
    return groups


def columns_for(question: Question) -> list[str]:
    """Return the columns that counting rows takes."""
    return [
        "tenant_id",
        "entity_id",
        "event_time",
        "is_duplicate",
        *(["source"] if question.by_source else []),
    ]


def _named(table: pa.Table, run: Run, question: Question) -> dict[str, np.ndarray]:
    """Return the row numbers of each group."""
    if not table.num_rows:
        return {}
    if question.by in {"hour", "day"}:
        unit = HOUR_US if question.by == "hour" else DAY_US
        keys = times_of(table) // unit
        name_of = hour_name if question.by == "hour" else day_of
        return {name_of(int(key) * unit): np.flatnonzero(keys == key) for key in np.unique(keys)}
    if question.by == "source":
        sources = np.array(table.column("source").to_pylist(), dtype=object)
        return {str(name): np.flatnonzero(sources == name) for name in sorted(set(sources))}
    return {_name(TypeDay(run.event_type, ""), question): np.arange(table.num_rows)}


def quarantined_groups(items: Iterable[Aggregate], event_type: str, by: By | None) -> Counter[str]:
    """Count refused units by arrival day or type, or in all ("").

    They lie in items of the open tier whatever is sealed: quarantine has no other tier.
    """
    found: Counter[str] = Counter()
    for item in items:
        if item.tier == OPEN:
            found[{"day": item.dt, "type": event_type}.get(by or "", "")] += item.quarantined
    return found


def hour_name(at_us: int) -> str:
    """Return the name of the hour that begins at, or holds, a time."""
    return instant_of(at_us // HOUR_US * HOUR_US)


def _name(cell: TypeDay, question: Question) -> str:
    return {"day": cell.dt, "type": cell.event_type}.get(question.by or "", "")
