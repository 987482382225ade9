"""The search through what a run of the tests has told finds what is planted, in the logs and answers of all workers."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.told import FOLDER, PAYLOAD, SECRET, found_in

_KEY = "hr_dev_a68bdbd5dc413b79_" + "1pGxrJNeRtsWgcqdHIN29BvZDq437fCG1_2jATe2"
_ROOT = Path(__file__).parents[2]
_RUN = """
from tests.told import FOLDER, begin, pytest_sessionfinish, pytest_terminal_summary


def pytest_configure():
    begin()
"""
_TESTS = """
import httpx


def test_a_home(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "api.log").write_text({log!r})


def test_an_answer():
    transport = httpx.MockTransport(lambda request: httpx.Response(200, text={answer!r}, headers={{"X-Request-Id": "1"}}))
    assert httpx.Client(transport=transport).get("http://api/v1/usage").status_code == 200
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that is gone before this very run is searched."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


@pytest.mark.parametrize(
    ("said", "what"),
    [
        (f"key {_KEY} is wrong", "an API key"),
        ("Bearer eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJlcw", "a token"),
        ("-----BEGIN RSA PRIVATE KEY-----", "a private key"),
        ("cannot reach postgresql://jo:secret@db/x", "a password"),
        (f"signing with {SECRET}1", "a planted secret"),
        (f"refused: {PAYLOAD}1", "a planted payload"),
    ],
)
def test_what_nobody_may_tell_is_found(folder: Path, said: str, what: str) -> None:
    """Each kind is named with its file, wherever processes log; stored data and masked passwords are none."""
    for name in ("run/api.log", "logs/api.jsonl", "postgres/log"):
        path = folder / name
        path.parent.mkdir()
        path.write_text(f"one\n{said}\n")
        assert found_in([path.parent]) == [f"{what} in {path}"]
    stored = folder / "home" / "objects"
    stored.mkdir(parents=True)
    (stored / "0.log").write_text(said)
    (folder / "home" / "fine.log").write_text("postgresql://jo:***@db/x hr_dev_a68bdbd5dc413b79 was revoked")
    assert found_in([folder / "home"]) == []


def _run(folder: Path, log: str, answer: str) -> "subprocess.CompletedProcess[str]":
    """Run two tests in two workers; one logs, the other is answered."""
    (folder / "conftest.py").write_text(_RUN)
    (folder / "test_two.py").write_text(_TESTS.format(log=log, answer=answer))
    words = ["-q", "-p", "xdist", "-n", "2", "--basetemp", str(folder / "base"), "--rootdir", str(folder)]
    inside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", FOLDER))}
    own = {"PYTHONPATH": str(_ROOT), "TMPDIR": str(folder), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        [sys.executable, "-m", "pytest", *words, str(folder)],
        env=inside | own,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("log", "answer", "leaks", "status"), [(PAYLOAD, _KEY, 2, 1), ("fine", PAYLOAD, 0, 0)]
)
def test_a_run_that_told_a_secret_fails(folder: Path, log: str, answer: str, leaks: int, status: int) -> None:
    """Though its tests pass: a key in an answer, a payload in a log, of any worker. A payload in an answer is none."""
    done = _run(folder, log, answer)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    told = [line for line in done.stdout.splitlines() if line.startswith("LEAK: ")]
    assert (len(told), done.returncode) == (leaks, status)
    assert not any(secret in done.stdout for secret in (_KEY, PAYLOAD))
