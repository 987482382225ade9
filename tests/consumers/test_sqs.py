"""The processor as a process: how it begins and how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.cli.settings import EMULATOR_KEY, emulator_overrides
from pipeline.config import load_settings
from tests.aws.backends import ministack

pytestmark = pytest.mark.stack
SECONDS = 30.0


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator with tables and queues."""
    with ministack(tmp_path_factory.mktemp("sqs") / "home") as found:
        home = tmp_path_factory.mktemp("settings")
        wiring.provision(load_settings({"paths": {"home": home}, **emulator_overrides(found)}, environ={}))
        yield found


def _start(endpoint: str, home: Path, *arguments: str, **settings: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {
        "HEADRACE_HOME": str(home),
        "HEADRACE_AWS__ENDPOINT_URL": endpoint,
        "HEADRACE_AWS__ACCESS_KEY_ID": EMULATOR_KEY,
        "HEADRACE_AWS__SECRET_ACCESS_KEY": EMULATOR_KEY,
        **settings,
    }
    return subprocess.Popen(
        [sys.executable, "-m", "consumers.sqs", *arguments], env=environment, stderr=subprocess.PIPE
    )


def test_an_empty_queue_is_drained_at_once(endpoint: str, tmp_path: Path) -> None:
    """Nothing to do: status 0, and the log says that it began and ended."""
    process = _start(endpoint, tmp_path, "--drain")
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert [word in said for word in (b"WorkerStarted", b"WorkerStopped")] == [True, True]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order(endpoint: str, tmp_path: Path, number: signal.Signals) -> None:
    """Asked to stop while it waits for messages it ends with status 0."""
    process = _start(endpoint, tmp_path)
    assert process.stderr is not None
    assert b"WorkerStarted" in process.stderr.readline()
    process.send_signal(number)
    _, said = process.communicate(timeout=SECONDS)
    assert process.returncode == 0
    assert b"WorkerStopped" in said


def test_wrong_settings(endpoint: str, tmp_path: Path) -> None:
    """A queue that is not there, and an argument that is none: status 2 and a sentence."""
    for process, word in (
        (_start(endpoint, tmp_path, HEADRACE_REPLAY__QUEUE="absent"), b"headrace-absent"),
        (_start(endpoint, tmp_path, "--fast"), b"--fast"),
    ):
        _, said = process.communicate(timeout=SECONDS)
        assert process.returncode == 2
        assert word in said.splitlines()[-1]
