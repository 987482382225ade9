"""What a client sends, taken apart: the Content-Type alone says whether a body is one event, many, lines, or a CloudEvent."""

from collections.abc import AsyncIterator, Callable, Iterator
from urllib.parse import unquote

from falcon.asgi import Request

from pipeline.core.accept import binary_event
from pipeline.core.apart import batch_units
from pipeline.core.errors import InvalidEvent
from pipeline.web.body import BodyLimits, at_hand, chunks, whole
from pipeline.web.entry import SCOPE_KEY, Incoming
from pipeline.web.problems import Problem

Units = AsyncIterator[list[bytes]]
_SPACE = b" \t\r\n"
# Units handed over together: about 2 ms of judging where nothing is unusual, then other requests have their turn.
_AT_ONCE, _BYTES_AT_ONCE = 250, 262_144
_PREFIX = "ce-"

JSON, LINES = "application/json", "application/x-ndjson"
_JSON = JSON.encode()
CLOUD, CLOUD_BATCH = "application/cloudevents+json", "application/cloudevents-batch+json"
_LINES_TOO = ("application/ndjson", "application/jsonl")
MEDIA_TYPES = (JSON, LINES, CLOUD, CLOUD_BATCH)


def units(request: Request, limits: BodyLimits, most: int) -> Units:
    """Yield the events of a body, a few at a time, while it arrives; each as its own bytes.

    Args:
        request: whose body.
        limits: of the body.
        most: events of one request.

    Raises:
        Problem: the media type is not taken, the body is not what it says, or holds too many events.
    """
    return _reader(request)(request, limits, most)


def one_at_hand(request: Request, limits: BodyLimits) -> bytes | None:
    """Return a body's one event, if all of it is here and nothing about it is unusual; None: `units` has it.

    Raises:
        Problem: as `units` says.
    """
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    fields = None if incoming is None else incoming.fields
    if fields is None or fields.get(b"content-type") != _JSON or b"ce-specversion" in fields:
        return None
    if (body := at_hand(request, limits)) is None:
        return None
    return body if body[:1] == b"{" else None


def pieces(units: list[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    """Yield units, in order, some at a time: no more than so many bytes of them, but one at least."""
    for first in range(0, len(units), _AT_ONCE):
        some = units[first : first + _AT_ONCE]
        if sum(map(len, some)) <= max_bytes:
            yield some
        else:
            yield from _by_bytes(some, max_bytes)


def _by_bytes(units: list[bytes], max_bytes: int) -> Iterator[list[bytes]]:
    some: list[bytes] = []
    size = 0
    for unit in units:
        size += len(unit)
        if some and size > max_bytes:
            yield some
            some, size = [], len(unit)
        some.append(unit)
    yield some


Reader = Callable[[Request, BodyLimits, int], Units]


def _reader(request: Request) -> Reader:
    kind, _, parameters = (request.content_type or "").partition(";")
    kind = kind.strip().lower()
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if "charset=" in charset and "charset=utf-8" not in charset:
        raise Problem("unsupported_media_type", "events are UTF-8: leave the charset out")
    found = _READERS.get(kind)
    if request.get_header("ce-specversion") is not None and kind not in (CLOUD, CLOUD_BATCH):
        if kind == JSON or (kind.endswith("+json") and "/" in kind):
            return _binary
        raise Problem("unsupported_media_type", "the data of a CloudEvent must be JSON (application/json)")
    if found is None:
        given = f"Content-Type {kind!r}" if kind else "a body without Content-Type"
        raise Problem(
            "unsupported_media_type",
            f"{given} is not taken: {', '.join(MEDIA_TYPES)}",
            {"Accept": ", ".join(MEDIA_TYPES)},
        )
    return found


async def _one_or_many(request: Request, limits: BodyLimits, most: int) -> Units:
    text = await whole(request, limits)
    if not text.strip(_SPACE):
        raise Problem("bad_request", "the body is empty: send one event, or an array of them")
    if text.lstrip(_SPACE)[:1] != b"[":
        yield [text]
        return
    async for some in _array(text, most):
        yield some


async def _one(request: Request, limits: BodyLimits, _most: int) -> Units:
    text = await whole(request, limits)
    if text.lstrip(_SPACE)[:1] != b"{":
        raise Problem("bad_request", f"{CLOUD} holds one CloudEvent; an array of them is {CLOUD_BATCH}")
    yield [text]


async def _many(request: Request, limits: BodyLimits, most: int) -> Units:
    async for some in _array(await whole(request, limits), most):
        yield some


async def _array(text: bytes, most: int) -> Units:
    found = batch_units(text, most + 1)
    if not found:
        raise Problem("bad_request", "the body is an empty array, or no JSON array: nothing was taken")
    if len(found) > most:
        raise _too_many(most)
    for some in pieces(found, _BYTES_AT_ONCE):
        yield some


async def _lines(request: Request, limits: BodyLimits, most: int) -> Units:
    held: list[bytes] = []  # the beginning of a line whose end has not come
    count = 0
    async for chunk in chunks(request, limits):
        if b"\n" not in chunk:
            held.append(chunk)
            continue
        *lines, rest = b"".join((*held, chunk)).split(b"\n")
        held = [rest]
        for piece in pieces(lines, _BYTES_AT_ONCE):
            some = [line for line in piece if line[:1] == b"{" or line.strip(_SPACE)]
            count += len(some)
            if count > most:
                raise _too_many(most)
            if some:
                yield some
    rest = b"".join(held)
    if rest.strip(_SPACE):
        count += 1
        if count > most:
            raise _too_many(most)
        yield [rest]
    if not count:
        raise Problem("bad_request", "the body is empty: send one event a line")


async def _binary(request: Request, limits: BodyLimits, _most: int) -> Units:
    attributes = {
        name[len(_PREFIX) :]: unquote(value, errors="replace")
        for name, value in request.headers_lower.items()
        if name.startswith(_PREFIX)
    }
    attributes["datacontenttype"] = request.content_type or ""
    try:
        yield [binary_event(attributes, await whole(request, limits))]
    except InvalidEvent as exc:
        raise Problem("bad_request", f"the data is no JSON value: {exc.message}") from exc


def _too_many(most: int) -> Problem:
    return Problem(
        "too_large",
        f"more than {most} events in one request, which is the plan's max_batch_events: send them in parts",
        {"Connection": "close"},
    )


_READERS: dict[str, Reader] = {
    JSON: _one_or_many,
    LINES: _lines,
    CLOUD: _one,
    CLOUD_BATCH: _many,
    **dict.fromkeys(_LINES_TOO, _lines),
}
