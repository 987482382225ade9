"""Which rows a replay job means: its selection, exact to the row, as pointers in chunks.

A job is about one entity (any types, any window of event time), or about one event type of a tenant (whole days).
What a pointer cannot say is cut out of its rows where they are contiguous (window, limit), and is a predicate over
immutable rows where they are not (source, duplicates): `matches` is the one place that decides it, for plan and processor.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Literal, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.days import DAY_US, day_of
from pipeline.core.errors import ConfigProblem
from pipeline.core.filed import I64, Flags, runs, times_of
from pipeline.core.find import Run, chosen_rows
from pipeline.core.index import Pointer
from pipeline.core.names import is_name
from pipeline.core.span import END_US, FIRST_US, Span

Granularity = Literal["pointer", "event"]
CHUNK_EVENTS = 10_000  # of an entity's job: about a second of work, which is what a crash repeats
_MAX_SOURCE_BYTES = 256  # in a scope: a sort key of DynamoDB has 1,024 bytes at most


class Selection(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a job is about: events of from_us <= event time < until_us, microseconds since the epoch.

    With `limit` only the first so many events, in the order of days, types, files and rows.
    """

    tenant_id: str
    entity_id: str | None = None
    event_type: str | None = None
    source: str | None = None
    from_us: int = FIRST_US
    until_us: int = END_US
    include_duplicates: bool = False
    limit: int | None = None

    @property
    def span(self) -> Span:
        """Return its span of event time."""
        return Span(self.from_us, self.until_us)

    @property
    def cuts_days(self) -> bool:
        """True when its span begins or ends inside a day."""
        return any(edge % DAY_US for edge in (self.from_us, self.until_us) if FIRST_US < edge < END_US)


class Part(NamedTuple):
    """What a job takes of a run: rows of one event day in one data file, all of them in low_us..high_us.

    `events` counts those rows that the selection takes. `exact`: the bounds are event times of such rows.
    """

    dt: str
    event_type: str
    pointer: Pointer
    events: int
    low_us: int
    high_us: int
    exact: bool = False


class PlannedChunk(NamedTuple):
    """All of a job's pointers for its days: a chunk is closed under entity and day."""

    number: int
    first_dt: str
    last_dt: str
    pointers: list[Pointer]
    events: int


def check(selection: Selection) -> Selection:
    """Return a selection that makes sense.

    Raises:
        ConfigProblem: it does not; says what to give instead.
    """
    if not is_name(selection.tenant_id):
        raise ConfigProblem(f"--tenant {selection.tenant_id!r} is no name of a tenant")
    for option, value in (("--entity", selection.entity_id), ("--source", selection.source)):
        if value == "":
            raise ConfigProblem(f"{option} is empty: name one, or leave it out for all")
    if selection.event_type is not None and not is_name(selection.event_type):
        raise ConfigProblem(f"--type {selection.event_type!r} is no name of an event type")
    if selection.entity_id is None:
        if selection.event_type is None:
            raise ConfigProblem("give --entity, or --type: a replay job is about one of them")
        if selection.cuts_days:
            raise ConfigProblem("a job by --type takes whole days: give --from and --to as days (2013-07-04)")
    return selection


def scope_of(selection: Selection, job: str) -> str:
    """Return the canonical text of what a result speaks of, the entity apart.

    Jobs of one scope mean the same rows of an entity and day; where a job may take a part of a day its id is in it.
    """
    parts = []
    if selection.event_type is not None:
        parts.append(f"type={selection.event_type}")
    if selection.source is not None:
        parts.append(f"source={_escaped(selection.source)}")
    parts = parts or ["all"]
    if selection.include_duplicates:
        parts.append("duplicates")
    if selection.limit is not None or selection.cuts_days:
        parts.append(f"job={job}")
    return ",".join(parts)


def _escaped(source: str) -> str:
    text = source.replace("%", "%25").replace(",", "%2C").replace("#", "%23")
    if len(text.encode()) <= _MAX_SOURCE_BYTES:
        return text
    return "%%" + hashlib.blake2b(source.encode(), digest_size=16).hexdigest()


def columns_for(selection: Selection) -> list[str]:
    """Return the columns that `matches` looks at."""
    columns = ["tenant_id", "event_time"]
    if not selection.include_duplicates:
        columns.append("is_duplicate")
    if selection.source is not None:
        columns.append("source")
    return columns


def matches(rows: pa.Table, selection: Selection) -> Flags:
    """Return which rows of a pointer the selection takes; `rows` has at least `columns_for(selection)`."""
    duplicates = selection.include_duplicates
    return chosen_rows(selection.tenant_id, rows, selection.span, selection.source, duplicates=duplicates)


def whole(run: Run, selection: Selection) -> Part:
    """Return a run of one day as it is, its events counted by what is known of it."""
    events = run.events(duplicates=selection.include_duplicates)
    return Part(day_of(run.from_us), run.event_type, run.pointer, events, run.from_us, run.until_us - 1)


def weigh(run: Run | Part, rows: pa.Table, selection: Selection) -> list[Part]:
    """Return what the selection takes of a run, a part for each stretch of rows of one day; none is empty."""
    found, times = matches(rows, selection), times_of(rows)
    return [
        _part(run, first, np.flatnonzero(found[first:last]), times)
        for first, last in runs(times // DAY_US)
        if found[first:last].any()
    ]


def cut(part: Part, rows: pa.Table, selection: Selection, events: int) -> Part:
    """Return a part up to its `events`-th event."""
    return _part(part, 0, np.flatnonzero(matches(rows, selection))[:events], times_of(rows))


def _part(run: Run | Part, first: int, hits: npt.NDArray[np.intp], times: I64) -> Part:
    chosen = times[first + hits]
    key, first_row = run.pointer.key, run.pointer.first_row + first + int(hits[0])
    pointer = Pointer(key, first_row, int(hits[-1] - hits[0]) + 1)
    low, high = int(chosen.min()), int(chosen.max())
    return Part(day_of(low), run.event_type, pointer, len(hits), low, high, exact=True)


def in_order(found: Iterable[Part]) -> list[Part]:
    """Return parts by day, type, file and row: the order in which a limit counts."""
    return sorted(found, key=lambda one: (one.dt, one.event_type, one.pointer.key, one.pointer.first_row))


def up_to_limit(found: Sequence[Part], limit: int) -> tuple[list[Part], int]:
    """Return the parts that the limit takes whole, and how many events the one after them gives."""
    left = limit
    for place, one in enumerate(found):
        if one.events > left:
            return list(found[:place]), left
        left -= one.events
    return list(found), 0


def chunks_of(found: Sequence[Part], *, by_day: bool) -> Iterator[PlannedChunk]:
    """Put parts, in order, into chunks: one for each day, or consecutive days up to about CHUNK_EVENTS."""
    held: list[Part] = []
    number = 1
    for _, day in groupby(found, key=lambda one: one.dt):
        parts_of_day = list(day)
        events = sum(one.events for one in held)
        if held and (by_day or events + sum(one.events for one in parts_of_day) > CHUNK_EVENTS):
            yield _chunk(number, held)
            held, number = [], number + 1
        held += parts_of_day
    if held:
        yield _chunk(number, held)


def _chunk(number: int, held: Sequence[Part]) -> PlannedChunk:
    pointers = [one.pointer for one in held]
    return PlannedChunk(number, held[0].dt, held[-1].dt, pointers, sum(one.events for one in held))
