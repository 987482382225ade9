"""One process of the API: the server, its limits against abuse, and its end.

An end in order: no new connection is taken, every request that was read is answered, what was taken is sent, the last
receipt is written; then the last uses of keys are noted, leases of plans are given back, threads end. Each of these has its
time (`core.ending`), also when what it waits for hangs. The server hands over a request only with its head; a client whose
request was not read yet sees its connection close, and may repeat it.
"""

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from pipeline.core import ending
from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.facts import ApiDrained
from pipeline.web.app import make_app
from pipeline.web.entry import Entry
from pipeline.web.gate import Gate
from pipeline.wiring.front_door import FrontDoor

_MAX_HEAD_BYTES = 65_536  # request line and headers: a head that is not whole by then is answered 431
# Requests under way are some thousand objects at any time, and no garbage: looked through as seldom as memory allows (10 MB).
_COLLECT_AFTER = (50_000, 20, 100)
_BACKLOG = 1_024  # connections that wait to be taken
_TALLY_SECONDS = 1.0  # between two looks at what came in


@dataclass(frozen=True)
class Address:
    """Where a process listens. `held` keeps the port for all processes that share it."""

    host: str
    port: int
    held: socket.socket | None = None

    @property
    def url(self) -> str:
        """Return what a client on this machine calls."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104 - shown, not listened on
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"


def hold_address(host: str, port: int, *, or_free: bool = False) -> Address:
    """Claim a port: nobody else listens on it, and our processes may share it.

    Args:
        host: a name or address of this machine.
        port: 0 for a free one.
        or_free: take a free one where the port is taken.

    Raises:
        ConfigProblem: the port cannot be had.
    """
    try:
        family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
    except OSError as exc:
        raise ConfigProblem(f"web.host {host!r} is no address of this machine ({exc.strerror})") from exc
    address = str(place[0])
    try:
        with socket.socket(family) as alone:  # the shared claim below would not see somebody else's
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind((address, port))
    except OSError as exc:
        if or_free and port:
            return hold_address(host, 0)
        raise ConfigProblem(
            f"port {port} of {host} cannot be had ({exc.strerror}): set web.port to another one, or to 0 for a free one"
        ) from exc
    held = socket.socket(family)
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    held.bind((address, port))
    return Address(address, held.getsockname()[1], held)


def serve(
    door: FrontDoor,
    gate: Gate,
    address: Address,
    started: Callable[[], None],
    stop: "Callable[[Callable[[], None]], None]",
) -> bool:
    """Serve until asked to stop; False: at the end something was left without an answer of the stream.

    Args:
        door: what handlers use.
        gate: lets requests in.
        address: where to listen.
        started: told once requests are taken.
        stop: given what asks for the end, from any thread.

    Raises:
        HeadraceError: the stream is gone, or refuses this process for ever.
    """
    schedule_as_batch()
    return uvloop.run(_serve(door, gate, address, started, stop))


async def _serve(
    door: FrontDoor,
    gate: Gate,
    address: Address,
    started: Callable[[], None],
    stop: "Callable[[Callable[[], None]], None]",
) -> bool:
    loop, asked = asyncio.get_running_loop(), asyncio.Event()

    def ask() -> None:
        if not loop.is_closed():  # asked again, after the end
            loop.call_soon_threadsafe(asked.set)

    stop(ask)
    door.ingest.start(loop)
    web = door.settings.web
    entry = Entry(make_app(door, gate), web.deadline_seconds, web.max_buffer_bytes, door.watch)
    server = make_server(entry, door, address)
    serving = asyncio.ensure_future(server.serve())
    telling = asyncio.ensure_future(_tell(door, gate))
    gc.collect()
    gc.freeze()  # what is made by now stays: the collector need not look at it again
    gc.set_threshold(*_COLLECT_AFTER)
    await _listening(address, serving)
    started()
    waiting = asyncio.ensure_future(asked.wait())
    await asyncio.wait({serving, telling, waiting}, return_when=asyncio.FIRST_COMPLETED)
    broke = telling.done()
    telling.cancel()  # from here on the producer is closed by us, which is no fault; what came in is told at the drain's end
    ended = await _drain(door, entry, server, serving)
    closed, _ = await asyncio.wait({asyncio.ensure_future(gate.close())}, timeout=ending.ACCOUNTS_SECONDS)
    for one in closed:
        one.result()  # raises what it died of
    await _in_time(door.close, ending.ACCOUNTS_SECONDS)
    waiting.cancel()
    if broke:
        await telling  # raises what it died of
    return ended


async def _drain(door: FrontDoor, entry: Entry, server: Server, serving: "asyncio.Future[None]") -> bool:
    """Answer what was taken, then send what is left."""
    loop, requests = asyncio.get_running_loop(), entry.requests
    began = loop.time()
    server.signal_handler_interrupt()  # what Server.stop does
    await asyncio.wait({serving}, timeout=door.settings.web.deadline_seconds + ending.ANSWERS_SECONDS)
    if door.decision_log is not None:
        await door.decision_log.drain(ending.DECISIONS_SECONDS)
    ended = await loop.run_in_executor(None, door.ingest.close, ending.EVENTS_SECONDS)
    _tell_counts(door)
    lost = door.ingest.waiting()
    door.facts(ApiDrained(requests=requests, lost=lost, seconds=round(loop.time() - began, 3)))
    return ended and not lost


async def _in_time(work: Callable[[], None], seconds: float) -> None:
    """Call something that may hang, and wait so long at most; in a thread that keeps no process from ending."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()

    def run() -> None:
        try:
            work()
        finally:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                loop.call_soon_threadsafe(done.set)

    threading.Thread(target=run, name="closing", daemon=True).start()
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await done.wait()


def schedule_as_batch() -> None:
    """Have threads that this one starts run until they wait: the server's would else push the loop aside for every answer.

    An eighth less processor time a request. Where it cannot be had (another system, a stricter container), nothing is lost.
    """
    with suppress(AttributeError, OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def make_server(application: Any, door: FrontDoor, address: Address) -> Server:
    """Return the server of an ASGI application, with its limits."""
    web = door.settings.web
    return Server(
        application,
        address=address.host,
        port=address.port,
        interface=Interfaces.ASGINL,
        http=HTTPModes.http1,
        websockets=False,
        backlog=_BACKLOG,
        backpressure=web.max_connections,
        http1_settings=HTTP1Settings(
            header_read_timeout=int(web.idle_seconds * 1_000),
            max_buffer_size=_MAX_HEAD_BYTES,
            pipeline_flush=False,
        ),
        log_enabled=False,
    )


async def _tell(door: FrontDoor, gate: Gate) -> None:
    """Tell what came in, and have the gate begin what is due, until the end.

    Raises:
        HeadraceError: nothing can be sent any more: the process ends, and is started again.
    """
    while True:
        await asyncio.sleep(_TALLY_SECONDS)
        if (why := door.ingest.broken()) is not None:
            raise HeadraceError(f"the API takes no more events: {why}")
        _tell_counts(door)
        gate.catch_up()


def _tell_counts(door: FrontDoor) -> None:
    if (told := door.tally.take()) is not None:
        door.facts(told)
    for fact in door.watch.take():
        door.facts(fact)


async def _listening(address: Address, serving: "asyncio.Future[None]") -> None:
    """Wait until the server takes connections: it opens its socket in a thread of its own."""
    while not serving.done():
        try:
            _, writer = await asyncio.open_connection(address.host, address.port)
        except ConnectionRefusedError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            return
    await serving  # raises what it died of
