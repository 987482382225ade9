"""A home for each test of the local stack."""

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.laptop import emulator
from pipeline.laptop.home import Home
from pipeline.laptop.processes import send
from pipeline.laptop.stack import read_stack


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A home whose processes are ended after the test, whatever happened in it."""
    path = tmp_path / "home"
    yield path
    home = Home(path)
    with contextlib.suppress(Exception):
        stack = read_stack(home)
        for process in (stack.loader, stack.emulator) if stack else ():
            if process is not None:
                send(process, signal.SIGKILL)
    found = emulator.leftover(home)
    if found is not None:
        send(found.process, signal.SIGKILL)
