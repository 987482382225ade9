"""The loader's life under a stack: restarts, and the end of the stack when they do not help."""

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from pipeline.cli import worker
from pipeline.core.errors import HeadraceError
from pipeline.laptop import launch
from pipeline.laptop.home import Home
from pipeline.laptop.launch import local_stack
from pipeline.laptop.stack import find_stack, read_stack
from pipeline.machine.processes import alive, send, wait_until
from pipeline.machine.restarts import Restarts
from tests.laptop.stack_kit import (
    DYING_LOADER,
    kill_emulator,
    launch_in,
)

pytestmark = pytest.mark.stack


def test_a_dead_loader_is_started_again(folder: Path) -> None:
    """A killed loader comes back under a new pid, and the record names it."""
    with local_stack(launch_in(folder)) as running:
        first = running.stack.loader
        assert first is not None
        send(first, signal.SIGKILL)
        assert wait_until(lambda: not alive(first), 5)

        def restarted() -> bool:
            running.check()
            return alive(running.stack.loader)

        assert wait_until(restarted, 10)
        recorded = read_stack(Home(folder))
        assert recorded is not None
        assert recorded.loader == running.stack.loader != first


def test_a_loader_that_cannot_run_ends_a_detached_start(folder: Path) -> None:
    """A loader that ends right away fails `up --detach`, names its log, and leaves no emulator."""
    with pytest.raises(HeadraceError, match=r"ended right after its start.*loader\.log"):  # noqa: SIM117
        with local_stack(launch_in(folder, detach=True, loader=DYING_LOADER)):
            pass
    assert find_stack(Home(folder)).status == "absent"


def test_a_loader_that_keeps_dying_ends_the_stack(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After too many deaths the stack stops and names the loader's log."""
    monkeypatch.setattr(launch, "Restarts", lambda: Restarts(limit=2))
    with (  # noqa: PT012
        pytest.raises(HeadraceError, match=r"died 2 times within a minute.*loader\.log"),
        local_stack(launch_in(folder, loader=DYING_LOADER)) as running,
    ):
        while True:
            running.check()
            time.sleep(0.02)
    assert find_stack(Home(folder)).status == "absent"


def test_a_dead_emulator_is_noticed(folder: Path) -> None:
    """When the emulator dies under a foreground stack, the loader is stopped and the loss is reported."""
    with (  # noqa: PT012
        pytest.raises(HeadraceError, match="ended without saving"),
        local_stack(launch_in(folder)) as running,
    ):
        kill_emulator(running.stack)
        running.check()
    assert not alive(running.stack.loader)


def test_a_stack_without_a_loader(folder: Path) -> None:
    """It runs, says so, and stops in order; nobody misses the loader."""
    bare = replace(launch_in(folder), with_loader=False)
    with local_stack(bare) as running:
        running.check()
        finding = find_stack(Home(folder))
        assert (finding.status, finding.reason, running.stack.loader) == ("running", "", None)
    assert find_stack(Home(folder)).status == "absent"


def test_a_worker_beside_the_loader(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a local stack it cuts as soon as that stack's own loader; where that one runs, it says so and goes on."""
    became: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda *process: became.append(process[-1]))
    for with_loader in (True, False):
        with local_stack(replace(launch_in(folder), with_loader=with_loader)) as running:
            loader = running.stack.loader
            answer = CliRunner().invoke(worker.command, ["--home", str(folder)], catch_exceptions=False)
            told = f"headrace: process {loader.pid} loads this stack already" if loader else ""
            assert (answer.exit_code, told in answer.output, bool(told)) == (0, True, bool(answer.output))
    monkeypatch.setenv("HEADRACE_SEGMENT__MAX_IDLE_SECONDS", "7")
    with local_stack(replace(launch_in(folder), with_loader=False)):
        CliRunner().invoke(worker.command, ["--home", str(folder)], catch_exceptions=False)
    assert [one["HEADRACE_SEGMENT__MAX_IDLE_SECONDS"] for one in became] == ["1", "1", "7.0"]


def test_a_failed_provision_leaves_nothing(folder: Path) -> None:
    """An error while streams and tables are made stops the emulator and may be repeated."""

    def fail(_endpoint: str) -> None:
        raise HeadraceError("no table")

    broken = launch_in(folder)
    object.__setattr__(broken, "provision", fail)
    with pytest.raises(HeadraceError, match="no table"), local_stack(broken):
        pass
    assert find_stack(Home(folder)).status == "absent"
    with local_stack(launch_in(folder)):
        pass


def test_restarts_slow_down_and_end() -> None:
    """Restarts wait 0.5, 1, 2 and 4 seconds, and the fifth death within a minute is the last."""
    restarts, now, waits = Restarts(), 100.0, []
    for _ in range(4):
        assert restarts.died(now)
        begin = now
        while not restarts.due(now) and now < begin + 60:
            now += 0.25
        waits.append(now - begin)
    assert waits == [0.5, 1.0, 2.0, 4.0]
    assert not restarts.died(now)


def test_rare_deaths_are_forgiven() -> None:
    """A loader that dies once in a quarter of a minute is started again for ever."""
    restarts = Restarts()
    for number in range(20):
        assert restarts.died(number * 15.1)
        assert restarts.due(number * 15.1 + 8)
