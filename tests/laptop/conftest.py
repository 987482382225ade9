"""A home for each test of the local stack."""

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from pipeline.laptop.home import Home
from pipeline.laptop.stack import Stack, read_stack
from pipeline.laptop.stopping import adopt
from pipeline.machine.processes import stop


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A home whose processes are ended after the test, whatever happened in it."""
    path = tmp_path / "home"
    yield path
    home = Home(path)
    for stack in (recorded(home), adopt(home)):
        if stack is not None:
            stop(stack.loader, 0)
            stop(stack.emulator, 0)


def recorded(home: Home) -> Stack | None:
    try:
        return read_stack(home)
    except msgspec.DecodeError:
        return None
