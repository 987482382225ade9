"""Raw HTTP over sockets: what no client library would send, what comes back, and what it costs the process."""

import json
import resource
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CLOSED = 0  # in place of a status: the connection ended without an answer
_SECONDS = 20.0


@dataclass(frozen=True)
class Reply:
    """One answer; a status of `CLOSED`: there was none."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        """Return the code of a problem."""
        return str(json.loads(self.body)["code"])


def head(line: str, *headers: str) -> bytes:
    """Return the head of a request of the tenant demo."""
    return "\r\n".join([line, "Host: x", "X-Tenant: demo", *headers, "", ""]).encode("latin-1")


def connect(port: int) -> socket.socket:
    """Return a connection."""
    return socket.create_connection(("127.0.0.1", port), timeout=_SECONDS)


def replies(connection: socket.socket, most: int = 1) -> list[Reply]:
    """Return the answers that come, until `most` or the connection's end; a reset is an end."""
    found: list[Reply] = []
    reader = connection.makefile("rb")
    while len(found) < most:
        try:
            reply = _reply(reader)
        except (ConnectionError, BrokenPipeError):
            break
        if reply is None:
            break
        if reply.status >= 200:
            found.append(reply)
    return found


def _reply(reader: Any) -> Reply | None:
    line = reader.readline()
    if not line:
        return None
    headers: dict[str, str] = {}
    while (one := reader.readline()) not in (b"\r\n", b""):
        name, _, value = one.decode("latin-1").partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(reader.readline(), 16):
            body += reader.read(size)
            reader.readline()
        reader.readline()
    else:
        body = reader.read(int(headers.get("content-length", "0")))
    return Reply(int(line.split()[1]), headers, body)


def ask(port: int, parts: bytes | Iterable[bytes], most: int = 1) -> list[Reply]:
    """Send bytes on a connection of their own; return what comes back. A server that stops reading is no error."""
    with connect(port) as connection:
        try:
            for part in [parts] if isinstance(parts, bytes) else parts:
                connection.sendall(part)
        except (ConnectionError, BrokenPipeError):
            pass  # it has answered and closed: the answer may still be there
        return replies(connection, most)


def one(port: int, parts: bytes | Iterable[bytes]) -> Reply:
    """Return the answer to one request."""
    found = ask(port, parts)
    return found[0] if found else Reply(CLOSED, {}, b"")


def memory_bytes() -> int:
    """Return what this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
