"""Stop the local stack so that nothing is lost, or throw its data away.

Order: the API first, which answers what it took; then the processor and the loader, so that they can finish chunk and segment while streams and
tables still answer; then the emulator, which saves both; then the proof that it did. Only then does the record of the stack go away.
"""

import os
import signal
from collections.abc import Callable

import msgspec

from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.laptop import emulator
from pipeline.laptop.home import Home, only_one, wipe
from pipeline.laptop.stack import START_EMPTY, Finding, Stack, find_stack, kept_everything, lost, write_stack
from pipeline.machine.files import disk_problems
from pipeline.machine.processes import ProcessRef, alive, environment_has, process_ref, send, stop, wait_until

PROCESSOR_GRACE_SECONDS = 30.0  # one chunk is finished; killed, its messages come again
LOADER_GRACE_SECONDS = 30.0  # one segment is cut and written
EMULATOR_GRACE_SECONDS = 60.0
INSIST_SECONDS = 5.0  # before a program that ends is told once more, since what it may wait for is not wanted
# Slow on purpose: killing an emulator that is still saving loses its state.
SAVED_BYTES_PER_SECOND = 10 * 1024 * 1024
# And as long as the API may take (`Stack.api_end_seconds`).
OWNER_GRACE_SECONDS = PROCESSOR_GRACE_SECONDS + LOADER_GRACE_SECONDS + 2 * EMULATOR_GRACE_SECONDS

# What the end of each process waits for, in words.
_API_AT, _PROCESSOR_AT = "the API to answer what it took", "the processor to finish its chunk"
_LOADER_AT, _EMULATOR_AT = "the loader to write its segment", "the emulator to save streams and tables"

Say = Callable[[str], None]


def stop_stack(home: Home, stack: Stack, say: Say) -> None:
    """Stop API, processor and loader, then the emulator, and mark the home as saved. May be repeated.

    Raises:
        ConfigProblem: the disk has no room for the emulator's state; the emulator still runs.
        HeadraceError: the emulator ended without saving.
    """
    with_phase = msgspec.structs.replace(stack, phase="stopping")
    try:
        write_stack(home, with_phase)
    except ConfigProblem:  # a full disk must not keep anybody from stopping
        say(f"the disk of {home.path} is full")
    stop_api(home, stack, say, emulator_answers=alive(stack.emulator))
    stop_workers(home, stack, say, emulator_answers=alive(stack.emulator))
    if stack.emulator is not None and alive(stack.emulator):
        require_room(home, stack.emulator)
        _stop_emulator(stack.emulator, say)
    settle(home, stack)


def stop_api(home: Home, stack: Stack, say: Say, *, emulator_answers: bool = True) -> None:
    """Let the API answer what it took, and send it: for as long as an end in order may take it, by its own settings."""
    grace = stack.api_end_seconds
    waits = _waits(say, _API_AT, grace)
    if not stop(stack.api, grace if emulator_answers else 0, waits) and emulator_answers:
        say(f"the API did not end within {grace:g} s and was killed; see {home.api_log}")


def stop_workers(home: Home, stack: Stack, say: Say, *, emulator_answers: bool = True) -> None:
    """Let the processor finish its chunk and the loader its segment; one that does not end is killed, which loses nothing."""
    if not emulator_answers:
        stop(stack.processor, 0)  # nobody is left to write to: messages are in the queue still,
        stop(stack.loader, 0)  # records in the stream
        return
    for process in (stack.processor, stack.loader):  # at once: both end meanwhile
        if process is not None and alive(process):
            send(process, signal.SIGTERM)
    waits = _waits(say, _PROCESSOR_AT, PROCESSOR_GRACE_SECONDS)
    if not stop(stack.processor, PROCESSOR_GRACE_SECONDS, waits):
        took = f"the processor did not end within {PROCESSOR_GRACE_SECONDS:g} s"
        say(f"{took} and was killed; see {home.processor_log}")
    waits = _waits(say, _LOADER_AT, LOADER_GRACE_SECONDS)
    if not stop(stack.loader, LOADER_GRACE_SECONDS, waits):
        say(f"the loader did not end within {LOADER_GRACE_SECONDS:g} s and was killed; see {home.loader_log}")


def _stop_emulator(process: ProcessRef, say: Say) -> None:
    grace = EMULATOR_GRACE_SECONDS + emulator.memory_bytes(process) / SAVED_BYTES_PER_SECOND
    if not stop(process, grace, _waits(say, _EMULATOR_AT, grace)):
        raise HeadraceError(
            f"the emulator did not save its state within {grace:.0f} s and was killed; {START_EMPTY}"
        )


def _waits(say: Say, what: str, most_seconds: float) -> Callable[[], None]:
    """Return what says, where a wait is long, what it is for."""
    return lambda: say(f"waiting for {what}, {most_seconds:.0f} s at most")


def require_room(home: Home, process: ProcessRef) -> None:
    """Raise ConfigProblem when the disk has no room for what the emulator is about to save."""
    lacking = emulator.room_lacking(home, process)
    if lacking:
        raise ConfigProblem(
            f"the disk of {home.path} lacks about {(lacking >> 20) + 1} MiB to save streams and tables, so the emulator "
            "still runs: free some space and run `headrace down` again, or give the data up with `headrace down --wipe`"
        )


def settle(home: Home, stack: Stack) -> None:
    """Close the record of a stack whose processes are gone.

    Raises:
        HeadraceError: the emulator did not save its state; the record stays, so that `up` keeps refusing.
    """
    if not kept_everything(home, stack):
        raise HeadraceError(lost(home))
    with disk_problems(home.path):
        if emulator.saved_since(home, stack.port, stack.stamps):
            emulator.mark_saved(home)
        home.stack_file.unlink(missing_ok=True)
        home.heartbeat.unlink(missing_ok=True)
        home.api_url.unlink(missing_ok=True)


def down(home: Home, *, erase: bool, say: Say) -> None:
    """Stop whatever runs in `home`; with `erase`, delete its data as well.

    Raises:
        ConfigProblem: another command is at work, or the disk has no room to save.
        HeadraceError: a process does not end, or state was lost.
    """
    if not home.run.is_dir():
        say(f"no stack runs in {home.path}")
        return
    finding, asked = find_stack(home), False
    stack = finding.stack
    owner = stack.owner if stack is not None else None
    if stack is not None and owner is not None and alive(owner) and owner.pid != os.getpid():
        if not erase and stack.emulator is not None and alive(stack.emulator):
            require_room(home, stack.emulator)  # here, where somebody reads it
        _ask_owner(home, owner, stack, say, insist=erase)
        finding, asked = find_stack(home), True
    with only_one(home):
        if erase:
            _kill_all(home, finding)
            wipe(home)
            say(f"stopped; the data in {home.path} is deleted")
        elif asked and finding.status == "absent":
            say(f"stopped; data kept in {home.path}")
        else:
            _stop_found(home, finding, say)


def _ask_owner(home: Home, owner: ProcessRef, stack: Stack, say: Say, *, insist: bool) -> None:
    """Ask the program that looks after the stack; it stops the children in order. `insist`: what needs room is given up."""
    grace_seconds = OWNER_GRACE_SECONDS + stack.api_end_seconds
    say(f"asking process {owner.pid} to stop the stack")
    send(owner, signal.SIGTERM)
    if insist and not wait_until(lambda: not alive(owner), INSIST_SECONDS):
        send(owner, signal.SIGTERM)
    if not wait_until(lambda: not alive(owner), grace_seconds, lambda: say(_still(stack, owner))):
        raise HeadraceError(
            f"process {owner.pid} still runs the stack of {home.path}; look at its terminal, or at {home.up_log}"
        )


def _still(stack: Stack, owner: ProcessRef) -> str:
    """Say what the end of a stack waits for, in the order in which its processes end."""
    jobs = (
        (_API_AT, stack.api),
        (_PROCESSOR_AT, stack.processor),
        (_LOADER_AT, stack.loader),
        (_EMULATOR_AT, stack.emulator),
    )
    return f"waiting for {next((what for what, one in jobs if alive(one)), f'process {owner.pid} to end')}"


def _stop_found(home: Home, finding: Finding, say: Say) -> None:
    stack = finding.stack or adopt(home)
    if stack is None or (finding.status == "killed" and not alive(stack.loader)):
        say(finding.reason if finding.status == "killed" else f"no stack runs in {home.path}")
        return
    running = any(map(alive, (stack.emulator, stack.loader, stack.api, stack.processor)))
    stop_stack(home, stack, say)
    say(f"stopped; data kept in {home.path}" if running else f"no stack runs in {home.path}")


def adopt(home: Home) -> Stack | None:
    """Make a record for processes of this home that a damaged or missing stack.json does not name."""
    found = emulator.leftover(home)
    loader = heartbeat_loader(home)
    if found is None and loader is None:
        return None
    port = found.port if found is not None else 0
    return Stack(
        endpoint_url=emulator.endpoint_url(port),
        port=port,
        phase="stopping",
        started_at=0.0,
        owner=None,
        emulator=found.process if found is not None else None,
        loader=loader,
        stamps=emulator.state_stamps(home),
    )


def heartbeat_loader(home: Home) -> ProcessRef | None:
    """Return the live process that last wrote the heartbeat of this home."""
    try:
        pid = msgspec.json.decode(home.heartbeat.read_bytes(), type=dict[str, object]).get("pid")
    except (FileNotFoundError, msgspec.DecodeError):
        return None
    found = process_ref(pid) if isinstance(pid, int) else None
    return found if found is not None and environment_has(found, "HEADRACE_HOME", str(home.path)) else None


def _kill_all(home: Home, finding: Finding) -> None:
    """End all processes at once: what they would save is about to be deleted."""
    adopted = adopt(home)
    for stack in (finding.stack, adopted):
        if stack is not None:
            for process in (stack.api, stack.processor, stack.loader, stack.emulator):
                stop(process, 0)
