"""A producer's own refusals over HTTP: counted, sampled, and one of them with its bytes.

A unit belongs to the tenant that it names. One that names none, or that could not be read far enough to say, is nobody's:
the operator sees it with `headrace quarantine`.
"""

import base64
from dataclasses import replace
from typing import Any

import msgspec

from pipeline.core.caller import Scope
from pipeline.core.days import DAY_US
from pipeline.core.errors import ConfigProblem
from pipeline.core.event import RefusalCode
from pipeline.core.redriven import Mark, RefusedUnit, Wanted
from pipeline.core.span import END_US, FIRST_US, Span, instant_of
from pipeline.flows.quarantine import parse_unit, unit_name
from pipeline.flows.tenant_reads import RefusedCount, RefusedPage, TenantReads, whole_days
from pipeline.web.asked import (
    CURSOR,
    FROM,
    TO,
    after_of,
    asked,
    choice,
    next_of,
    path,
    refused,
    span_of,
    text,
    whole,
)
from pipeline.web.problems import Problem
from pipeline.web.reading import AGAIN, read, reads_of
from pipeline.web.route import Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor

MAX_DAYS = 31  # of arrival in one question: every refused unit of these days is looked at
DEFAULT_DAYS = 7
SAMPLE_BYTES = 2_000  # shown of each unit in a list
_MISSING = "no refused unit of this name: GET /v1/quarantine/samples names them"


class RefusalCount(msgspec.Struct, frozen=True):
    """Refused units of one arrival day, code and type, and how many of them went through again."""

    day: str
    code: str
    event_type: str | None
    units: int
    redriven: int
    first_arrival: str
    last_arrival: str


class RefusalCounts(msgspec.Struct, frozen=True):
    """Refused units that arrived between two times."""

    arrived_from: str
    arrived_until: str
    counts: list[RefusalCount]


class Refusal(msgspec.Struct, frozen=True):
    """One refused unit: why, and what it says of itself. `raw` is text where it is UTF-8, else `raw_base64` has it."""

    unit: str
    code: str
    pointer: str
    message: str
    event_type: str | None
    event_id: str | None
    arrived: str
    redriven: str | None
    bytes: int
    raw: str | None
    raw_base64: str | None
    cut: bool


class RefusalPage(msgspec.Struct, frozen=True):
    """Refused units in the order of arrival days; `next` is the cursor of the page after this one."""

    units: list[Refusal]
    next: str | None


_CHOSEN = (
    choice("code", "Refused with this code.", [str(code) for code in RefusalCode]),
    text("type", "Naming this event type.", "flight.departed"),
    replace(
        FROM, says=FROM.says.replace("Event times", "Arrival") + f" Default: {DEFAULT_DAYS} days before `to`."
    ),
    replace(TO, says=TO.says + " Default: now."),
)
_SAMPLES = (*_CHOSEN, whole("limit", "Units of one page at most.", 10, 100), CURSOR)
_UNIT = (
    path("day", "Arrival day: the first part of a unit's name."),
    path("segment", "The second part."),
    path("row", "The third part."),
)


async def get_quarantine(door: FrontDoor, call: Call) -> Answer:
    """Count the caller's refused units."""
    query = asked(call, _CHOSEN)
    wanted = _wanted(door, query)

    def work(mine: TenantReads) -> list[RefusedCount]:
        return mine.refused_counts(wanted)

    found = await read(door, call, work)
    lines = [
        RefusalCount(
            one.dt,
            one.code,
            one.event_type,
            one.tally.units,
            one.tally.redriven,
            instant_of(one.tally.first_us),
            instant_of(one.tally.last_us),
        )
        for one in found
    ]
    span = wanted.arrived
    return Answer(RefusalCounts(instant_of(span.from_us), instant_of(span.until_us), lines))


async def get_quarantine_samples(door: FrontDoor, call: Call) -> Answer:
    """Show the caller's refused units."""
    query = asked(call, _SAMPLES)
    key = reads_of(door).key
    after, wanted = after_of(door, call, query, key), _wanted(door, query)

    def work(mine: TenantReads) -> RefusedPage:
        return mine.refused_units(wanted, after, query["limit"])

    page = await read(door, call, work)
    units = [_refusal(*one, SAMPLE_BYTES) for one in page.units]
    return Answer(RefusalPage(units, next_of(door, call, query, key, page.more_after)))


async def get_quarantine_unit(door: FrontDoor, call: Call) -> Answer:
    """Show one of the caller's refused units, whole."""
    asked(call, ())
    name = "/".join(call.path[part] for part in ("day", "segment", "row"))
    try:
        place = parse_unit("unit", name)
    except ConfigProblem as exc:
        raise Problem("not_found", _MISSING) from exc

    def work(mine: TenantReads) -> tuple[RefusedUnit, Mark | None]:
        return mine.refused_unit(place)

    found = await read(door, call, work, less=AGAIN, missing=_MISSING)
    return Answer(_refusal(*found, len(found[0].raw)))


def _wanted(door: FrontDoor, query: dict[str, Any]) -> Wanted:
    span = span_of(query)
    until = min(span.until_us, door.clock.now_us() + 1) if span.until_us == END_US else span.until_us
    begin = max(until - DEFAULT_DAYS * DAY_US, FIRST_US) if span.from_us == FIRST_US else span.from_us
    if begin >= until:
        raise refused("from", "lies in the future", "a time before now", "2013-07-04")
    arrived = Span(begin, until)
    if whole_days(arrived) > MAX_DAYS + 1:
        raise refused(
            "from", f"is more than {MAX_DAYS} days before to", f"at most {MAX_DAYS} days", "2013-07-04"
        )
    return Wanted(query["code"], None, query["type"], arrived)


def _refusal(one: RefusedUnit, mark: Mark | None, shown: int) -> Refusal:
    part = one.raw[:shown]
    try:
        said: str | None = part.decode()
    except UnicodeDecodeError:
        said = None
    return Refusal(
        unit=unit_name(one.place),
        code=one.code,
        pointer=one.pointer,
        message=one.message,
        event_type=one.event_type,
        event_id=one.event_id,
        arrived=instant_of(one.arrived_us),
        redriven=None if mark is None else instant_of(mark.redriven_us),
        bytes=len(one.raw),
        raw=said,
        raw_base64=base64.b64encode(part).decode() if said is None else None,
        cut=len(one.raw) > shown,
    )


ROUTES = (
    Route(
        "GET",
        "/v1/quarantine",
        Scope.READ,
        "Count your refused units by arrival day, code and type.",
        get_quarantine,
        answers={200: RefusalCounts},
        parameters=_CHOSEN,
    ),
    Route(
        "GET",
        "/v1/quarantine/samples",
        Scope.READ,
        "Show your refused units with their reasons and the beginning of their bytes.",
        get_quarantine_samples,
        answers={200: RefusalPage},
        parameters=_SAMPLES,
    ),
    Route(
        "GET",
        "/v1/quarantine/{day}/{segment}/{row}",
        Scope.READ,
        "Show one of your refused units with all its bytes.",
        get_quarantine_unit,
        answers={200: Refusal},
        parameters=_UNIT,
    ),
)
