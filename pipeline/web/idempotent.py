"""`Idempotency-Key` for any handler that changes something: `once` is called with the whole body, and does the work or not.

Without the header the work is simply done. Source: draft-ietf-httpapi-idempotency-key-header.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus

import msgspec
from falcon.asgi import Request

from pipeline.core.errors import StoreUnusable
from pipeline.core.idempotency import MAX_KEY_CHARS, StoredAnswer, fingerprint, parse_idempotency_key
from pipeline.facts import AnswerUnstored
from pipeline.flows.idempotency import Beginning, Idempotency, Reused, Started
from pipeline.web.entry import values_of
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Parameter
from pipeline.web.threads import in_table, unavailable
from pipeline.wiring.front_door import FrontDoor

HEADER = "Idempotency-Key"
_FIELD = HEADER.lower().encode()
REPLAYED = {"Idempotent-Replayed": "true"}  # says that nothing was done this time
KEY_PARAMETER = Parameter(  # for a route's table of parameters
    HEADER,
    "header",
    "Names this request: sent again within 24 hours with the same key and body, it is done once and answered the same.",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY_CHARS},
)


@dataclass(frozen=True)
class Unfinished:
    """An answer of which a part may be sent again: given, and not kept, so that the same request goes on where it can."""

    answer: Answer


Work = Callable[[Started | None], Awaitable[Answer | Unfinished]]


async def once(door: FrontDoor, call: Call, body: bytes, work: Work) -> Answer:
    """Return what `work` answers, or what it answered to the same request before.

    Args:
        door: where the table is.
        call: whose `Idempotency-Key` counts.
        body: of the request, as it arrived.
        work: does it. Given a `Started`, it takes ids and times of what came without from there. When it raises a Problem
            below 500, nothing was done.

    Raises:
        Problem: `in_flight`, `key_reused`, `bad_request`, `unavailable`; and what `work` raises.
    """
    key = key_of(call.request)
    if key is None:
        return _plain(await work(None))
    if door.idempotency is None:
        raise unavailable("this process was made without a table of requests")
    begun = await in_table(door, _begin, door.idempotency, call, key, body)
    if isinstance(begun, Started):
        return await _work(door, door.idempotency, begun, work)
    if isinstance(begun, StoredAnswer):
        return Answer(begun.body, begun.status, {**begun.headers, **REPLAYED}, begun.media_type)
    if isinstance(begun, Reused):
        raise Problem("key_reused", f"another request had this {HEADER}: take a new key for another body")
    wait = {"Retry-After": str(begun.retry_after_seconds)}
    raise Problem("in_flight", f"the request with this {HEADER} is not answered yet; try again later", wait)


def has_key(request: Request) -> bool:
    """True when a request has a key, or what stands for one."""
    return bool(values_of(request.scope, _FIELD))


def key_of(request: Request) -> str | None:
    """Return the key of a request, if it has one.

    Raises:
        Problem: it is none.
    """
    found = request.get_header(HEADER)
    if found is None:
        return None
    # Two of them come joined by a comma, which no key has outside of quotes.
    key = parse_idempotency_key(found.strip())
    if key is None:
        limit = f"one string of 1 to {MAX_KEY_CHARS} visible ASCII characters, as a UUID"
        raise Problem("bad_request", f"`{HEADER}` must be {limit}", header=HEADER)
    return key


def _begin(idempotency: Idempotency, call: Call, key: str, body: bytes) -> Beginning:
    request = call.request
    about = "\n".join(
        f"{name}: {value}"
        for name, value in sorted(request.headers_lower.items())
        if name in {"content-type", "content-encoding"}
        or name.startswith("ce-")  # of a CloudEvent in binary mode
    )
    digest = fingerprint(request.method, request.relative_uri, about, body)
    return idempotency.begin(call.caller.tenant_id, key, digest)


async def _work(door: FrontDoor, idempotency: Idempotency, started: Started, work: Work) -> Answer:
    try:
        done = await work(started)
    except (Problem, StoreUnusable) as exc:
        nothing_done = isinstance(exc, Problem) and exc.status < HTTPStatus.INTERNAL_SERVER_ERROR
        await _kept(door, started, lambda: idempotency.abandon(started, nothing_done=nothing_done))
        raise
    answer = _plain(done)
    if isinstance(done, Unfinished) or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        await _kept(door, started, lambda: idempotency.abandon(started, nothing_done=False))
        return answer
    body = _bytes(answer)
    stored = StoredAnswer(answer.status, answer.headers, answer.media_type, body)
    if await _kept(door, started, lambda: idempotency.complete(started, stored)) is False:
        door.facts(
            AnswerUnstored(tenant=started.entry.tenant, error="too large, or another attempt has the key")
        )
    return Answer(body, answer.status, answer.headers, answer.media_type)


async def _kept(door: FrontDoor, started: Started, change: Callable[[], bool | None]) -> bool | None:
    """Change what is stored; where that fails the request is answered nevertheless, for it is done."""
    try:
        return await in_table(door, change)
    except Problem as exc:
        error = exc.code
    except StoreUnusable as exc:
        error = str(exc)
    door.facts(AnswerUnstored(tenant=started.entry.tenant, error=error))
    return None


def _plain(done: Answer | Unfinished) -> Answer:
    return done.answer if isinstance(done, Unfinished) else done


def _bytes(answer: Answer) -> bytes:
    if answer.body is None or isinstance(answer.body, bytes):
        return answer.body or b""
    return msgspec.json.encode(answer.body)
