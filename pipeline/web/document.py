"""A request's body that is one small JSON document: bounded, of the right type, and naming no tenant."""

import re
from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec
import msgspec.inspect
from falcon.asgi import Request

from pipeline.web.asked import TENANT_WORDS, check_tenant, printable
from pipeline.web.body import note_read
from pipeline.web.problems import Problem
from pipeline.web.route import Call
from pipeline.wiring.front_door import FrontDoor

T = TypeVar("T")
JSON = ("application/json",)
_ANYTHING = msgspec.json.Decoder[Any](Any)
# msgspec's sentences about a body's own members; what is deeper is told without what is allowed.
_UNKNOWN_MEMBER = re.compile(r"Object contains unknown field `.*`", re.DOTALL)
_OTHER_VALUE = re.compile(r"Invalid enum value .* - at `\$\.(\w+)`", re.DOTALL)
_SHOWN = 200  # characters of a decoder's sentence, which may quote what was sent


async def document(call: Call, max_bytes: int, types: Sequence[str] = JSON) -> dict[str, Any]:
    """Return the body, a JSON object; errors as of `received` and `parsed`."""
    return parsed(await received(call, max_bytes, types))


async def received(call: Call, max_bytes: int, types: Sequence[str] = JSON) -> bytes:
    """Return the body as it arrived.

    Raises:
        Problem: it is of another type, or as `bounded` says.
    """
    given = (call.request.content_type or "").partition(";")[0].strip().lower()
    if given not in types:
        raise Problem("unsupported_media_type", f"send a body of type {' or '.join(types)}")
    return await bounded(call.request, max_bytes)


async def bounded(request: Request, max_bytes: int) -> bytes:
    """Return the body as it arrived, whatever its type.

    Raises:
        Problem: it is too large.
    """
    body = await request.stream.read(max_bytes + 1)
    note_read(request, len(body))
    if len(body) > max_bytes:
        raise Problem("too_large", f"the body is larger than {max_bytes:,} bytes")
    return bytes(body)


def parsed(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        Problem: it is none.
    """
    found = decoded(_ANYTHING, body)
    if not isinstance(found, dict):
        raise Problem("bad_request", "the body is no JSON object")
    return found


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """Return what a body says, by the decoder of its form.

    Raises:
        Problem: it is no JSON, or not of this form.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        raise _not_valid(exc, decoder.type) from exc
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise Problem("bad_request", f"the body is no JSON: {printable(str(exc), _SHOWN)}") from exc


def converted(door: FrontDoor, call: Call, given: dict[str, Any], kind: type[T]) -> T:
    """Return the body as the struct that a route takes.

    Raises:
        Problem: it names a tenant that is not the caller's, has an unknown member, or one that is not allowed.
    """
    for name in [name for name in given if name.lower() in TENANT_WORDS]:
        check_tenant(door, call, given.pop(name))
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as exc:
        raise _not_valid(exc, kind) from exc


def _not_valid(exc: msgspec.ValidationError, kind: Any) -> Problem:
    said = f"the body: {printable(str(exc), _SHOWN)}"
    allowed = ", ".join(_allowed(str(exc), kind))
    return (
        Problem("invalid", f"{said}; allowed: {allowed}", allowed=allowed)
        if allowed
        else Problem("invalid", said)
    )


def _allowed(said: str, kind: Any) -> list[str]:
    """Return what may stand where a decoder met an unknown member, or a value that is none of a few."""
    form = msgspec.inspect.type_info(kind)
    if not isinstance(form, msgspec.inspect.StructType):
        return []
    if _UNKNOWN_MEMBER.fullmatch(said):
        return [one.encode_name for one in form.fields]
    found = _OTHER_VALUE.fullmatch(said)
    named = [one.type for one in form.fields if found and one.encode_name == found[1]]
    return [
        str(value) for one in named if isinstance(one, msgspec.inspect.LiteralType) for value in one.values
    ]
