"""One event's way over HTTP: arrived, archived or refused, counted. Of files, index and lineages it tells nothing."""

from typing import Any

import msgspec

from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem, Crossed, NotFound
from pipeline.core.receipt import Receipt
from pipeline.core.redriven import RefusedPlace
from pipeline.core.sighting import Found, Hint, Trace
from pipeline.core.signed import MAX_CHARACTERS
from pipeline.core.span import instant_of, parse_day
from pipeline.flows.quarantine import unit_name
from pipeline.flows.tenant_reads import TenantReads
from pipeline.web.asked import asked, path, refused, tell_crossing, text
from pipeline.web.problems import Problem
from pipeline.web.reading import AGAIN, read, reads_of, refusing
from pipeline.web.route import Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor

MAX_EVENT_ID = 128  # characters of an event id
_MISSING = (
    "no event of this id is archived or refused; what arrived a moment ago may be on its way: GET /v1/lag says how far "
    "the archive is"
)
_LOST = (
    "no event of this id is archived or refused, and its receipt says `lost`: the stream may have dropped it before it was "
    "read; send it again with the same event_id"
)
_NO_RECEIPT = "there is no such receipt; leave it out to look everywhere"
_LESS = "give entity, at or receipt: without one of them everything that was archived is searched"


class Arrival(msgspec.Struct, frozen=True):
    """When and where the stream took an event."""

    time: str
    shard_id: str
    sequence_number: str
    subsequence_number: int


class Refused(msgspec.Struct, frozen=True):
    """Why an event was refused; `unit` is its name at /v1/quarantine."""

    code: str
    pointer: str
    message: str
    unit: str
    redriven: str | None


class CountedAs(msgspec.Struct, frozen=True):
    """What an event counts as, and whether it does yet."""

    figure: str
    hour: int | None
    included: bool


class Way(msgspec.Struct, frozen=True):
    """One stored unit of this id. `state` is that of its segment: planned, or committed once all of it can be read."""

    outcome: str
    event_type: str | None
    entity_id: str | None
    source: str | None
    event_time: str | None
    arrived: Arrival
    state: str | None
    repeats_earlier: bool
    indexed: bool
    counted: CountedAs | None
    refused: Refused | None


class EventTrace(msgspec.Struct, frozen=True):
    """All units of this id in the order of arrival, and what led to them; an entity's are perhaps not all."""

    event_id: str
    found: list[Way]
    found_by: str
    may_be_elsewhere: bool


_TRACE = (
    path("id", "The event's id."),
    text("entity", "Look at this entity first.", "N14228"),
    text(
        "at",
        "Look at this event day (2013-07-04, or an RFC 3339 time on it) first.",
        "2013-07-04",
        longest=40,
    ),
    text(
        "receipt",
        "Look at what this receipt acknowledged first.",
        "the `receipt` of an answer",
        longest=MAX_CHARACTERS,
    ),
)


async def get_event(door: FrontDoor, call: Call) -> Answer:
    """Follow one event."""
    query, event_id = asked(call, _TRACE), call.path["id"]
    if not 0 < len(event_id) <= MAX_EVENT_ID:
        raise Problem("not_found", _MISSING)
    hint = _hint(door, call, query)

    def work(mine: TenantReads) -> Trace:
        return mine.trace(event_id, hint)

    found = await read(door, call, work, less=_LESS if hint == Hint() else AGAIN)
    if not found.found:
        raise Problem("not_found", await _missing(door, call, query["receipt"]))
    ways = [_way(one) for one in found.found]
    return Answer(EventTrace(event_id, ways, found.by, found.by == "entity"))


async def _missing(door: FrontDoor, call: Call, receipt: str | None) -> str:
    """Say that an event was not found, and what is known of it: with its receipt, whether it may be lost."""
    held = None
    if receipt is not None and door.receipts is not None:
        held = door.receipts.read(call.caller.tenant_id, receipt)
    if held is None or door.receipts is None:
        return _MISSING
    with refusing(door, call, _MISSING):
        return _LOST if await door.receipts.follower.state(held) == "lost" else _MISSING


def _hint(door: FrontDoor, call: Call, query: dict[str, Any]) -> Hint:
    if sum(query[name] is not None for name in ("entity", "at", "receipt")) > 1:
        raise refused("entity", "is given beside at or receipt", "one of entity, at, receipt", "N14228")
    if query["receipt"] is not None:
        return Hint(acked=_acked(door, call, query["receipt"]))
    try:
        day = None if query["at"] is None else parse_day("at", query["at"])
    except ConfigProblem as exc:
        raise refused("at", "is no day and no time", "a day or an RFC 3339 time", "2013-07-04") from exc
    return Hint(query["entity"], day)


def _acked(door: FrontDoor, call: Call, receipt: str) -> Receipt:
    acked = reads_of(door).acked
    if acked is None:
        raise Problem("not_found", _NO_RECEIPT)
    try:
        return acked(call.caller, receipt)
    except NotFound as exc:
        if isinstance(exc, Crossed):
            tell_crossing(door, call)
        raise Problem("not_found", _NO_RECEIPT) from exc


def _way(one: Found) -> Way:
    unit = one.sighting
    counted = one.counted
    redriven = None if one.redriven is None else instant_of(one.redriven.redriven_us)
    return Way(
        outcome=unit.outcome,
        event_type=unit.event_type,
        entity_id=unit.entity_id,
        source=unit.source,
        event_time=None if unit.event_time_us is None else instant_of(unit.event_time_us),
        arrived=Arrival(
            instant_of(unit.arrived_us),
            unit.shard_id,
            unit.position.sequence_number,
            unit.position.subsequence_number,
        ),
        state=one.segment.state if one.segment else None,
        repeats_earlier=unit.outcome == "duplicate",
        indexed=one.index is not None,
        counted=None if counted is None else CountedAs(counted.figure, counted.hour, counted.included),
        refused=None
        if unit.refusal is None
        else Refused(*unit.refusal, unit_name(RefusedPlace(*unit.place)), redriven),
    )


ROUTES = (
    Route(
        "GET",
        "/v1/events/{id:path}",
        Scope.READ,
        "Follow one event: arrived, archived or refused, counted.",
        get_event,
        answers={200: EventTrace},
        parameters=_TRACE,
    ),
)
