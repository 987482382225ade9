"""In front of the framework: a request's deadline, a body that breaks off, and how many requests are being answered.

The framework takes the end of a connection for the end of the body, and waits for a body's first bytes for ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.flows.watch import NO_ROUTE, RequestWatch, Seen
from pipeline.web.problems import MEDIA_TYPE, Problem

Event = dict[str, Any]
Headers = Sequence[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]
Asgi = Callable[[dict[str, Any], Receive, Send], Awaitable[None]]
SCOPE_KEY = "headrace.incoming"


class BodyTimeout(Exception):
    """The body did not arrive before the request's deadline."""


@dataclass
class Room:
    """Bytes of bodies that all requests of the process hold, inflated, until they are answered.

    A tenant may hold as much as is free besides: one alone half of it, two that grow together a third each. So whatever
    some hold, there is room for another tenant's. (Known from switches as dynamic thresholds: Choudhury and Hahne, 1998.)
    """

    max_bytes: int
    used_bytes: int = 0
    by_tenant: dict[str, int] = field(default_factory=dict)

    def hold(self, tenant_id: str, size: int) -> bool:
        """Count bytes of a tenant's; False when it has more than its share now."""
        held = self.by_tenant.get(tenant_id, 0) + size
        self.by_tenant[tenant_id] = held
        self.used_bytes += size
        return held + self.used_bytes <= self.max_bytes

    def let_go(self, tenant_id: str, size: int) -> None:
        """Count them no more."""
        self.used_bytes -= size
        left = self.by_tenant[tenant_id] - size
        if left:
            self.by_tenant[tenant_id] = left
        else:
            del self.by_tenant[tenant_id]


class Incoming:
    """What arrives of one request.

    Attributes:
        deadline: on the event loop's clock: the latest moment for the answer.
        fields: the head by lower-case name, where no name comes twice, as nearly always; else None (see `values_of`).
        cut: the connection ended before the body did.
        late: the deadline passed before the answer.
        first: what arrived of the body together with its head.
        size: bytes of the body so far, as they arrived.
        tenant_id: whose request it is; "" until that is known.
    """

    __slots__ = (
        "_first_message",
        "_held_bytes",
        "_reader",
        "_receive",
        "_room",
        "_told",
        "cut",
        "deadline",
        "fields",
        "first",
        "late",
        "size",
        "tenant_id",
    )

    def __init__(self, receive: Receive, deadline: float, room: Room, headers: Headers = ()) -> None:
        self._receive, self.deadline, self.cut, self.late = receive, deadline, False, False
        fields = dict(headers)
        self.fields = fields if len(fields) == len(headers) else None
        self._room, self._held_bytes, self.size, self.tenant_id = room, 0, 0, ""
        self.first: bytes | None = None
        self._first_message: Event = {}
        self._reader: asyncio.Task[Any] | None = None
        self._told: Callable[[], None] | None = None

    def hold(self, size: int) -> None:
        """Count bytes of the body, for the tenant that is known by then; one request alone always finds room.

        Of a tenant's several that grow at once, whichever comes upon the end of its share is refused: the others go on.

        Raises:
            Problem: `busy`: the tenant's bodies fill its share of the memory set aside.
        """
        if not size:
            return
        room = self._room
        self._held_bytes += size
        if not room.hold(self.tenant_id, size) and room.used_bytes > self._held_bytes:
            self.let_go()
            detail = (
                "the tenant's bodies that are being read fill its share of the memory set aside (web.max_buffer_bytes): "
                "nothing was taken"
            )
            raise Problem("busy", detail, {"Retry-After": "1", "Connection": "close"})

    def let_go(self) -> None:
        """Forget the body: the request is answered, or refused."""
        if self._held_bytes:
            self._room.let_go(self.tenant_id, self._held_bytes)
            self._held_bytes = 0

    def forget_first(self) -> None:
        """Let go of what came with the head; frames of the framework keep its message until the answer."""
        self.first = self._first_message["body"] = b""

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

    async def __call__(self) -> Event:
        """Return the next message (ASGI's `receive`).

        Raises:
            BodyTimeout: the deadline passed.
        """
        if self.late:
            raise BodyTimeout
        reader = self._reader = asyncio.current_task()
        try:
            event = await self._receive()
        except asyncio.CancelledError as exc:
            if not self._is_late() or reader is None:
                raise
            reader.uncancel()  # it was `expire` that cancelled: the request goes on, to be refused
            raise BodyTimeout from exc
        finally:
            self._reader = None
        if event["type"] == "http.disconnect":
            self.cut = True
        else:
            body = event.get("body") or b""
            self.size += len(body)
            if self.first is None:
                self.first = body
                self._first_message = event
        return event

    def _is_late(self) -> bool:
        return self.late


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

    def begun(self, receive: Receive, room: Room, headers: Headers) -> Incoming:
        """Return a request that begins now; it is told when its deadline passes."""
        incoming = Incoming(receive, self._loop.time() + self._seconds, room, headers)
        self._open[incoming] = None
        if self._timer is None:
            self._timer = self._loop.call_at(incoming.deadline, self._ring)
        return incoming

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

    def __init__(
        self, application: Asgi, deadline_seconds: float, max_bytes: int, watch: RequestWatch
    ) -> None:
        self._watch, self._watched = watch, watch.route(NO_ROUTE)
        self._room, self._deadlines = Room(max_bytes), Deadlines(deadline_seconds)
        self._application = application
        self.requests = 0  # being answered now

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        if (
            scope["http_version"] == "1"
        ):  # HTTP/1.0, as this server names it; the framework knows only 1.0 and 1.1
            scope["http_version"] = "1.0"
        deadlines = self._deadlines
        incoming = scope[SCOPE_KEY] = deadlines.begun(receive, self._room, scope["headers"])
        self.requests += 1
        try:
            fields = incoming.fields
            told = fields is None or b"transfer-encoding" in fields
            if told and scope["method"] != "GET" and _is_coded(scope):
                await self._refuse(send, scope, _coded(), incoming.size)
            else:
                await self._application(scope, incoming, send)
        except BodyTimeout:
            await self._refuse(send, scope, body_timeout(), incoming.size)
        finally:
            self.requests -= 1
            deadlines.answered(incoming)
            incoming.let_go()

    async def _refuse(self, send: Send, scope: dict[str, Any], problem: Problem, size: int) -> None:
        """Answer what the application does not see."""
        seen = begin(self._watch, scope)
        await _answer(send, problem, seen)
        self._watch.end(seen, self._watched, problem.status, problem.code, size)


def values_of(scope: dict[str, Any], name: bytes) -> list[bytes]:
    """Return the values of all headers of a lower-case name."""
    incoming: Incoming | None = scope.get(SCOPE_KEY)
    if incoming is None or incoming.fields is None:
        return [value for one, value in scope["headers"] if one == name]
    value = incoming.fields.get(name)
    return [] if value is None else [value]


def _is_coded(scope: dict[str, Any]) -> bool:
    """True when the body's transfer coding is more than `chunked`: the server would hand it over as it is, still coded."""
    codings = values_of(scope, b"transfer-encoding")
    return bool(codings) and [one.lower() for one in codings] != [b"chunked"]


def _coded() -> Problem:
    detail = "Transfer-Encoding must be chunked, once, or be left out; Content-Encoding: gzip is taken"
    return Problem("bad_request", detail, {"Connection": "close"})


def begin(watch: RequestWatch, scope: dict[str, Any]) -> Seen:
    """Return a new request, with the trace that its headers name."""
    traceparents = values_of(scope, b"traceparent")
    return watch.begin([one.decode("latin-1") for one in traceparents]) if traceparents else watch.begin()


def note_tenant(scope: dict[str, Any], tenant_id: str) -> None:
    """Say whose request it is, before its body is read: in whose share of the memory it is held."""
    incoming: Incoming | None = scope.get(SCOPE_KEY)
    if incoming is not None:
        incoming.tenant_id = tenant_id


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
