"""Start the local stack, keep its processes alive, and stop it whatever happens.

1. refuse what cannot work: no emulator installed, no room, a stack that runs already, state that was lost
2. start the emulator, wait until it answers         (recorded in stack.json before and after)
3. call `provision`: stream, bucket, tables
4. start the loader, wait for its first heartbeat; start the processor; start the API, wait until it says where it answers
5. restart each of them when it dies; at the end stop all in order. Detached: leave them alone
"""

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypedDict, Unpack

import msgspec

from pipeline.core.ending import longest_end_seconds
from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.laptop import emulator, stopping
from pipeline.laptop.api import PAGE_NUMBER, URL_FILE, api_url
from pipeline.laptop.home import Home, only_one, prepare, wipe
from pipeline.laptop.last_words import last_words
from pipeline.laptop.stack import Finding, Stack, find_stack, write_stack
from pipeline.machine.interrupts import Interrupts
from pipeline.machine.modules import module_command
from pipeline.machine.processes import (
    ProcessRef,
    alive,
    outside_environment,
    process_ref,
    spawn,
    stop,
    wait_until,
)
from pipeline.machine.processor import PROCESSOR, PROCESSOR_PAGE_NUMBER
from pipeline.machine.restarts import Restarts

LOADER_READY_SECONDS = 10.0  # first heartbeat; a loader that is silent but alive is let be
LOADER_PROVEN_SECONDS = (
    1.0  # a detached loader that lives so long after its first heartbeat has opened its shards
)
API_READY_SECONDS = 15.0  # until it takes requests; an API that is silent but alive is let be
PORT_TRIES = 3  # somebody may take a free port before the emulator does
_MISUSED = 2  # a process' status for what its user can mend
LOADER = module_command("consumers.reader")
API = module_command("consumers.api")


@dataclass(frozen=True, kw_only=True)
class Launch:
    """What to start, and how.

    Attributes:
        provision: called once with the endpoint while only the emulator runs; may be called again after a crash.
        loader_environment: what the loader gets beside PATH and the like; its endpoint and home are added here.
        recorded: the part of it that may be written to disk.
        with_loader: start it; without one, whoever wants to loads the stream.
        with_api: start the HTTP API.
        with_processor: start a processor of replay jobs; others may run beside it.
        processor_page: number of its page for Prometheus, where one is wanted; the loader has 0, the API those from 1.
        api_end_seconds: how long it may take to end in order, by its settings.
        port: None for a free one.
        fresh: delete the data of an earlier stack first.
        detach: the processes live on when this program ends, and nobody restarts them.
        unseen: nobody looks at this program's output: a loader that ends right after its start ends the start, as detached.
        throwaway: at the end nothing is saved, and the home's data is deleted.
    """

    home: Home
    provision: Callable[[str], None]
    say: Callable[[str], None]
    loader_environment: Mapping[str, str] = field(default_factory=dict)
    recorded: Mapping[str, str] = field(default_factory=dict)
    loader_command: Sequence[str] = LOADER
    with_loader: bool = True
    with_api: bool = False
    api_end_seconds: float = longest_end_seconds(0.0)
    api_command: Sequence[str] = API
    with_processor: bool = False
    processor_command: Sequence[str] = PROCESSOR
    processor_page: int = 3
    port: int | None = None
    fresh: bool = False
    detach: bool = False
    unseen: bool = False
    throwaway: bool = False


class _Changes(TypedDict, total=False):
    phase: Literal["starting", "running", "stopping"]
    owner: ProcessRef | None
    emulator: ProcessRef | None
    loader: ProcessRef | None
    api: ProcessRef | None
    processor: ProcessRef | None


class Running:
    """A stack that this program started. Lives from `local_stack` to the end of its block."""

    def __init__(self, launch: Launch, interrupts: Interrupts) -> None:
        self.stack = Stack(
            endpoint_url="",
            port=0,
            phase="starting",
            started_at=time.time(),
            owner=None,
            has_loader=launch.with_loader,
            has_api=launch.with_api,
            api_end_seconds=launch.api_end_seconds,
            has_processor=launch.with_processor,
        )
        self._launch = launch
        self._interrupts = interrupts
        self._restarts = {"loader": Restarts(), "API": Restarts(), "processor": Restarts()}
        self._log_bytes: dict[Path, int] = {}  # how long each log was when its process began
        self._children: list[subprocess.Popen[bytes]] = []  # kept, so that the dead can be waited for

    def check(self) -> None:
        """Restart the loader, the API or the processor when it died. Call it a few times a second; returns at once.

        Raises:
            HeadraceError: the emulator is gone, or one of the others died too often.
            KeyboardInterrupt: a signal asked this program to end.
        """
        self._interrupts.check()
        if not alive(self.stack.emulator):
            raise HeadraceError(f"the emulator has ended; see {self._launch.home.emulator_log}")
        home = self._launch.home
        if self.stack.has_loader and not alive(self.stack.loader):
            self._start_again("loader", home.loader_log, self._start_loader)
        if self.stack.has_api and not alive(self.stack.api):
            self._start_again("API", home.api_log, self._start_api)
        if self.stack.has_processor and not alive(self.stack.processor):
            self._start_again("processor", home.processor_log, self._start_processor)

    def _start_again(self, name: str, log: Path, start: Callable[[], None]) -> None:
        now, restarts = time.monotonic(), self._restarts[name]
        if not restarts.waiting:
            if not restarts.died(now):
                words = last_words(log, self._log_bytes.get(log, 0))
                raise HeadraceError(f"the {name} died {restarts.limit} times within a minute{words}")
            self._launch.say(f"the {name} has died and will be started again; see {log}")
        if restarts.due(now):
            start()

    def start(self) -> None:
        """Do steps 2 to 4 of the module's list."""
        launch = self._launch
        owner = process_ref(os.getpid())
        self._record(owner=owner)
        self._start_emulator()
        launch.provision(self.stack.endpoint_url)
        launch.home.heartbeat.unlink(missing_ok=True)
        if launch.with_loader:
            self._start_loader()
            self._await_loader()
        if launch.with_processor:
            self._start_processor()
        if launch.with_api:
            self._start_api()
            self._await_api()
        with self._interrupts.held():
            self._record(phase="running", owner=None if launch.detach else owner)

    def _await_loader(self) -> None:
        launch = self._launch
        wait_until(
            lambda: launch.home.heartbeat.exists() or not alive(self.stack.loader), LOADER_READY_SECONDS
        )
        if (launch.detach or launch.unseen) and wait_until(
            lambda: not alive(self.stack.loader), LOADER_PROVEN_SECONDS
        ):
            raise self._ended_at_once("loader", self.stack.loader, launch.home.loader_log)

    def _await_api(self) -> None:
        launch = self._launch
        wait_until(lambda: launch.home.api_url.exists() or not alive(self.stack.api), API_READY_SECONDS)
        if not alive(self.stack.api):
            raise self._ended_at_once("API", self.stack.api, launch.home.api_log)

    def _ended_at_once(self, name: str, process: ProcessRef | None, log: Path) -> HeadraceError:
        """Return what is wrong with a process that has ended: in its own words, and as it judged it by its status."""
        said = f"the {name} ended right after its start{last_words(log, self._log_bytes.get(log, 0))}"
        status = next((one.wait() for one in self._children if process and one.pid == process.pid), None)
        return ConfigProblem(said) if status == _MISUSED else HeadraceError(said)

    @property
    def api_url(self) -> str | None:
        """Return where the API answers."""
        return api_url(self._launch.home, self.stack.api)

    def stop(self) -> None:
        """Stop all processes in order; signals that arrive meanwhile are only answered."""
        if self._launch.throwaway:
            self.discard()
            return
        self._interrupts.hold()
        self._interrupts.told = lambda: self._launch.say("still stopping: streams and tables are being saved")
        stopping.stop_api(self._launch.home, self.stack, self._launch.say)
        stopping.stop_workers(self._launch.home, self.stack, self._launch.say)
        self._wait_for_room()
        stopping.stop_stack(self._launch.home, self.stack, self._launch.say)
        for child in self._children:
            child.poll()

    def discard(self) -> None:
        """Stop all processes without saving anything, and delete the home's data."""
        self._interrupts.hold()
        stopping.stop_api(self._launch.home, self.stack, self._launch.say)
        stopping.stop_workers(self._launch.home, self.stack, self._launch.say)
        stop(self.stack.emulator, 0)
        for child in self._children:
            child.wait()
        wipe(self._launch.home)

    def _wait_for_room(self) -> None:
        """With a full disk the emulator could not save: wait for room, unless the user insists."""
        told = False
        while self.stack.emulator and alive(self.stack.emulator) and self._interrupts.asked == 0:
            lacking = emulator.room_lacking(self._launch.home, self.stack.emulator)
            if not lacking:
                return
            if not told:
                self._launch.say(
                    f"disk full: {(lacking >> 20) + 1} MiB more are needed to save; waiting (Ctrl-C gives up)"
                )
            told = True
            time.sleep(1)

    def _start_emulator(self) -> None:
        """Start it and wait; on the way nobody else knows the endpoint, so saved.json may go only then."""
        home = self._launch.home
        home.emulator_log.touch()
        for attempt in range(1, PORT_TRIES + 1):
            port = self._launch.port or emulator.free_port()
            offset = home.emulator_log.stat().st_size
            with self._interrupts.held():
                child = emulator.start_emulator(home, port, dies_with_parent=not self._launch.detach)
                self._children.append(child)
                self.stack = msgspec.structs.replace(
                    self.stack,
                    endpoint_url=emulator.endpoint_url(port),
                    port=port,
                    stamps=emulator.state_stamps(home),
                )
                self._record(emulator=process_ref(child.pid))
            try:
                emulator.wait_healthy(child, home, port, offset)
            except HeadraceError:
                if child.poll() is None or attempt == PORT_TRIES or self._launch.port:
                    raise
            else:
                home.saved.unlink(missing_ok=True)
                return

    def _start_loader(self) -> None:
        with self._interrupts.held():
            self._record(loader=self._spawn(self._launch.loader_command, self._launch.home.loader_log))

    def _start_api(self) -> None:
        with self._interrupts.held():
            self._launch.home.api_url.unlink(missing_ok=True)  # a new one may have another port
            self._record(api=self._spawn(self._launch.api_command, self._launch.home.api_log))

    def _start_processor(self) -> None:
        with self._interrupts.held():
            launch = self._launch
            self._record(processor=self._spawn(launch.processor_command, launch.home.processor_log))

    def _spawn(self, command: Sequence[str], log: Path) -> ProcessRef | None:
        launch, endpoint = self._launch, self.stack.endpoint_url
        ours = {"HEADRACE_HOME": str(launch.home.path), "HEADRACE_AWS__ENDPOINT_URL": endpoint}
        ours[URL_FILE] = str(launch.home.api_url)
        ours |= {PAGE_NUMBER: "1", PROCESSOR_PAGE_NUMBER: str(launch.processor_page)}
        self._log_bytes[log] = log.stat().st_size if log.exists() else 0
        child = spawn(
            command,
            environment=outside_environment() | dict(launch.loader_environment) | ours,
            log=log,
            folder=launch.home.run,
            dies_with_parent=not launch.detach,
        )
        self._children.append(child)
        return process_ref(child.pid)

    def _record(self, **changes: Unpack[_Changes]) -> None:
        self.stack = msgspec.structs.replace(self.stack, **changes, settings=dict(self._launch.recorded))
        write_stack(self._launch.home, self.stack)

    def abandon(self) -> None:
        """Undo a start that failed: an emulator that nobody used yet is killed, so that its saved state stays."""
        self._interrupts.hold()
        if emulator.is_saved(self._launch.home):
            stop(self.stack.emulator, 0)
        self.stop()


@contextmanager
def local_stack(launch: Launch) -> Iterator[Running]:
    """Start the stack for the body; in the foreground stop it afterwards, whatever the body does.

    Ctrl-C, SIGTERM and a closed terminal raise KeyboardInterrupt in the body.

    Raises:
        ConfigProblem: the stack cannot be started as asked; what was begun of it is undone.
        HeadraceError: it started and failed.
    """
    emulator.require_installed()
    interrupts = Interrupts()
    with interrupts.installed():
        if launch.port is not None:
            emulator.require_free(launch.port)
        prepare(launch.home)
        # Here too: a program that runs a stack holds the lock, and this says more than "at work".
        _refuse_running(find_stack(launch.home))
        with only_one(launch.home):
            _clear_the_way(launch)
            running = Running(launch, interrupts)
            try:
                running.start()
            except BaseException:
                running.abandon()
                raise
            try:
                yield running
            finally:
                if not launch.detach:
                    running.stop()


def _refuse_running(finding: Finding) -> None:
    if finding.status == "running" and finding.stack is not None:
        raise ConfigProblem(
            f"a stack runs already on {finding.stack.endpoint_url}: see `headrace status`, stop it with `headrace down`"
        )


def _clear_the_way(launch: Launch) -> None:
    """Refuse a home that is in use or whose state was lost; close the record of a stack that ended by itself."""
    home = launch.home
    finding = find_stack(home)
    _refuse_running(finding)
    if finding.status == "half-started":
        raise ConfigProblem(finding.reason)
    if launch.fresh:
        wipe(home)
    elif finding.status == "killed":
        raise ConfigProblem(finding.reason)
    elif finding.stack is not None:
        stopping.settle(home, finding.stack)
    if not home.has_data:
        emulator.mark_saved(home)  # nothing to lose yet: a start that fails may simply be repeated
