"""Servers for the tests of the client: the real API over a stream in memory, and one that answers whatever a test says."""

import itertools
import json
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from falcon.asgi import Request

from pipeline.core.caller import Caller, Denied, Scope
from pipeline.flows.idempotency import Idempotency
from pipeline.ports.clock import SystemClock
from pipeline.web.route import Route
from tests.fakes.idempotency import MemoryRequests
from tests.web.doors import MemorySink, OpenGate, make_door
from tests.web.serving import serving

KEY = "hr-the-secret-key"
SECRET = "the/secret of+a client".replace(" ", "-")


class KeyGate(OpenGate):
    """Knows one key, and any token that a test puts among `tokens`."""

    def __init__(self, **plan: Any) -> None:
        super().__init__(**plan)
        self.tokens: set[str] = set()

    async def admit(self, request: Request, route: Route) -> Caller:  # noqa: ARG002
        """Return the caller `demo`."""
        bearer = (request.auth or "").removeprefix("Bearer ")
        if request.get_header("X-API-Key") != KEY and bearer not in self.tokens:
            raise Denied("unknown", "no such credential")
        return Caller("demo", "key:test", frozenset(Scope), self._plan)


@contextmanager
def real_api(sink: MemorySink, gate: KeyGate | None = None) -> Iterator[str]:
    """Serve the real API, with a table of repeated requests; give its URL."""
    owners = itertools.count()
    table = Idempotency(MemoryRequests(), SystemClock(), lambda: f"owner {next(owners)}", 35)
    with serving(replace(make_door(sink), idempotency=table), gate or KeyGate()) as served:
        yield served.url


@dataclass
class Sent:
    """One request as it arrived. `events` are its lines."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    events: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Reply:
    """What a test wants answered; `drop` closes the connection instead."""

    status: int = 202
    body: bytes | dict[str, Any] = b""
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False
    trickle: bool = False  # a byte now and then, without an end


def said(sent: Sent, *, status: int = 202, receipt: str | None = "r", **given: Any) -> Reply:
    """Return an answer of the API that accepts everything; `given` maps `refused` and `retry` to indexes."""
    refused, retry = given.get("refused", ()), given.get("retry", ())
    events: list[dict[str, Any]] = []
    for index, one in enumerate(sent.events):
        if index in refused:
            events.append(
                {"index": index, "status": "refused", "code": "bad", "pointer": "/x", "message": "no"}
            )
        else:
            kind = "retry" if index in retry else "accepted"
            events.append({"index": index, "status": kind, "event_id": one["event_id"]})
    body = {"request_id": "1", "receipt": receipt, "events": events}
    return Reply(status, body, given.get("headers", {}))


class Hostile:
    """A server that answers what `answer` returns for each request.

    Attributes:
        sent: every request whose body came whole.
    """

    def __init__(self, answer: Callable[[Sent], Reply]) -> None:
        self.sent: list[Sent] = []
        self.stop = threading.Event()
        hostile = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                sent = _read(self)
                hostile.sent.append(sent)
                with suppress(OSError):
                    _write(self, answer(sent), hostile.stop)

            do_GET = do_POST  # noqa: N815 - the name that the library calls

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    @property
    def keys(self) -> list[str]:
        """Return the Idempotency-Keys, in order."""
        return [one.headers["idempotency-key"] for one in self.sent if "idempotency-key" in one.headers]


@contextmanager
def hostile(answer: Callable[[Sent], Reply]) -> Iterator[Hostile]:
    """Serve during the body."""
    found = Hostile(answer)
    thread = threading.Thread(target=found.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        found.stop.set()
        found.server.shutdown()
        found.server.server_close()


def script(*replies: Reply | None) -> Callable[[Sent], Reply]:
    """Return an answer that gives these in turn, and then accepts everything, as None does."""
    left, lock = iter(replies), threading.Lock()

    def answer(sent: Sent) -> Reply:
        with lock:
            reply = next(left, None)
        return reply or said(sent)

    return answer


def _read(handler: BaseHTTPRequestHandler) -> Sent:
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    sent = Sent(
        handler.command, handler.path, {name.lower(): value for name, value in handler.headers.items()}, body
    )
    text = zlib.decompress(body, 31) if sent.headers.get("content-encoding") == "gzip" else body
    if sent.headers.get("content-type") == "application/x-ndjson":
        sent.events = [json.loads(line) for line in text.splitlines()]
    return sent


def _write(handler: BaseHTTPRequestHandler, reply: Reply, stop: threading.Event) -> None:
    if reply.drop:
        handler.close_connection = True
        handler.connection.shutdown(socket.SHUT_RDWR)
        return
    body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
    handler.send_response(reply.status)
    headers = {"Content-Type": "application/json", **reply.headers}
    for name, value in headers.items():
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(10**6 if reply.trickle else len(body)))
    handler.end_headers()
    while reply.trickle and not stop.wait(0.02):
        handler.wfile.write(b" ")
    handler.wfile.write(body)
