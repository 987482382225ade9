"""In front of the framework: a request's deadline, a body that breaks off, and how many requests are being answered.

The framework takes the end of a connection for the end of the body, and waits for a body's first bytes for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pipeline.flows.watch import NO_ROUTE, RequestWatch, Seen
from pipeline.web.problems import MEDIA_TYPE, Problem

Event = dict[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Asgi = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
SCOPE_KEY = "headrace.incoming"


class BodyTimeout(Exception):
    """The body did not arrive before the request's deadline."""


@dataclass
class Room:
    """Bytes of bodies that all requests of the process hold, inflated, until they are answered."""

    max_bytes: int
    used_bytes: int = 0


class Incoming:
    """What arrives of one request.

    Attributes:
        deadline: on the event loop's clock: the latest moment for the answer.
        cut: the connection ended before the body did.
        size: bytes of the body so far, as they arrived.
    """

    __slots__ = ("_held_bytes", "_receive", "_room", "cut", "deadline", "size")

    def __init__(self, receive: Receive, deadline: float, room: Room) -> None:
        self._receive, self.deadline, self.cut = receive, deadline, False
        self._room, self._held_bytes, self.size = room, 0, 0

    def hold(self, size: int) -> None:
        """Count bytes of the body; one request alone always finds room.

        Raises:
            Problem: `busy`: the bodies of all requests fill the memory set aside.
        """
        room = self._room
        self._held_bytes += size
        room.used_bytes += size
        if room.used_bytes > room.max_bytes and room.used_bytes > self._held_bytes:
            detail = "the bodies that are being read fill the memory set aside (web.max_buffer_bytes): nothing was taken"
            raise Problem("busy", detail, {"Retry-After": "1", "Connection": "close"})

    def let_go(self) -> None:
        """Forget the body: the request is answered."""
        self._room.used_bytes -= self._held_bytes

    async def __call__(self) -> Event:
        """Return the next message (ASGI's `receive`).

        Raises:
            BodyTimeout: the deadline passed.
        """
        try:
            async with asyncio.timeout_at(self.deadline):
                event = await self._receive()
        except TimeoutError as exc:
            raise BodyTimeout from exc
        if event["type"] == "http.disconnect":
            self.cut = True
        else:
            self.size += len(event.get("body") or b"")
        return event


class Entry:
    """The application as the server calls it."""

    def __init__(
        self, application: Asgi, deadline_seconds: float, max_bytes: int, watch: RequestWatch
    ) -> None:
        self._watch, self._watched = watch, watch.route(NO_ROUTE)
        self._room = Room(max_bytes)
        self._application, self._deadline_seconds = application, deadline_seconds
        self._clock = asyncio.get_running_loop().time
        self.requests = 0  # being answered now

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        incoming = scope[SCOPE_KEY] = Incoming(receive, self._clock() + self._deadline_seconds, self._room)
        self.requests += 1
        try:
            await self._application(scope, incoming, send)
        except BodyTimeout:
            problem, seen = body_timeout(), begin(self._watch, scope)
            await _answer(send, problem, seen)
            self._watch.end(seen, self._watched, problem.status, problem.code, incoming.size)
        finally:
            self.requests -= 1
            incoming.let_go()


def begin(watch: RequestWatch, scope: dict[str, Any]) -> Seen:
    """Return a new request, with the trace that its headers name."""
    return watch.begin(
        [value.decode("latin-1") for name, value in scope["headers"] if name == b"traceparent"]
    )


def size_of(scope: dict[str, Any]) -> int:
    """Return how many bytes of a request's body have arrived."""
    incoming: Incoming | None = scope.get(SCOPE_KEY)
    return incoming.size if incoming is not None else 0


def body_timeout() -> Problem:
    """Return what a client is told whose body did not arrive."""
    detail = "the body did not arrive before the request's deadline (web.deadline_seconds); nothing was taken"
    return Problem("request_timeout", detail, {"Connection": "close"})


async def _answer(send: Send, problem: Problem, seen: Seen) -> None:
    body = problem.document(seen.request_id)
    named = {"x-request-id": seen.request_id, "x-trace-id": seen.trace_id}
    headers = {**problem.headers, **named, "content-type": MEDIA_TYPE}
    headers["content-length"] = str(len(body))
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
