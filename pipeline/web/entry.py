"""In front of the framework: a request's deadline, a body that breaks off, and how many requests are being answered.

The framework takes the end of a connection for the end of the body, and waits for a body's first bytes for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from pipeline.flows.request_ids import new_request_id
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
        late: the deadline passed before the answer.
        first: what arrived of the body together with its head.
    """

    __slots__ = ("_held_bytes", "_reader", "_receive", "_room", "_told", "cut", "deadline", "first", "late")

    def __init__(self, receive: Receive, deadline: float, room: Room) -> None:
        self._receive, self.deadline, self.cut, self.late = receive, deadline, False, False
        self._room, self._held_bytes = room, 0
        self.first: bytes | None = None
        self._reader: asyncio.Task[Any] | None = None
        self._told: Callable[[], None] | None = None

    def hold(self, size: int) -> None:
        """Count bytes of the body; one request alone always finds room.

        Of several that grow into the last room at once, whichever comes upon its end is refused: the others go on.

        Raises:
            Problem: `busy`: the bodies of all requests fill the memory set aside.
        """
        room = self._room
        self._held_bytes += size
        room.used_bytes += size
        if room.used_bytes > room.max_bytes and room.used_bytes > self._held_bytes:
            self.let_go()
            detail = "the bodies that are being read fill the memory set aside (web.max_buffer_bytes): nothing was taken"
            raise Problem("busy", detail, {"Retry-After": "1", "Connection": "close"})

    def let_go(self) -> None:
        """Forget the body: the request is answered, or refused."""
        self._room.used_bytes -= self._held_bytes
        self._held_bytes = 0

    def when_late(self, tell: Callable[[], None]) -> None:
        """Have `tell` called once the deadline passes; whoever reads the body need not ask for it."""
        self._told = tell
        if self.late:
            tell()

    def expire(self) -> None:
        """End the wait for the body, and tell whoever waits for something else: the deadline passed."""
        self.late = True
        if self._reader is not None:
            self._reader.cancel()
        if self._told is not None:
            self._told()

    def _check(self) -> None:
        if self.late:
            raise BodyTimeout

    async def __call__(self) -> Event:
        """Return the next message (ASGI's `receive`).

        Raises:
            BodyTimeout: the deadline passed.
        """
        self._check()
        reader = self._reader = asyncio.current_task()
        try:
            event = await self._receive()
        except asyncio.CancelledError as exc:
            if not self.late or reader is None:
                raise
            reader.uncancel()  # it was `expire` that cancelled: the request goes on, to be refused
            raise BodyTimeout from exc
        finally:
            self._reader = None
        if event["type"] == "http.disconnect":
            self.cut = True
        elif self.first is None:
            self.first = event.get("body", b"")
        return event


class Deadlines:
    """The deadlines of all requests, by one timer: a timer for each would cost a twentieth of a small request.

    All requests have the same time, so the oldest is the next whose deadline passes.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds, self._loop = seconds, asyncio.get_running_loop()
        self._open: dict[Incoming, None] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    def next(self) -> float:
        """Return the deadline of a request that begins now."""
        return self._loop.time() + self._seconds

    def watch(self, incoming: Incoming) -> None:
        """Tell a request when its deadline passes."""
        self._open[incoming] = None
        if self._timer is None:
            self._timer = self._loop.call_at(incoming.deadline, self._ring)

    def answered(self, incoming: Incoming) -> None:
        """Watch a request no more."""
        self._open.pop(incoming, None)

    def _ring(self) -> None:
        self._timer, now = None, self._loop.time()
        while (oldest := next(iter(self._open), None)) is not None:
            if oldest.deadline > now:
                self._timer = self._loop.call_at(oldest.deadline, self._ring)
                return
            del self._open[oldest]
            oldest.expire()


class Entry:
    """The application as the server calls it."""

    def __init__(self, application: Asgi, deadline_seconds: float, max_bytes: int) -> None:
        self._room, self._deadlines = Room(max_bytes), Deadlines(deadline_seconds)
        self._application = application
        self.requests = 0  # being answered now

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        deadlines = self._deadlines
        incoming = scope[SCOPE_KEY] = Incoming(receive, deadlines.next(), self._room)
        deadlines.watch(incoming)
        self.requests += 1
        try:
            await self._application(scope, incoming, send)
        except BodyTimeout:
            await _answer(send, body_timeout())
        finally:
            self.requests -= 1
            deadlines.answered(incoming)
            incoming.let_go()


def body_timeout() -> Problem:
    """Return what a client is told whose body did not arrive."""
    detail = "the body did not arrive before the request's deadline (web.deadline_seconds); nothing was taken"
    return Problem("request_timeout", detail, {"Connection": "close"})


async def _answer(send: Send, problem: Problem) -> None:
    request_id = new_request_id()
    body = problem.document(request_id)
    headers = {**problem.headers, "content-type": MEDIA_TYPE, "x-request-id": request_id}
    headers["content-length"] = str(len(body))
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": problem.status, "headers": encoded})
    await send({"type": "http.response.body", "body": body})
