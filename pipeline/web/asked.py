"""What a request may ask: parameters that are declared once, and checked before anything is read.

Every refusal names the parameter, what is allowed and an example. A parameter that a route does not know is refused, as
it would be passed over in silence otherwise; one that names another tenant is an attempt, and answered as such.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.core.cursor import CursorRefused, Place, read_cursor, write_cursor
from pipeline.core.errors import ConfigProblem
from pipeline.core.excerpt import did_you_mean
from pipeline.core.span import Span, parse_span
from pipeline.facts import TenantCrossed
from pipeline.web.problems import Problem
from pipeline.web.route import Call, Parameter
from pipeline.wiring.front_door import FrontDoor

TENANT_WORDS = frozenset({"tenant", "tenant_id", "tenantid"})
MAX_TEXT = 256  # characters: of an entity, the longest name there is
MAX_CURSOR = 2_048


@dataclass(frozen=True)
class Asked(Parameter):
    """A parameter of the query string.

    Attributes:
        read: returns the value, or raises ValueError.
        allowed: what may be given, for a refusal.
        example: of it.
        default: where it is not given.
    """

    read: Callable[[str], Any] = str
    allowed: str = "text"
    example: str = ""
    default: Any = None


def text(name: str, says: str, example: str, *, required: bool = False, longest: int = MAX_TEXT) -> Asked:
    """Return a parameter that is a text, and not an empty one."""

    def read(given: str) -> str:
        if not 0 < len(given) <= longest or "\0" in given:
            raise ValueError
        return given

    schema = {"type": "string", "minLength": 1, "maxLength": longest}
    return Asked(name, "query", says, schema, required, read, f"1 to {longest} characters", example)


def whole(name: str, says: str, default: int, most: int) -> Asked:
    """Return a parameter that is a whole number from 1 on."""

    def read(given: str) -> int:
        if not (given.isascii() and given.isdecimal() and len(given) < 10 and 1 <= int(given) <= most):
            raise ValueError
        return int(given)

    schema = {"type": "integer", "minimum": 1, "maximum": most, "default": default}
    allowed = f"a whole number from 1 to {most:,}"
    return Asked(name, "query", says, schema, False, read, allowed, str(default), default)


def choice(name: str, says: str, options: Sequence[str]) -> Asked:
    """Return a parameter that is one of several words."""

    def read(given: str) -> str:
        if given not in options:
            raise ValueError
        return given

    schema = {"type": "string", "enum": list(options)}
    return Asked(name, "query", says, schema, False, read, ", ".join(options), options[0])


def seconds(name: str, says: str, default: float, most: float) -> Asked:
    """Return a parameter that is a time to wait; more than `most` means `most`."""

    def read(given: str) -> float:
        if not (given.isascii() and given.replace(".", "", 1).isdigit() and len(given) <= len("86400.000")):
            raise ValueError
        return min(float(given), most)

    schema = {"type": "number", "minimum": 0}
    return Asked(name, "query", says, schema, False, read, "a number of seconds", f"{default:g}", default)


def flag(name: str, says: str) -> Asked:
    """Return a parameter that is true or false, and false where it is not given."""

    def read(given: str) -> bool:
        return {"true": True, "false": False}[given]

    schema = {"type": "boolean", "default": False}
    return Asked(name, "query", says, schema, False, read, "true or false", "true", False)


_TIME = "a day (2013-07-04, UTC) or an RFC 3339 time (2013-07-04T10:30:00Z)"
FROM = text("from", f"Event times from here on: {_TIME}.", "2013-07-04", longest=40)
TO = text("to", f"Until when: {_TIME}; a day is included, a time is not.", "2013-07-05", longest=40)
CURSOR = text("cursor", "Of the page before: its `next`.", "the `next` of a page", longest=MAX_CURSOR)


def path(name: str, says: str) -> Parameter:
    """Return a parameter of the path."""
    return Parameter(name, "path", says, required=True)


def asked(call: Call, wanted: Iterable[Parameter]) -> dict[str, Any]:
    """Return the checked values of the query's parameters, defaults filled in.

    Raises:
        Problem: one is unknown, missing, repeated or not allowed.
    """
    known = {one.name: one for one in wanted if isinstance(one, Asked)}
    given: Mapping[str, Any] = call.request.params
    for name in given:
        if name not in known and name.lower() not in TENANT_WORDS:
            hint = did_you_mean(name, known) or ";"
            names = ", ".join(sorted(known)) or "none"
            raise Problem(
                "invalid",
                f"there is no parameter {printable(name)}{hint} this route takes: {names}",
                parameter=printable(name),
            )
    return {name: _value(one, given.get(name)) for name, one in known.items()}


def _value(one: Asked, given: Any) -> Any:
    if given is None:
        if one.required:
            raise refused(one.name, "is needed", one.allowed, one.example)
        return one.default
    if not isinstance(given, str):
        raise refused(one.name, "is given twice", one.allowed, one.example)
    try:
        return one.read(given)
    except (ValueError, KeyError) as exc:
        raise refused(one.name, f"{printable(given)!r} is not allowed", one.allowed, one.example) from exc


def refused(name: str, why: str, allowed: str, example: str) -> Problem:
    """Return the refusal of a parameter's value."""
    return Problem(
        "invalid",
        f"parameter {name}: {why}; allowed: {allowed}; for example {name}={example}",
        parameter=name,
        allowed=allowed,
        example=example,
    )


def printable(text: str, most: int = 60) -> str:
    """Return the beginning of what somebody sent, fit for one line."""
    return "".join(one if one.isprintable() else "?" for one in text[:most])


def check_query(door: FrontDoor, call: Call) -> None:
    """Refuse a query that names a tenant which is not the caller's; asked once for every request, whatever its route.

    Raises:
        Problem: forbidden.
    """
    for name, value in call.request.params.items():
        if name.lower() in TENANT_WORDS:
            check_tenant(door, call, value)


def check_tenant(door: FrontDoor, call: Call, named: Any) -> None:
    """Refuse what names a tenant that is not the caller's; whether it exists is not looked at.

    Raises:
        Problem: forbidden.
    """
    if named != call.caller.tenant_id:
        tell_crossing(door, call)
        raise Problem("forbidden", "the tenant comes from the credential: leave it out of the request")


def tell_crossing(door: FrontDoor, call: Call) -> None:
    """Say that a caller asked for what is another tenant's."""
    caller = call.caller
    door.facts(
        TenantCrossed(
            tenant=caller.tenant_id,
            credential=caller.credential,
            route=route_of(call),
            request_id=call.request_id,
        )
    )


def route_of(call: Call) -> str:
    """Return the route of a call, as the table writes it: no value that a caller sent."""
    return f"{call.request.method} {call.request.uri_template}"


def span_of(query: Mapping[str, Any]) -> Span:
    """Return the span that `from` and `to` name.

    Raises:
        Problem: one is no time, or nothing lies between them.
    """
    for name in ("from", "to"):
        try:
            parse_span(query["from"] if name == "from" else None, query["to"] if name == "to" else None)
        except ConfigProblem as exc:
            shown = printable(str(query[name]))
            raise refused(name, f"{shown!r} is no time", _TIME, "2013-07-04T10:30:00Z") from exc
    try:
        return parse_span(query["from"], query["to"])
    except ConfigProblem as exc:
        raise refused("from", "must be earlier than to", f"{_TIME}, earlier than to", "2013-07-04") from exc


def after_of(door: FrontDoor, call: Call, query: Mapping[str, Any], key: bytes) -> Place | None:
    """Return where the page begins, by its cursor; None: at the beginning.

    Raises:
        Problem: the cursor is not for this; which of the reasons it is, only a fact says.
    """
    text_given = query["cursor"]
    if text_given is None:
        return None
    now_us = door.clock.now_us()
    try:
        return read_cursor(key, text_given, call.caller.tenant_id, _question(call, query), now_us)
    except CursorRefused as exc:
        if exc.reason == "another tenant":
            tell_crossing(door, call)
        old = " (it is older than a day)" if exc.reason == "expired" else ""
        raise Problem(
            "bad_request",
            f"parameter cursor: it is not one of this question{old}; allowed: the `next` of its page before, every "
            "other parameter as it was but limit; without a cursor the first page is given",
            parameter="cursor",
        ) from exc


def next_of(
    door: FrontDoor, call: Call, query: Mapping[str, Any], key: bytes, after: Place | None
) -> str | None:
    """Return the cursor of the next page; None where there is none."""
    if after is None:
        return None
    return write_cursor(key, call.caller.tenant_id, _question(call, query), after, door.clock.now_us())


def _question(call: Call, query: Mapping[str, Any]) -> dict[str, Any]:
    left_out = {"cursor", "limit"}
    return {"route": route_of(call)} | {name: one for name, one in query.items() if name not in left_out}
