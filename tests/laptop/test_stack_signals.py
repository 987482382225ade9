"""Signals at any moment: nothing is orphaned, nothing is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.laptop import emulator
from pipeline.laptop.home import Home
from pipeline.laptop.launch import local_stack
from pipeline.laptop.stack import find_stack, read_stack
from pipeline.laptop.stopping import down
from pipeline.machine.processes import alive, wait_until
from tests.laptop.stack_kit import (
    close,
    foreground_code,
    kinesis,
    launch_in,
    start_detached,
    start_foreground,
    streams,
)

pytestmark = pytest.mark.stack


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_both_in_order(folder: Path, number: signal.Signals) -> None:
    """Ctrl-C, TERM and a closed terminal end the foreground stack with its state saved and no process left."""
    program = start_foreground(folder)
    stack = read_stack(Home(folder))
    assert stack is not None
    os.killpg(program.pid, number)  # as a terminal does: the whole group gets it
    assert "KeyboardInterrupt" in close(program)  # the test's program has no boundary; the command line has
    assert (folder / "drained").exists()
    assert not alive(stack.emulator)
    assert emulator.is_saved(Home(folder))


def test_impatience_loses_nothing(folder: Path) -> None:
    """Ctrl-C again and again while stopping neither orphans a process nor cuts the saving short."""
    program = start_foreground(folder)
    for _ in range(20):
        program.send_signal(signal.SIGINT)
        time.sleep(0.01)
    close(program)
    assert emulator.is_saved(Home(folder))
    assert not (folder / "run" / "stack.json").exists()


@pytest.mark.parametrize("after_seconds", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_ctrl_c_during_the_start_leaves_nothing(folder: Path, after_seconds: float) -> None:
    """At whatever moment of the start Ctrl-C comes, no process stays and the next start works."""
    program = subprocess.Popen(
        [sys.executable, "-c", foreground_code(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert wait_until(lambda: (folder / "run").exists() or program.poll() is not None, 10)
    time.sleep(after_seconds)  # a place in the start, not a wait for something
    program.send_signal(signal.SIGINT)
    close(program)
    assert emulator.leftover(Home(folder)) is None
    assert find_stack(Home(folder)).status == "absent"
    with local_stack(launch_in(folder)):
        pass


def test_a_killed_parent_takes_its_children_along(folder: Path) -> None:
    """SIGKILL of the foreground program ends loader and emulator, which saves: the next start has everything."""
    program = start_foreground(folder)
    stack = read_stack(Home(folder))
    assert stack is not None
    kinesis(stack, "CreateStream", StreamName="kept", ShardCount=1)
    program.kill()
    close(program)
    assert wait_until(lambda: not alive(stack.emulator) and not alive(stack.loader), 20)
    assert find_stack(Home(folder)).status == "absent"
    assert streams(start_detached(folder)) == ["kept"]


def test_down_reaches_a_foreground_stack(folder: Path) -> None:
    """`down` asks the program that runs the stack, and waits until it has stopped."""
    program = start_foreground(folder)
    lines: list[str] = []
    down(Home(folder), erase=False, say=lines.append)
    close(program)
    assert lines[0] == f"asking process {program.pid} to stop the stack"
    assert emulator.is_saved(Home(folder))
