"""`headrace up` in the background: the same program as in the foreground, without a terminal, looked after until it runs.

So what a detached stack does when a process of it dies is what any stack does. Should this program itself be killed, its
children end in order, and nothing is lost.
"""

import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.laptop.home import Home, prepare
from pipeline.laptop.stack import Stack, read_stack
from pipeline.machine.interrupts import Interrupts
from pipeline.machine.processes import process_ref, spawn

_LOOK_SECONDS = 0.05
_MISUSED = 2  # the command's status for what its user can mend
_SPOKEN = "headrace: "  # what lines to its user begin with


def start_in_background(home: Home, command: Sequence[str], environment: Mapping[str, str]) -> Stack:
    """Start a program that runs the stack of a home, and return once the stack runs.

    Ctrl-C meanwhile ends it in order.

    Raises:
        ConfigProblem, HeadraceError: it ended, with these words.
    """
    prepare(home)
    home.up_log.touch()
    said_before, interrupts = home.up_log.stat().st_size, Interrupts()
    with interrupts.installed():
        with interrupts.held():
            child = spawn(
                command,
                environment=environment,
                log=home.up_log,
                folder=Path.cwd(),  # settings may name places from here
                dies_with_parent=False,
            )
        try:
            return _running(home, child, said_before)
        except KeyboardInterrupt:
            interrupts.hold()
            child.terminate()
            child.wait()
            raise


def _running(home: Home, child: "subprocess.Popen[bytes]", said_before: int) -> Stack:
    ref = process_ref(child.pid)
    while child.poll() is None:
        try:
            stack = read_stack(home)
        except msgspec.DecodeError:  # of another release; the child replaces it, or says so
            stack = None
        if stack is not None and stack.phase == "running" and stack.owner == ref:
            return stack
        time.sleep(_LOOK_SECONDS)
    said = home.up_log.read_bytes()[said_before:].decode(errors="replace")
    words = "\n".join(line.removeprefix(_SPOKEN) for line in said.splitlines()) or f"see {home.up_log}"
    raise ConfigProblem(words) if child.returncode == _MISUSED else HeadraceError(words)
