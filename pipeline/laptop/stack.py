"""What runs now in a home: the record in run/stack.json, and whether it can be believed."""

from typing import Literal

import msgspec

from pipeline.core.ending import longest_end_seconds
from pipeline.laptop import emulator
from pipeline.laptop.home import Home
from pipeline.laptop.last_words import last_words
from pipeline.machine.files import disk_problems, write_atomically
from pipeline.machine.processes import ProcessRef, alive

Status = Literal["running", "half-started", "killed", "absent"]
START_EMPTY = "`headrace up --fresh` starts empty, `headrace down --wipe` only deletes"
_UNSAID_END_SECONDS = longest_end_seconds(300.0)  # with the longest deadline that web.deadline_seconds can be
START_AGAIN = "`headrace down`, then `headrace up`: nothing is lost"


class Stack(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One start of the stack.

    Attributes:
        started_at: Unix seconds.
        owner: the program that restarts and stops the children; None: nobody does, as after `headrace demo --keep`.
        settings: environment of the loader, without secrets.
        has_loader: whether the stack brings a loader; without one others load its stream.
        has_api: whether it brings the HTTP API.
        has_processor: whether it brings a processor of replay jobs.
        api_end_seconds: how long the API that runs may take to end in order, by its settings.
        stamps: marks of the state files before the start (`emulator.state_stamps`).
    """

    endpoint_url: str
    port: int
    phase: Literal["starting", "running", "stopping"]
    started_at: float
    owner: ProcessRef | None
    emulator: ProcessRef | None = None
    loader: ProcessRef | None = None
    api: ProcessRef | None = None
    processor: ProcessRef | None = None
    settings: dict[str, str] = {}
    has_loader: bool = True
    has_api: bool = False
    has_processor: bool = False
    api_end_seconds: float = _UNSAID_END_SECONDS
    stamps: dict[str, str] = {}


class Finding(msgspec.Struct, frozen=True):
    """What `find_stack` saw: `reason` is one sentence with the next step, "" when the stack runs."""

    status: Status
    reason: str
    stack: Stack | None


def write_stack(home: Home, stack: Stack) -> None:
    """Record the stack, whole or not at all.

    Raises:
        ConfigProblem: the disk refuses.
    """
    with disk_problems(home.path):
        write_atomically(home.stack_file, msgspec.json.format(msgspec.json.encode(stack), indent=2))


def read_stack(home: Home) -> Stack | None:
    """Read the record; None when there is none.

    Raises:
        msgspec.DecodeError: the file is damaged, or of another version.
    """
    try:
        return msgspec.json.decode(home.stack_file.read_bytes(), type=Stack)
    except FileNotFoundError:
        return None


def find_stack(home: Home) -> Finding:
    """Look what runs in `home`; changes nothing."""
    try:
        stack = read_stack(home)
    except msgspec.DecodeError as exc:
        return _unrecorded(home, f"{home.stack_file} is damaged ({exc})")
    return _unrecorded(home, "") if stack is None else _recorded(home, stack)


def _recorded(home: Home, stack: Stack) -> Finding:
    if stack.owner is not None and alive(stack.owner) and stack.phase != "running":
        doing = "being started" if stack.phase == "starting" else "being stopped"
        return Finding(
            "half-started", f"the stack is {doing} by process {stack.owner.pid}: wait for it", stack
        )
    if not alive(stack.emulator):
        return _without_emulator(home, stack)
    for name, wanted, process, log in (
        ("the loader", stack.has_loader, stack.loader, home.loader_log),
        ("the API", stack.has_api, stack.api, home.api_log),
        ("the processor of replay jobs", stack.has_processor, stack.processor, home.processor_log),
    ):
        if wanted and not alive(process):
            return Finding(
                "half-started", f"{name} is not running{last_words(log)}; {_next_step(stack)}", stack
            )
    if stack.phase != "running" or not emulator.healthy(stack.port):
        what = (
            "its start was cut off" if stack.phase != "running" else f"{stack.endpoint_url} does not answer"
        )
        return Finding("half-started", f"{what}; {START_AGAIN}", stack)
    return Finding("running", "", stack)


def _next_step(stack: Stack) -> str:
    """Say what becomes of a stack of which one process is dead."""
    if stack.phase == "running" and stack.owner is not None and alive(stack.owner):
        return f"process {stack.owner.pid} starts it again by itself, unless it dies again and again: nothing is lost"
    return START_AGAIN


def answers(finding: Finding) -> bool:
    """True when streams, tables and objects can be used: the emulator runs, whatever became of the loader."""
    stack = finding.stack
    return stack is not None and stack.phase == "running" and emulator.healthy(stack.port)


def _without_emulator(home: Home, stack: Stack) -> Finding:
    if not kept_everything(home, stack):
        return Finding("killed", lost(home), stack)
    left = {"the loader": stack.loader, "the API": stack.api, "the processor": stack.processor}
    for name, process in left.items():
        if alive(process):
            return Finding("half-started", f"only {name} still runs; {START_AGAIN}", stack)
    return Finding("absent", f"no stack runs in {home.path}: `headrace up` starts one", stack)


def kept_everything(home: Home, stack: Stack) -> bool:
    """True when the dead emulator of `stack` saved its state, or was never used."""
    return emulator.is_saved(home) or emulator.saved_since(home, stack.port, stack.stamps)


def _unrecorded(home: Home, damage: str) -> Finding:
    """Judge a home whose stack.json is absent or damaged."""
    found = emulator.leftover(home)
    if found is not None:
        said = (
            damage or f"an emulator (process {found.process.pid}) runs that {home.stack_file} does not name"
        )
        return Finding("half-started", f"{said}; {START_AGAIN}", None)
    if emulator.is_saved(home) or not home.has_data:
        return Finding("absent", f"no stack runs in {home.path}: `headrace up` starts one", None)
    return Finding("killed", lost(home) if not damage else f"{damage}; {lost(home)}", None)


def lost(home: Home) -> str:
    """Say what happened to a home whose emulator was killed, and what can be done."""
    return (
        f"the emulator of {home.path} ended without saving (killed, or the machine went down): what its streams and "
        f"tables held since its start is lost, and the objects that stayed contradict the rest; {START_EMPTY}"
    )
