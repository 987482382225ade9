"""The body of a request: bounded while it arrives, inflated at most once, and never taken for whole when it broke off."""

import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from functools import lru_cache

from falcon.asgi import Request

from pipeline.web.entry import SCOPE_KEY, BodyTimeout, Incoming, body_timeout
from pipeline.web.problems import Problem

_GZIP_WINDOW = 31  # zlib: expect the header and trailer of gzip
_RATIO_FLOOR_BYTES = 4_096  # of a body: a short gzip may well be mostly blanks
_HELD, _READ = "headrace.body", "headrace.read"  # in the request's scope
_CLOSE = {"Connection": "close"}  # what is left of the body is not read


class BodyLimits:
    """What a body may come to.

    Args:
        max_bytes: as it arrives, and inflated.
        max_inflation: times the bytes that arrived.
    """

    __slots__ = ("max_bytes", "max_inflation")

    def __init__(self, max_bytes: int, max_inflation: int) -> None:
        self.max_bytes, self.max_inflation = max_bytes, max_inflation


body_limits = lru_cache(maxsize=8)(BodyLimits)  # a process has one or two


async def chunks(request: Request, limits: BodyLimits) -> AsyncIterator[bytes]:
    """Yield the body, inflated, as it arrives; or at once, if it was `held`.

    Raises:
        Problem: it is too large, its encoding is not taken, it is damaged, it broke off, or it came too late.
    """
    if _HELD in request.scope:
        yield request.scope[_HELD]
        return
    inflate = _encoding(request, limits)
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    declared, seen, size = request.content_length, 0, 0
    if declared is not None and declared > limits.max_bytes:
        raise _too_large(limits)
    try:
        async for chunk in _stream(request):
            seen += len(chunk)
            for part in _parts(request, inflate, chunk, seen):
                size += len(part)
                if max(size, seen) > limits.max_bytes:
                    raise _too_large(limits)
                if incoming is not None:
                    incoming.hold(len(part))
                yield part
    except BodyTimeout as exc:
        raise body_timeout() from exc
    if (incoming is not None and incoming.cut) or (declared is not None and seen < declared):
        raise Problem("bad_request", "the connection ended before the body did; nothing was taken", _CLOSE)
    if inflate is not None:
        inflate.end()


def at_hand(request: Request, limits: BodyLimits) -> bytes | None:
    """Return the whole body, if it came plain and with the head, as small ones do; None: `chunks` has it.

    Raises:
        Problem: as `chunks` says.
    """
    if _HELD in request.scope:
        return request.scope[_HELD]  # type: ignore[no-any-return] # put there by `held`
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    if incoming is None or incoming.first is None or incoming.fields is None:
        return None
    size, fields = len(incoming.first), incoming.fields
    if fields.get(b"content-length") != b"%d" % size or size > limits.max_bytes:
        return None
    if b"content-encoding" in fields:
        return None
    incoming.hold(size)
    request.scope[_HELD] = incoming.first  # counted once, however often it is asked for
    return incoming.first


async def whole(request: Request, limits: BodyLimits) -> bytes:
    """Return the whole body, inflated; errors as of `chunks`."""
    there = at_hand(request, limits)
    if there is not None:
        return there
    parts = [part async for part in chunks(request, limits)]
    return parts[0] if len(parts) == 1 else b"".join(parts)


async def held(request: Request, limits: BodyLimits) -> bytes:
    """Return the whole body, inflated, and keep it for whoever reads it next; errors as of `chunks`."""
    body: bytes = await whole(request, limits)
    request.scope[_HELD] = body
    return body


def note_read(request: Request, size_bytes: int) -> None:
    """Keep how much of a body was read so far, inflated: it is charged, whatever becomes of the request."""
    request.scope[_READ] = size_bytes


def read_bytes(request: Request) -> int:
    """Return how many bytes of a body were read, as they arrived or inflated, whichever are more."""
    scope = request.scope
    incoming: Incoming | None = scope.get(SCOPE_KEY)
    noted: int = scope.get(_READ, 0)
    return noted if incoming is None or noted > incoming.size else incoming.size


def when_late(request: Request, tell: Callable[[], None]) -> None:
    """Have `tell` called once the request's deadline passes; outside of a server there is none."""
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    if incoming is not None:
        incoming.when_late(tell)


def _stream(request: Request) -> AsyncIterable[bytes]:
    """Return what reads the body; from here on it alone keeps what came with the head."""
    stream: AsyncIterable[bytes] = request.stream
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    if incoming is not None:
        incoming.forget_first()
    return stream


def _parts(request: Request, inflate: "_Inflater | None", chunk: bytes, seen: int) -> Sequence[bytes]:
    """Return a piece of the body, inflated; noted as read also when it is refused."""
    if inflate is None:
        note_read(request, seen)
        return (chunk,)
    try:
        return inflate.parts(chunk)
    finally:
        note_read(request, max(seen, inflate.size))


def _encoding(request: Request, limits: BodyLimits) -> "_Inflater | None":
    encoding = (request.get_header("Content-Encoding") or "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(
            "unsupported_media_type",
            "Content-Encoding must be gzip, once, or be left out",
            {**_CLOSE, "Accept-Encoding": "gzip"},
        )
    return _Inflater(limits)


class _Inflater:
    """One gzip member, inflated piece by piece; no piece is larger than what is still allowed."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits, self._zlib = limits, zlib.decompressobj(_GZIP_WINDOW)
        self._in = self._out = 0

    @property
    def size(self) -> int:
        """Return the bytes that came out so far."""
        return self._out

    def parts(self, chunk: bytes) -> list[bytes]:
        self._in += len(chunk)
        ratio_bytes = self._limits.max_inflation * max(self._in, _RATIO_FLOOR_BYTES)
        most = min(self._limits.max_bytes, ratio_bytes)
        if self._zlib.eof and chunk:
            raise _damaged("something follows the gzip's end")
        try:
            part = self._zlib.decompress(chunk, most - self._out + 1)
        except zlib.error as exc:
            raise _damaged("the compressed bytes are damaged") from exc
        self._out += len(part)
        if self._out > most:
            if most == self._limits.max_bytes:
                raise _too_large(self._limits)
            limit = f"more than {self._limits.max_inflation} times its own size (events.max_inflation)"
            raise Problem("too_large", f"the body inflates to {limit}", _CLOSE)
        if self._zlib.unused_data:
            raise _damaged("something follows the gzip's end")
        return [part]

    def end(self) -> None:
        if not self._zlib.eof:
            raise _damaged("it is cut short")


def _too_large(limits: BodyLimits) -> Problem:
    detail = f"a body has at most {limits.max_bytes} bytes, inflated (web.max_body_bytes): send it in parts"
    return Problem("too_large", detail, _CLOSE)


def _damaged(why: str) -> Problem:
    return Problem("bad_request", f"the gzip body cannot be inflated: {why}", _CLOSE)
