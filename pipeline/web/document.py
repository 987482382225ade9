"""A request's body that is one small JSON document: bounded, of the right type, and naming no tenant."""

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from pipeline.web.asked import TENANT_WORDS, check_tenant
from pipeline.web.problems import Problem
from pipeline.web.route import Call
from pipeline.wiring.front_door import FrontDoor

T = TypeVar("T")
JSON = ("application/json",)


async def document(call: Call, max_bytes: int, types: Sequence[str] = JSON) -> dict[str, Any]:
    """Return the body, a JSON object; errors as of `received` and `parsed`."""
    return parsed(await received(call, max_bytes, types))


async def received(call: Call, max_bytes: int, types: Sequence[str] = JSON) -> bytes:
    """Return the body as it arrived.

    Raises:
        Problem: it is too large, or of another type.
    """
    given = (call.request.content_type or "").partition(";")[0].strip().lower()
    if given not in types:
        raise Problem("unsupported_media_type", f"send a body of type {' or '.join(types)}")
    body = await call.request.stream.read(max_bytes + 1)
    if len(body) > max_bytes:
        raise Problem("too_large", f"the body is larger than {max_bytes:,} bytes")
    return bytes(body)


def parsed(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises:
        Problem: it is none.
    """
    try:
        found = msgspec.json.decode(body)
    except (msgspec.DecodeError, RecursionError) as exc:
        raise Problem("bad_request", f"the body is no JSON: {_plain(exc)}") from exc
    if not isinstance(found, dict):
        raise Problem("bad_request", "the body is no JSON object")
    return found


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
        raise Problem("invalid", f"the body: {_plain(exc)}") from exc


def _plain(exc: Exception) -> str:
    return "".join(one if one.isprintable() else "?" for one in str(exc))[:200]
