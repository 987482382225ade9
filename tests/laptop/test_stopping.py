"""What the end of a stack says while it takes long."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.laptop import stopping
from pipeline.laptop.home import Home
from pipeline.laptop.stack import Stack
from pipeline.machine import processes
from pipeline.machine.processes import process_ref

HERE = process_ref(os.getpid())


def _stack(**processes_of: object) -> Stack:
    fields = dict.fromkeys(("owner", "emulator", "loader", "api", "processor")) | processes_of
    return Stack(endpoint_url="http://127.0.0.1:9", port=9, phase="running", started_at=0, **fields)  # type: ignore[arg-type]


def test_a_worker_that_takes_its_time_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for, and for how long at most; then what was done about it."""
    monkeypatch.setattr(processes, "_TELL_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(stopping, "PROCESSOR_GRACE_SECONDS", 0.2)
    deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
    said: list[str] = []
    with subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        stopping.stop_workers(Home(tmp_path), _stack(processor=process_ref(child.pid)), said.append)
        assert child.wait() == -signal.SIGKILL
    assert said[0] == "waiting for the processor to finish its chunk, 0 s at most"
    assert "was killed" in said[1]


@pytest.mark.parametrize(
    ("alive", "words"),
    [
        (("emulator", "loader", "processor"), "the processor to finish its chunk"),
        (("emulator", "loader"), "the loader to write its segment"),
        (("emulator",), "the emulator to save streams and tables"),
        ((), f"process {os.getpid()} to end"),
    ],
    ids=["processor", "loader", "emulator", "none"],
)
def test_what_another_program_is_at_is_seen(alive: tuple[str, ...], words: str) -> None:
    """Of a stack that another program ends: whose turn it is."""
    assert HERE is not None
    stack = _stack(**dict.fromkeys(alive, HERE))
    assert stopping._still(stack, HERE) == f"waiting for {words}"
