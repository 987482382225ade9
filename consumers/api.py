"""The HTTP API: `python -m consumers.api`, which `headrace serve` becomes.

With `web.workers` above 1 this process keeps as many others alive, which share the port. SIGTERM and SIGINT drain: no
new connection is taken, what was read is answered, what was taken is sent. It ends within `core.ending.longest_end_seconds`,
whatever hangs: a call that does not come back is not waited for.
"""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from pipeline.startup import light

light()

from consumers.process import on_stop, run
from consumers.telemetry import Telemetry
from pipeline import __version__
from pipeline.config import Settings, as_environment
from pipeline.core.errors import HeadraceError
from pipeline.facts import ApiStarted, FactSink
from pipeline.laptop.api import PAGE_NUMBER, URL_FILE
from pipeline.machine.files import write_atomically
from pipeline.machine.modules import module_command
from pipeline.machine.processes import death_signal
from pipeline.machine.restarts import Restarts
from pipeline.ports.clock import SystemClock
from pipeline.web.gate import gate_of
from pipeline.web.serve import Address, hold_address, serve
from pipeline.wiring.front_door import front_door, request_watch
from pipeline.wiring.signing import signing_key

_NAME = "api"
_ENDED = (0, -signal.SIGTERM)  # the signal's own end: asked to stop before it had begun to serve
_CHECK_SECONDS = 0.2

SHARED_PORT = "API_SHARED_PORT"  # of one of many: the port that its parent holds


def main(settings: Settings, telemetry: Telemetry) -> None:
    """Serve until asked to stop."""
    shared = os.environ.get(SHARED_PORT)
    if settings.web.workers > 1 and shared is None:
        _keep_many(settings, telemetry.fact)
        return
    web = settings.web
    address = (
        hold_address(web.host, web.port, or_free=settings.aws.endpoint_url is not None)
        if shared is None
        else Address(web.host, int(shared))
    )
    clock = SystemClock()
    watch = request_watch(settings, clock, telemetry.requests, telemetry.spans)
    page = telemetry.page() if web.metrics_token is not None and shared is None else None
    door = front_door(settings, clock, telemetry.fact, watch, page)

    def started() -> None:
        telemetry.fact(ApiStarted(url=address.url, version=__version__, rules=door.rules().digest))
        _say_where(address)

    if not serve(door, gate_of(door), address, started, on_stop):
        raise HeadraceError(
            "events were taken whose fate is not known: whoever sent them was told to send them again"
        )


def _say_where(address: Address) -> None:
    """Leave word for the stack that this API belongs to, if it does."""
    place = os.environ.get(URL_FILE)
    if place is not None and SHARED_PORT not in os.environ:
        write_atomically(Path(place), address.url.encode())


def _page_number() -> int:
    """Return which page for Prometheus is this process' own."""
    return int(os.environ.get(PAGE_NUMBER, "0"))


def _answers(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=1).close()
    except OSError:
        return False
    return True


def _keep_many(settings: Settings, tell: FactSink) -> None:
    """Keep the processes alive that share the port, until asked to stop; on return all of them have ended."""
    web = settings.web
    address = hold_address(web.host, web.port, or_free=settings.aws.endpoint_url is not None)
    signing_key(settings)  # made once, before several would make it
    stop = threading.Event()
    on_stop(stop.set)
    environment = {**os.environ, **as_environment(settings), SHARED_PORT: str(address.port)}
    pages = range(_page_number() + 1, _page_number() + 1 + web.workers)
    slots = [_Slot({**environment, PAGE_NUMBER: str(page)}) for page in pages]
    started = False
    try:
        while not stop.wait(_CHECK_SECONDS):
            if not started and _answers(address):
                started = True
                tell(ApiStarted(url=address.url, version=__version__, rules=""))
                _say_where(address)
            for slot in slots:
                slot.check()
    finally:
        for slot in slots:
            slot.child.terminate()
        statuses = [slot.child.wait() for slot in slots]
        if address.held is not None:
            address.held.close()
    faults = [one for one in statuses if one not in _ENDED]
    if faults:
        raise HeadraceError(
            f"a process of the API ended with status {max(faults, key=abs)}; its log says why"
        )


class _Slot:
    """One of many processes, started again when it dies."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment, self._restarts = environment, Restarts()
        self.child = self._start()

    def check(self) -> None:
        """Start it again when it died.

        Raises:
            HeadraceError: it died too often.
        """
        status = self.child.poll()
        if status is None:
            return
        if not self._restarts.waiting and not self._restarts.died(time.monotonic()):
            raise HeadraceError(
                f"a process of the API died {self._restarts.limit} times, last with status {status}"
            )
        if self._restarts.due(time.monotonic()):
            self.child = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(  # noqa: S603 - our own module
            module_command("consumers.api"),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C reaches the parent, who stops it in order
            preexec_fn=death_signal(os.getpid()),  # noqa: PLW1509 - calls the kernel only
        )


if __name__ == "__main__":
    run(_NAME, main, page=_page_number())
    # Ended in order, and everything is told. The interpreter would wait for threads whose calls hang.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
