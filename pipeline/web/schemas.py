"""The catalogue that producers code against, and publishing to it. All tenants see every schema; who published a type first owns it."""

import re
from typing import Any

import msgspec

from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem
from pipeline.core.names import table_name
from pipeline.core.schema import EventSchema
from pipeline.core.schema_document import MAX_DOCUMENT_BYTES
from pipeline.core.tenant import Act, Publication
from pipeline.flows.publish import NotOwned, Published, TooLarge, TooMany, publish
from pipeline.web.asked import asked, path
from pipeline.web.document import document
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, AnyOf, Call, Route
from pipeline.web.threads import in_change, unavailable
from pipeline.wiring.front_door import FrontDoor
from pipeline.wiring.publishing import publish_limits

SCHEMA_JSON = "application/schema+json"
_TYPES = ("application/json", SCHEMA_JSON)
_VERSION = re.compile(r"[1-9][0-9]{0,5}")
_FOR_EVER = {"Cache-Control": "private, max-age=86400, immutable"}  # a version never changes
_MISSING = "no such schema version: GET /v1/schemas lists all"
_ANYBODY = AnyOf(frozenset({Scope.READ, Scope.INGEST, Scope.ADMIN}))


class EventType(msgspec.Struct, frozen=True):
    """One event type: its versions, and the table and columns that SQL has of it."""

    event_type: str
    versions: list[int]
    table: str
    columns: list[str]


class Catalogue(msgspec.Struct, frozen=True):
    """All event types, by name."""

    event_types: list[EventType]


class PublishedVersion(msgspec.Struct, frozen=True):
    """A version that is published; `new` is false when it was so already, with the very same document."""

    event_type: str
    version: int
    new: bool


_PLACE = (path("type", "The event type."), path("version", "The version: 1, 2, ..."))


async def get_schemas(door: FrontDoor, call: Call) -> Answer:
    """List the event types."""
    asked(call, ())
    types = door.rules().schemas
    found = [
        EventType(name, sorted(one.versions), table_name(name), [column.name for column in one.columns])
        for name, one in sorted(types.items())
    ]
    return Answer(Catalogue(found))


async def get_schema(door: FrontDoor, call: Call) -> Answer:
    """Show one version."""
    asked(call, ())
    found = _known(door, call)
    if found is None:
        raise Problem("not_found", _MISSING)
    body = msgspec.json.encode(found.document)
    return Answer(body, headers=dict(_FOR_EVER), media_type=SCHEMA_JSON)


def _known(door: FrontDoor, call: Call) -> EventSchema | None:
    """Return a version out of the newest rules that are known."""
    group = door.rules().schemas.get(call.path["type"])
    number = _VERSION.fullmatch(call.path["version"])
    return None if group is None or number is None else group.versions.get(int(number[0]))


async def put_schema(door: FrontDoor, call: Call) -> Answer:
    """Publish one version."""
    asked(call, ())
    control = door.control
    if control is None:
        raise unavailable("this process publishes nothing")
    if _VERSION.fullmatch(call.path["version"]) is None:
        raise Problem(
            "invalid", "version: allowed: a whole number from 1 on; for example /v1/schemas/door.opened/2"
        )
    kind, number = call.path["type"], int(call.path["version"])
    given = await document(call, MAX_DOCUMENT_BYTES, _TYPES)
    rules, who, now_us = door.rules(), call.caller.credential, door.clock.now_us()
    owner, limits = call.caller.tenant_id, publish_limits(door.settings)
    act = Act(now_us, who, "schema.publish", f"schema:{kind}/{number}", {"tenant": owner})

    def work() -> bool:
        made = publish(control, rules, Publication(kind, number, given, who, now_us, owner), act, limits)
        door.rules.newest(door.clock.now_us() + 1)  # this process knows it at once
        return made is not None

    try:
        new = await in_change(door, work)
    except NotOwned as exc:
        raise Problem("forbidden", str(exc)) from exc
    except TooLarge as exc:
        raise Problem("too_large", str(exc)) from exc
    except (Published, TooMany) as exc:
        raise Problem("conflict", str(exc)) from exc
    except ConfigProblem as exc:
        raise Problem("invalid", f"the schema is refused: {exc}") from exc
    return Answer(PublishedVersion(kind, number, new), 201 if new else 200)


_DOCUMENT: dict[str, Any] = {"type": "object", "description": "A JSON Schema (Draft 2020-12) of `data`."}

ROUTES = (
    Route(
        "GET",
        "/v1/schemas",
        _ANYBODY,
        "List the event types with their versions.",
        get_schemas,
        answers={200: Catalogue},
    ),
    Route(
        "GET",
        "/v1/schemas/{type}/{version}",
        _ANYBODY,
        "Show the JSON Schema of one version of an event type.",
        get_schema,
        answers={200: _DOCUMENT},
        gives="application/schema+json",
        parameters=_PLACE,
    ),
    Route(
        "PUT",
        "/v1/schemas/{type}/{version}",
        Scope.ADMIN,
        "Publish a version of an event type; a published one never changes.\n\n"
        "Who publishes a type first owns it: another tenant's credential gets 403, as for the deployment's own types.",
        put_schema,
        answers={200: PublishedVersion, 201: PublishedVersion},
        refuses=("conflict",),
        body=dict.fromkeys(_TYPES, _DOCUMENT),
        parameters=_PLACE,
    ),
)
