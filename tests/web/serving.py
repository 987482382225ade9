"""The real server in a thread, for tests that talk HTTP to it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import msgspec

from pipeline.core.errors import HeadraceError
from pipeline.web.gate import Gate
from pipeline.web.serve import hold_address, serve
from pipeline.wiring.front_door import FrontDoor
from tests.web.doors import OpenGate

_SECONDS = 20.0
JSON = {"Content-Type": "application/json"}
LINES = {"Content-Type": "application/x-ndjson"}


class Served:
    """One server that runs.

    Attributes:
        url: where.
        ended, error: what `serve` returned or raised; None while it runs.
    """

    def __init__(self, door: FrontDoor, gate: Gate) -> None:
        self.door, self._gate = door, gate
        self._address = hold_address("127.0.0.1", 0)
        self.url, self.port = self._address.url, self._address.port
        self.ended: bool | None = None
        self.error: HeadraceError | None = None
        self._ready, self._stops = threading.Event(), list[Callable[[], None]]()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Return once it takes requests."""
        self._thread.start()
        assert self._ready.wait(_SECONDS)

    def ask_to_stop(self) -> None:
        """Do what a signal's handler does."""
        self._stops[0]()

    def join(self) -> None:
        """Wait for its end."""
        self._thread.join(_SECONDS)
        assert not self._thread.is_alive()

    def client(self, tenant: str | None = "demo") -> httpx.Client:
        """Return a client that says whose it is."""
        headers = {} if tenant is None else {"X-Tenant": tenant}
        return httpx.Client(base_url=self.url, headers=headers, timeout=_SECONDS)

    def _run(self) -> None:
        try:
            self.ended = serve(self.door, self._gate, self._address, self._ready.set, self._stops.append)
        except HeadraceError as exc:
            self.error = exc
        if self._address.held is not None:
            self._address.held.close()


@contextmanager
def serving(door: FrontDoor, gate: Gate | None = None) -> Iterator[Served]:
    """Serve during the body."""
    served = Served(door, gate or OpenGate())
    served.start()
    try:
        yield served
    finally:
        served.ask_to_stop()
        served.join()


_DATA = {
    "origin": "IAH",
    "year": 2013,
    "month": 1,
    "day": 1,
    "hour": 8,
    "precip": 0.0,
    "visib": 10.0,
    "time_hour": "2013-01-01T13:00:00Z",
}


def event(**given: Any) -> dict[str, Any]:
    """Return an event as a client sends it: what the server fills in is left out."""
    body = {"entity_id": "IAH", "event_type": "weather.observed", "schema_version": 1, "source": "IAH"}
    return {**body, "data": {**_DATA}, **given}


def cloud_event(**given: Any) -> dict[str, Any]:
    """Return the same as a CloudEvent."""
    return {
        "specversion": "1.0",
        "id": "ce-1",
        "type": "weather.observed",
        "source": "IAH",
        "subject": "IAH",
        "dataschema": "https://example.com/weather.observed/1",
        "data": {**_DATA},
        **given,
    }


def post(client: httpx.Client, body: Any, headers: dict[str, str], **more: str) -> httpx.Response:
    """Send events: bytes as they are, anything else as JSON."""
    content = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return client.post("/v1/events", content=content, headers=headers | more)


def lines(*events: dict[str, Any]) -> bytes:
    """Return events as NDJSON."""
    return b"".join(msgspec.json.encode(one) + b"\n" for one in events)
