"""The issuer's key set over HTTP: what a server may do to us, bounded in bytes and seconds."""

import gzip
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.aws.token_keys import MAX_BYTES, HttpTokenKeys
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.laptop.emulator import free_port

BODY = b'{"keys":[]}'
SECONDS = 0.5
Speak = Callable[["_Handler"], None]


class _Handler(BaseHTTPRequestHandler):
    speak: Speak
    over: threading.Event
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        type(self).speak(self)

    def log_message(self, *_: object) -> None:
        pass

    def drip(self, part: bytes) -> None:
        """Send a part again and again, slowly, until the test ends."""
        while not self.over.wait(0.05):
            self.wfile.write(part)
            self.wfile.flush()


@pytest.fixture
def serve() -> Iterator[Callable[[Speak], HttpTokenKeys]]:
    """Start a server that speaks as it is told; give the port that asks it."""
    servers: list[ThreadingHTTPServer] = []
    over = threading.Event()

    def start(speak: Speak) -> HttpTokenKeys:
        handler = type("Handler", (_Handler,), {"speak": speak, "over": over, "asked": ASKED})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # the client hung up, as it should
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return HttpTokenKeys(f"http://127.0.0.1:{server.server_address[1]}/pool/jwks.json", SECONDS)

    ASKED.clear()
    yield start
    over.set()
    for server in servers:
        server.shutdown()
        server.server_close()


ASKED: list[str] = []


def _answer(status: int, body: bytes, **headers: str) -> Speak:
    def speak(handler: _Handler) -> None:
        handler.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()
        handler.wfile.write(body)

    return speak


def _slow_head(handler: _Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    handler.drip(b"X-More: 1\r\n")


def _slow_body(handler: _Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.drip(b" ")


def _silent(handler: _Handler) -> None:
    handler.over.wait(30)


def _broken_off(handler: _Handler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(BODY)


def _huge(handler: _Handler) -> None:
    handler.send_response(200)
    handler.end_headers()
    while not handler.over.is_set():
        handler.wfile.write(b" " * 65_536)


Serve = Callable[[Speak], HttpTokenKeys]


def test_a_key_set(serve: Serve) -> None:
    """It is given as it is, asked for at the very address."""
    assert serve(_answer(200, BODY)).fetch() == BODY
    assert ASKED == ["/pool/jwks.json"]


def test_the_largest_key_set(serve: Serve) -> None:
    """The limit itself is allowed."""
    assert serve(_answer(200, b" " * MAX_BYTES)).fetch() == b" " * MAX_BYTES


@pytest.mark.parametrize(
    "speak",
    [
        _answer(200, b" " * (MAX_BYTES + 1)),
        _answer(200, gzip.compress(BODY, mtime=0), Content_Encoding="gzip"),
        _answer(302, b"", Location="/elsewhere"),
        _answer(204, b""),
        _answer(404, BODY),
        _answer(503, BODY),
        _slow_head,
        _slow_body,
        _silent,
        _broken_off,
        _huge,
        lambda handler: handler.wfile.write(b"garbage\r\n\r\n"),
        lambda handler: handler.connection.close(),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_server_that_does_harm(serve: Serve, speak: Speak) -> None:
    """Slow, endless, packed, moved, broken: it will work later, and nothing waits for it long."""
    with pytest.raises(Transient, match=r"jwks\.json"):
        serve(speak).fetch()
    assert ASKED == ["/pool/jwks.json"]


def test_nobody_listens() -> None:
    """It will work later."""
    with pytest.raises(Transient, match="ConnectError"):
        HttpTokenKeys(f"http://127.0.0.1:{free_port()}/jwks.json").fetch()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/jwks.json",
        "ftp://127.0.0.1/x",
        "file:///etc/passwd",
        "",
        "http://127.0.0.1.example.com/",
    ],
)
def test_an_address_that_is_not_safe(url: str) -> None:
    """Over plain HTTP anybody between could be the issuer."""
    with pytest.raises(ConfigProblem, match="https://"):
        HttpTokenKeys(url)
