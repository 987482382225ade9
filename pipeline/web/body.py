"""The body of a request: bounded while it arrives, inflated at most once, and never taken for whole when it broke off."""

import asyncio
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterator
from functools import lru_cache

from falcon.asgi import Request

from pipeline.web.entry import SCOPE_KEY, BodyTimeout, Incoming, body_timeout
from pipeline.web.problems import Problem

_GZIP_WINDOW = 31  # zlib: expect the header and trailer of gzip
_RATIO_FLOOR_BYTES = 4_096  # of a body: a short gzip may well be mostly blanks
_INFLATED_AT_ONCE = 262_144  # bytes: a millisecond, then other requests have their turn
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
    declared, seen = request.content_length, 0
    inflate = _encoding(request, limits, declared)
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    if declared is not None and declared > limits.max_bytes:
        raise _too_large(limits)
    try:
        async for chunk in _stream(request):
            seen += len(chunk)
            note_read(request, seen)
            if seen > limits.max_bytes:  # whether or not anything comes out of it
                raise _too_large(limits)
            for part in (chunk,) if inflate is None else _inflated(request, inflate, chunk, seen):
                if incoming is not None:
                    incoming.hold(len(part))
                yield part
                if inflate is not None:
                    await asyncio.sleep(0)
    except BodyTimeout as exc:
        raise body_timeout() from exc
    _check_end(incoming, declared, seen)
    if inflate is not None:
        inflate.end()


def _check_end(incoming: Incoming | None, declared: int | None, seen: int) -> None:
    if (incoming is not None and incoming.cut) or (declared is not None and seen < declared):
        raise Problem("bad_request", "the connection ended before the body did; nothing was taken", _CLOSE)


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


def is_late(request: Request) -> bool:
    """True when the request's deadline has passed."""
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    return incoming is not None and incoming.late


def _stream(request: Request) -> AsyncIterable[bytes]:
    """Return what reads the body; from here on it alone keeps what came with the head."""
    stream: AsyncIterable[bytes] = request.stream
    incoming: Incoming | None = request.scope.get(SCOPE_KEY)
    if incoming is not None:
        incoming.forget_first()
    return stream


def _inflated(request: Request, inflate: "_Inflater", chunk: bytes, seen: int) -> Iterator[bytes]:
    """Yield what a piece of the body becomes; noted as read also when it is refused."""
    try:
        for part in inflate.parts(chunk):
            note_read(request, max(seen, inflate.size))
            yield part
    finally:
        note_read(request, max(seen, inflate.size))


def _encoding(request: Request, limits: BodyLimits, declared: int | None) -> "_Inflater | None":
    encoding = (request.get_header("Content-Encoding") or "identity").strip().lower()
    if encoding == "identity":
        return None
    if encoding not in ("gzip", "x-gzip"):
        raise Problem(
            "unsupported_media_type",
            "Content-Encoding must be gzip, once, or be left out",
            {**_CLOSE, "Accept-Encoding": "gzip"},
        )
    return _Inflater(limits, declared)


class _Inflater:
    """One gzip member, inflated piece by piece.

    How much larger it becomes is measured against all of it: what its head declares, or, where that says nothing, what came by
    its end. However it is cut on the way, it is taken or refused alike.
    """

    def __init__(self, limits: BodyLimits, declared: int | None) -> None:
        self._limits, self._zlib = limits, zlib.decompressobj(_GZIP_WINDOW)
        self._in = self.size = 0
        self._most = limits.max_bytes if declared is None else min(limits.max_bytes, self._dense(declared))

    def parts(self, chunk: bytes) -> Iterator[bytes]:
        """Yield what a piece of the body becomes; `size` is what came out so far."""
        self._in += len(chunk)
        while chunk:
            if self._zlib.eof:
                raise _damaged("something follows the gzip's end")
            try:
                part = self._zlib.decompress(chunk, min(_INFLATED_AT_ONCE, self._most - self.size + 1))
            except zlib.error as exc:
                raise _damaged("the compressed bytes are damaged") from exc
            self.size += len(part)
            if self.size > self._most:
                raise _too_large(self._limits) if self._most == self._limits.max_bytes else self._too_dense()
            if self._zlib.unused_data:
                raise _damaged("something follows the gzip's end")
            chunk = self._zlib.unconsumed_tail
            if part:
                yield part

    def end(self) -> None:
        """Look at the whole once more.

        Raises:
            Problem: it is cut short, or became too large for its size.
        """
        if not self._zlib.eof:
            raise _damaged("it is cut short")
        if self.size > self._dense(self._in):
            raise self._too_dense()

    def _dense(self, size_bytes: int) -> int:
        return self._limits.max_inflation * max(size_bytes, _RATIO_FLOOR_BYTES)

    def _too_dense(self) -> Problem:
        limit = f"more than {self._limits.max_inflation} times its own size (events.max_inflation)"
        return Problem("too_large", f"the body inflates to {limit}", _CLOSE)


def _too_large(limits: BodyLimits) -> Problem:
    detail = f"a body has at most {limits.max_bytes} bytes, inflated (web.max_body_bytes): send it in parts"
    return Problem("too_large", detail, _CLOSE)


def _damaged(why: str) -> Problem:
    return Problem("bad_request", f"the gzip body cannot be inflated: {why}", _CLOSE)
