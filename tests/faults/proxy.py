"""A proxy in front of the emulators that misbehaves by plan.

One thread per connection, on the standard library alone: it has to break connections off in the middle of an answer and
to hold a request while a process is killed, which is plainer with blocking sockets than inside a framework.
"""

import http.client
import os
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import urlsplit

from tests.faults.plan import Fault, Plan, calm
from tests.faults.wire import Answer, Request

Moment = Literal["before", "after"]
Tap = Callable[[Request, Moment], bool]
_PATIENCE = 60.0  # seconds, of one request to the emulator
_OWN = frozenset({"connection", "transfer-encoding", "content-length", "keep-alive", "expect", "server"})


def untapped(_request: Request, _moment: Moment) -> bool:
    """Look at nothing."""
    return False


class FaultProxy:
    """A running proxy.

    Attributes:
        url: its endpoint.
        upstream: what it stands before; asked directly nothing fails.
        plan: how it misbehaves; may be exchanged at any time.
        tap: called before a request is forwarded and after the server has answered; True: the connection ends there.
        seen: requests by operation.
        injected: faults by operation and name.
    """

    def __init__(self, upstream: str, plan: Plan = calm, routes: Mapping[str, str] | None = None) -> None:
        self.plan = plan
        self.tap: Tap = untapped
        self.seen: Counter[str] = Counter()
        self.injected: Counter[tuple[str, str]] = Counter()
        self.upstream, self._routes = upstream, dict(routes or {})
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def fault(self, request: Request) -> Fault | None:
        """Draw and note the fault of a request."""
        with self._lock:
            self.seen[request.operation] += 1
            found = self.plan(request)
            if found is not None:
                self.injected[request.operation, found.name] += 1
        return found

    def forward(self, request: Request) -> Answer:
        """Return the server's answer."""
        where = urlsplit(self._routes.get(request.service, self.upstream))
        upstream = http.client.HTTPConnection(str(where.hostname), where.port, timeout=_PATIENCE)
        try:
            headers = {name: value for name, value in request.headers.items() if name not in _OWN}
            upstream.request(request.method, request.path, request.body, headers)
            found = upstream.getresponse()
            return Answer(found.status, dict(found.getheaders()), found.read())
        finally:
            upstream.close()


def _through(fault: Fault, request: Request, proxy: FaultProxy) -> Answer | None:
    """Return what the client is told; the server has done what the fault lets it do."""
    if fault.part is not None:
        return fault.part.answer(proxy.forward(fault.part.request) if fault.part.request else None)
    found = proxy.forward(request) if fault.forwards else None
    return fault.answer or found


class _Server(ThreadingHTTPServer):
    proxy: FaultProxy
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Be silent about clients that are gone: the tests kill them."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1  # head and body leave in one piece
    server: _Server

    def _any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request, proxy = Request(self.command, self.path, headers, body), self.server.proxy
        fault = proxy.fault(request) or Fault("none")
        time.sleep(fault.delay_seconds)
        if proxy.tap(request, "before"):
            self._reset()
            return
        answer = _through(fault, request, proxy)
        if proxy.tap(request, "after") or answer is None or fault.cut_bytes == 0:
            self._reset()
        else:
            self._answer(answer, fault.cut_bytes)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _any  # noqa: N815 - the server's names

    def handle_expect_100(self) -> bool:
        """Tell the client to go on at once: S3's waits a second for it, and the buffer would keep it."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _answer(self, answer: Answer, cut_bytes: int | None) -> None:
        lines = [f"HTTP/1.1 {answer.status} {http.client.responses.get(answer.status, '')}"]
        lines += [f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in _OWN]
        size = len(answer.body)
        if self.command == "HEAD":  # its length is that of the body it does not have
            size = int(next((v for n, v in answer.headers.items() if n.lower() == "content-length"), 0))
        whole = "\r\n".join([*lines, f"Content-Length: {size}", "", ""]).encode() + answer.body
        self.wfile.write(whole if cut_bytes is None else whole[:cut_bytes])
        self.wfile.flush()
        if cut_bytes is not None:
            self._reset()

    def _reset(self) -> None:
        """End the connection without a farewell: the client sees a reset."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the server's name
        """Log nothing."""


@contextmanager
def fault_proxy(
    upstream: str = "", plan: Plan = calm, routes: Mapping[str, str] | None = None
) -> Iterator[FaultProxy]:
    """Run a proxy.

    Args:
        upstream: what it stands before.
        plan: how it misbehaves.
        routes: other upstreams, by service: `kinesis`.
    """
    proxy = FaultProxy(upstream, plan, routes)
    try:
        yield proxy
    finally:
        proxy.close()
