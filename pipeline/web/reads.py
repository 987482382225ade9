"""Reading events, counts and days of entities over HTTP: the caller's own, page by page."""

from datetime import datetime
from typing import Any

import msgspec

from pipeline.core.caller import Scope
from pipeline.core.count import Answer as Counted
from pipeline.core.count import Line, Question
from pipeline.core.excerpt import did_you_mean
from pipeline.core.names import is_name
from pipeline.flows.tenant_reads import EntityDayLine, Page, TenantReads
from pipeline.web.asked import (
    CURSOR,
    FROM,
    TO,
    after_of,
    asked,
    choice,
    flag,
    next_of,
    refused,
    span_of,
    text,
    whole,
)
from pipeline.web.reading import read, reads_of
from pipeline.web.results import DayResult, results_of
from pipeline.web.route import Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor

MAX_PAGE_BYTES = 4 * 2**20  # of events' data, in one answer: a process holds a few such answers at once
MAX_PAGE_EVENTS = 1_000
MAX_GROUPS = 5_000  # of one count: more are a table for SQL
MAX_PAGE_DAYS = 366
UNKNOWN = "_unknown"


class StoredEvent(msgspec.Struct, frozen=True):
    """One archived event: what its producer sent, and where and when it arrived."""

    event_id: str
    tenant_id: str
    entity_id: str
    event_type: str
    schema_version: int
    source: str
    event_time: datetime
    received_time: datetime | None
    ingested_time: datetime
    correlation_id: str | None
    is_duplicate: bool
    shard_id: str
    sequence_number: str
    subsequence_number: int
    data: msgspec.Raw


class EventPage(msgspec.Struct, frozen=True):
    """Events in the order of event time and position; `next` is the cursor of the page after this one."""

    events: list[StoredEvent]
    next: str | None


class CountLine(msgspec.Struct, frozen=True):
    """Counts of one group; `quarantined` is null where it is not known by this group or filter."""

    group: str
    events: int
    duplicates: int
    quarantined: int | None


class Counts(msgspec.Struct, frozen=True):
    """Exact counts: all, and by group; `basis` says from what: aggregates, index, rows."""

    total: CountLine
    groups: list[CountLine]
    basis: list[str]
    quarantined_by: str = "arrival day"


class Day(msgspec.Struct, frozen=True):
    """One day of an entity: what is counted now, and what replay jobs came to."""

    day: str
    events: int
    duplicates: int
    results: list[DayResult]


class DayPage(msgspec.Struct, frozen=True):
    """Days of an entity in order; `next` is the cursor of the page after this one."""

    entity_id: str
    days: list[Day]
    next: str | None


_ENTITY = text("entity", "Of this entity.", "N14228")
_TYPE = text("type", "Of this event type.", "flight.departed", longest=63)
_SOURCE = text("source", "From this source.", "JFK")
_EVENTS = (
    _ENTITY,
    _TYPE,
    _SOURCE,
    FROM,
    TO,
    flag("include_duplicates", "Flagged copies too."),
    whole(
        "limit",
        "Events of one page at most; a page may have fewer, where they are large.",
        100,
        MAX_PAGE_EVENTS,
    ),
    CURSOR,
)
_COUNTS = (
    _ENTITY,
    text(
        "type",
        "Of this event type; `_unknown` for units of a type that was unknown.",
        "flight.departed",
        longest=63,
    ),
    _SOURCE,
    FROM,
    TO,
    choice("by", "Count these apart.", ("hour", "day", "type", "source")),
)
_DAYS = (
    text("entity", "Whose days.", "N14228", required=True),
    FROM,
    TO,
    whole("limit", "Days of one page at most.", 100, MAX_PAGE_DAYS),
    CURSOR,
)


async def get_events(door: FrontDoor, call: Call) -> Answer:
    """Return what happened to an entity, or the events of a type."""
    query = asked(call, _EVENTS)
    if query["entity"] is None:
        for name, example in (("type", "flight.departed"), ("from", "2013-07-04"), ("to", "2013-07-05")):
            if query[name] is None:
                raise refused(
                    name,
                    "is needed where no entity is named",
                    "entity, or else all of type, from and to",
                    example,
                )
    key = reads_of(door).key
    question = Question(span_of(query), query["type"], query["source"], query["entity"])
    after = after_of(door, call, query, key)

    def work(mine: TenantReads) -> Page:
        _check_type(door, mine, query["type"])
        flagged = query["include_duplicates"]
        return mine.events(question, after, query["limit"], MAX_PAGE_BYTES, flagged=flagged)

    page = await read(door, call, work)
    shown = [_stored(one.event_type, one.columns) for one in page.events]
    return Answer(EventPage(shown, next_of(door, call, query, key, page.more_after)))


def _stored(event_type: str, columns: dict[str, Any]) -> StoredEvent:
    fields = dict(columns)
    data = msgspec.Raw(fields.pop("data_json").encode())
    return StoredEvent(event_type=event_type, data=data, **fields)


def _check_type(door: FrontDoor, mine: TenantReads, event_type: str | None, *also: str) -> None:
    """Refuse a type that has no schema and of which the tenant has nothing; others' are not looked at."""
    known = door.rules().schemas
    if event_type is None or event_type in known or event_type in also:
        return
    if not is_name(event_type) or not mine.knows_type(event_type):
        hint = did_you_mean(event_type, known).removeprefix("; ")
        why = f"no such event type{'; ' + hint if hint else ''}"
        raise refused("type", why, "GET /v1/schemas lists them", min(known, default="flight.departed"))


async def get_counts(door: FrontDoor, call: Call) -> Answer:
    """Return exact counts."""
    query = asked(call, _COUNTS)
    question = Question(span_of(query), query["type"], query["source"], query["entity"], query["by"])

    def work(mine: TenantReads) -> Counted:
        _check_type(door, mine, query["type"], UNKNOWN)
        return mine.counts(question, sorted(door.rules().schemas))

    found = await read(door, call, work)
    if len(found.lines) > MAX_GROUPS:
        why = f"by {query['by']} there are {len(found.lines):,} groups"
        raise refused("by", why, f"at most {MAX_GROUPS:,} groups: a shorter time between from and to", "day")
    return Answer(Counts(_line(found.total), [_line(one) for one in found.lines], list(found.basis)))


def _line(line: Line) -> CountLine:
    return CountLine(line.group, line.events, line.duplicates, line.quarantined)


async def get_aggregates(door: FrontDoor, call: Call) -> Answer:
    """Return the days of an entity."""
    query = asked(call, _DAYS)
    key, span, limit = reads_of(door).key, span_of(query), query["limit"]
    after = after_of(door, call, query, key)

    def work(mine: TenantReads) -> list[EntityDayLine]:
        return mine.entity_days(query["entity"], span)

    found = await read(door, call, work)
    left = [one for one in found if after is None or one.dt > str(after[0])]
    more = (left[limit - 1].dt,) if len(left) > limit else None
    days = [Day(one.dt, one.events, one.duplicates, results_of(one.results)) for one in left[:limit]]
    return Answer(DayPage(query["entity"], days, next_of(door, call, query, key, more)))


ROUTES = (
    Route(
        "GET",
        "/v1/events",
        Scope.READ,
        "Return what happened to an entity, or the events of a type, in the order of event time.",
        get_events,
        answers={200: EventPage},
        parameters=_EVENTS,
    ),
    Route(
        "GET",
        "/v1/counts",
        Scope.READ,
        "Count events exactly: without duplicates, duplicates, and quarantined units.",
        get_counts,
        answers={200: Counts},
        parameters=_COUNTS,
    ),
    Route(
        "GET",
        "/v1/aggregates",
        Scope.READ,
        "Return the days of an entity: its events, and what replay jobs came to.",
        get_aggregates,
        answers={200: DayPage},
        parameters=_DAYS,
    ),
)
