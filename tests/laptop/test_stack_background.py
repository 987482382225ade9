"""A detached stack is the foreground's in the background: what dies comes back, and replay jobs are done."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.laptop import emulator
from pipeline.laptop.api import api_url
from pipeline.laptop.background import start_in_background
from pipeline.laptop.home import Home
from pipeline.laptop.launch import local_stack
from pipeline.laptop.stack import Stack, find_stack, read_stack
from pipeline.laptop.stopping import down
from pipeline.machine.processes import alive, send, wait_until
from tests.laptop.stack_kit import LOADER, launch_in
from tests.web.serving import event

pytestmark = pytest.mark.stack
PROCESSOR = LOADER.replace("drained", "put down").replace('"loader.json"', '"processor.json"')
_PARTS = ("loader", "api", "processor")


def _headrace(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("HEADRACE_", "AWS_"))}
    done = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *words, "--home", str(folder)],
        env=outside | {"HEADRACE_WEB__PORT": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
    )
    assert done.returncode == code, done.stderr
    return done


def _recorded(folder: Path) -> Stack:
    found = read_stack(Home(folder))
    assert found is not None
    return found


@pytest.fixture(scope="module")
def detached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stack of real processes."""
    folder = tmp_path_factory.mktemp("home")
    _headrace(folder, "up", "--detach")
    yield folder
    parts = _recorded(folder)
    assert "stopped; data kept" in _headrace(folder, "down").stderr
    assert not any(map(alive, (parts.owner, parts.emulator, *(getattr(parts, name) for name in _PARTS))))
    assert find_stack(Home(folder)).status == "absent"
    _headrace(folder, "down", "--wipe")


@pytest.mark.parametrize("part", _PARTS)
def test_what_dies_detached_is_started_again(detached: Path, part: str) -> None:
    """It comes back under a new pid, as in the foreground, and status says who sees to it."""
    before = getattr(_recorded(detached), part)
    assert before is not None
    send(before, signal.SIGKILL)

    def back() -> bool:
        now = getattr(_recorded(detached), part)
        return now != before and alive(now) and find_stack(Home(detached)).status == "running"

    assert wait_until(back, 30)
    owner = _recorded(detached).owner
    assert owner is not None
    assert f"process {owner.pid} starts again what dies" in _headrace(detached, "status").stdout
    assert "has died and will be started again" in Home(detached).up_log.read_text()


def test_a_replay_over_http_is_done(detached: Path) -> None:
    """Nobody starts a processor by hand; one beside the stack's own does no harm."""
    words = ("keys", "create", "noaa", "--scope", "ingest,read,replay", "--json")
    key = json.loads(_headrace(detached, *words).stdout)["key"]
    home = Home(detached)
    assert wait_until(lambda: api_url(home, _recorded(detached).api) is not None, 30)
    url = str(api_url(home, _recorded(detached).api))
    with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=30) as client:
        sent = client.post("/v1/events", json=event()).json()
        assert wait_until(
            lambda: (
                client.get(f"/v1/receipts/{sent['receipt']}?wait=queryable").json()["state"] == "queryable"
            ),
            60,
        )
        job = client.post("/v1/replays", json={"entity": "IAH"}).json()["job"]
        _headrace(detached, "process", "--drain")
        assert wait_until(lambda: client.get(f"/v1/replays/{job}").json()["state"] == "done", 60)
        assert client.get(f"/v1/replays/{job}").json()["done_events"] == 1


def test_a_second_start_says_what_runs(detached: Path) -> None:
    """The words of the program in the background are those of the command, and so is its code."""
    said = _headrace(detached, "up", "--detach", code=2).stderr
    assert said.startswith(f"headrace: a stack runs already on {_recorded(detached).endpoint_url}")


def test_no_room_is_said_before_anything_is_stopped(detached: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever types `down` reads it, and everything still runs."""
    before = _recorded(detached)
    monkeypatch.setattr(emulator, "room_lacking", lambda *_: 2**20)
    with pytest.raises(ConfigProblem, match="so the emulator still runs: free some space"):
        down(Home(detached), erase=False, say=print)
    assert _recorded(detached) == before
    assert all(map(alive, (before.owner, before.emulator, *(getattr(before, name) for name in _PARTS))))


@pytest.mark.parametrize(("status", "kind"), [(1, HeadraceError), (2, ConfigProblem)])
def test_a_start_in_the_background_that_fails(folder: Path, status: int, kind: type[HeadraceError]) -> None:
    """It ends with the words that it said, not with those of a start before."""
    home = Home(folder)
    home.up_log.parent.mkdir(parents=True)
    home.up_log.write_text("headrace: of yesterday\n")
    program = f"import sys; print('headrace: no room', file=sys.stderr); sys.exit({status})"
    with pytest.raises(kind) as caught:
        start_in_background(home, [sys.executable, "-c", program], dict(os.environ))
    assert (type(caught.value), str(caught.value)) == (kind, "no room")


def test_the_processor_lives_and_ends_with_its_stack(folder: Path) -> None:
    """It is started again, missed meanwhile, asked to end in order; without one nobody misses it."""
    launch = replace(
        launch_in(folder), with_processor=True, processor_command=[sys.executable, "-c", PROCESSOR]
    )
    with local_stack(launch) as running:
        first = running.stack.processor
        assert first is not None
        assert wait_until((folder / "run" / "processor.json").exists, 10)
        (folder / "run" / "processor.json").unlink()
        send(first, signal.SIGKILL)
        assert wait_until(lambda: not alive(first), 5)
        finding = find_stack(Home(folder))
        assert finding.status == "half-started"
        assert "processor.log" in finding.reason

        def restarted() -> bool:
            running.check()
            return alive(running.stack.processor) and (folder / "run" / "processor.json").exists()

        assert wait_until(restarted, 10)
    assert (folder / "put down").exists()
    with local_stack(launch_in(folder)) as running:
        running.check()
        assert running.stack.processor is None
        assert find_stack(Home(folder)).status == "running"
