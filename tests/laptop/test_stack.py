"""The local stack with the real emulator: kept data, lost data, damaged records."""

import fcntl
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.laptop import emulator
from pipeline.laptop.home import Home, prepare, wipe
from pipeline.laptop.launch import local_stack
from pipeline.laptop.stack import Stack, find_stack, write_stack
from pipeline.machine.processes import ProcessRef, alive, process_ref, send, wait_until
from tests.laptop.stack_kit import (
    kill_emulator,
    kinesis,
    launch_in,
    put_object,
    start_detached,
    stop,
    streams,
)

pytestmark = pytest.mark.stack


def test_down_and_up_keep_everything(folder: Path) -> None:
    """A stack that is stopped and started again holds the same streams, and the loader drained first."""
    stack = start_detached(folder)
    assert find_stack(Home(folder)).status == "running"
    kinesis(stack, "CreateStream", StreamName="kept", ShardCount=1)
    assert stop(folder) == [f"stopped; data kept in {folder}"]
    assert (folder / "drained").read_text(encoding="utf-8") == stack.endpoint_url
    assert find_stack(Home(folder)).status == "absent"
    assert streams(start_detached(folder)) == ["kept"]


def test_a_foreground_stack_ends_with_its_block(folder: Path) -> None:
    """At the end of the block both processes are gone and the state is saved."""
    with local_stack(launch_in(folder)) as running:
        stack = running.stack
        running.check()
    assert not alive(stack.loader)
    assert not alive(stack.emulator)
    assert emulator.is_saved(Home(folder))


def test_a_killed_emulator_is_refused(folder: Path) -> None:
    """After SIGKILL `up` refuses, names what happened and the next step; `--fresh` starts empty."""
    stack = start_detached(folder)
    kinesis(stack, "CreateStream", StreamName="lost", ShardCount=1)
    put_object(stack, "/some-bucket", b"")
    put_object(stack, "/some-bucket/key", b"stays")
    kill_emulator(stack)
    assert find_stack(Home(folder)).status == "killed"
    with pytest.raises(ConfigProblem, match=r"ended without saving.*headrace up --fresh"):
        start_detached(folder)
    with pytest.raises(HeadraceError, match="ended without saving"):
        stop(folder)
    assert not alive(stack.loader)
    with pytest.raises(ConfigProblem, match="ended without saving"):
        start_detached(folder)
    assert streams(start_detached(folder, fresh=True)) == []
    assert not (folder / "objects").exists() or not any((folder / "objects").rglob("key"))


def test_a_kill_is_noticed_without_its_record(folder: Path) -> None:
    """Deleting run/ after a kill does not hide that state was lost."""
    stack = start_detached(folder)
    put_object(stack, "/some-bucket", b"")
    put_object(stack, "/some-bucket/key", b"stays")
    kill_emulator(stack)
    assert stack.loader is not None
    send(stack.loader, signal.SIGKILL)
    for path in (folder / "run").iterdir():
        path.unlink()
    with pytest.raises(ConfigProblem, match="ended without saving"):
        start_detached(folder)


def test_cut_state_is_refused(folder: Path) -> None:
    """A state file that is shorter than it was saved is not started from."""
    start_detached(folder)
    stop(folder)
    path = folder / "state" / "kinesis.json"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigProblem, match="ended without saving"):
        start_detached(folder)


@pytest.mark.parametrize("content", [b"x", b"[1]"])
def test_state_that_cannot_be_restored_is_left_alone(folder: Path, content: bytes) -> None:
    """An emulator that starts empty because it cannot read its state is stopped before it overwrites that state."""
    start_detached(folder)
    stop(folder)
    path = folder / "state" / "kinesis.json"
    damaged = content.ljust(path.stat().st_size)
    path.write_bytes(damaged)
    with pytest.raises(HeadraceError, match="could not read"):
        start_detached(folder)
    assert path.read_bytes() == damaged


def test_an_emulator_that_did_not_save_is_reported(folder: Path) -> None:
    """A state folder that cannot be written when the emulator ends is a loss that `down` reports and `up` refuses."""
    stack = start_detached(folder)
    (folder / "state").rmdir()
    (folder / "state").write_text("in the way", encoding="utf-8")
    with pytest.raises(HeadraceError, match="ended without saving"):
        stop(folder)
    assert not alive(stack.emulator)
    (folder / "state").unlink()
    put_in_place = folder / "objects" / "x"
    put_in_place.write_bytes(b"an object")
    assert find_stack(Home(folder)).status == "killed"


def test_no_room_to_save_keeps_the_emulator(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With too little room on disk `down` stops the loader only, says how much is missing, and may be repeated."""
    stack = start_detached(folder)
    with monkeypatch.context() as patch:
        patch.setattr(emulator, "SAVE_ROOM", 1e9)
        with pytest.raises(ConfigProblem, match=r"lacks about \d+ MiB.*down --wipe"):
            stop(folder)
    assert alive(stack.emulator)
    assert not alive(stack.loader)
    stop(folder)
    assert emulator.is_saved(Home(folder))


def test_a_second_up_is_refused(folder: Path) -> None:
    """A stack that runs is named with its address, and so is a start that is under way."""
    stack = start_detached(folder)
    with pytest.raises(ConfigProblem, match=f"runs already on {stack.endpoint_url}"):
        start_detached(folder)
    stop(folder)
    with (folder / "run" / "lock").open("a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ConfigProblem, match="another `headrace up` or `headrace down`"):
            start_detached(folder)


def test_a_taken_port_is_refused(folder: Path) -> None:
    """A port that somebody listens on is refused before anything is made."""
    with socket.create_server((emulator.HOST, 0)) as server:
        port = server.getsockname()[1]
        with (
            pytest.raises(ConfigProblem, match=f"port {port} .*--port"),
            local_stack(launch_in(folder, port=port)),
        ):
            pass
    assert not folder.exists()


def test_a_free_port_that_was_taken_meanwhile_is_tried_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losing the race for a free port costs a try, not the start."""
    with socket.create_server((emulator.HOST, 0)) as server:
        ports = iter([server.getsockname()[1], emulator.free_port()])
        monkeypatch.setattr(emulator, "free_port", lambda: next(ports))
        with local_stack(launch_in(folder)) as running:
            assert running.stack.port != server.getsockname()[1]


@pytest.mark.parametrize("content", [b"", b'{"endpoint_url": "http://127', b"[]", b'{"port": 1}'])
def test_a_damaged_record_is_survived(folder: Path, content: bytes) -> None:
    """With a damaged stack.json `down` still finds both processes and saves, and `up` starts again."""
    stack = start_detached(folder)
    kinesis(stack, "CreateStream", StreamName="kept", ShardCount=1)
    (folder / "run" / "stack.json").write_bytes(content)
    finding = find_stack(Home(folder))
    assert finding.status == "half-started"
    assert "is damaged" in finding.reason
    with pytest.raises(ConfigProblem, match="is damaged"):
        start_detached(folder)
    stop(folder)
    assert not alive(stack.loader)
    assert not alive(stack.emulator)
    assert streams(start_detached(folder)) == ["kept"]


def test_a_recycled_pid_is_left_alone(folder: Path) -> None:
    """A process that has the recorded pid but started at another time is neither believed nor killed."""
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        home = Home(folder)
        prepare(home)
        old = ProcessRef(stranger.pid, "another start")
        stack = Stack(
            endpoint_url="http://x",
            port=1,
            phase="running",
            started_at=0,
            owner=old,
            emulator=old,
            loader=old,
        )
        write_stack(home, stack)
        emulator.mark_saved(home)
        assert find_stack(home).status == "absent"
        stop(folder)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_down_wipes(folder: Path) -> None:
    """`down --wipe` deletes data and record but neither settings nor logs."""
    start_detached(folder)
    (folder / "headrace.toml").write_text("", encoding="utf-8")
    stop(folder, erase=True)
    assert sorted(path.name for path in folder.iterdir()) == [
        ".headrace-home",
        "headrace.toml",
        "logs",
        "run",
    ]


def test_a_foreign_folder_is_never_wiped(tmp_path: Path) -> None:
    """A folder with `objects` that headrace did not make (a git repository) is neither used nor emptied."""
    (tmp_path / "objects").mkdir()
    (tmp_path / "objects" / "pack").write_bytes(b"precious")
    with pytest.raises(ConfigProblem, match="did not make"):
        prepare(Home(tmp_path))
    with pytest.raises(ConfigProblem, match="not a home"):
        wipe(Home(tmp_path))
    assert (tmp_path / "objects" / "pack").exists()


def test_a_home_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A home that cannot be a folder is one problem with its next step."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigProblem, match=r"cannot be written.*--home"):
        prepare(Home(tmp_path / "file"))


def test_a_missing_emulator_names_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ministack the message says what to install."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with (
        pytest.raises(ConfigProblem, match=r"pip install 'headrace\[local\]'"),
        local_stack(launch_in(folder)),
    ):
        pass


def test_a_zombie_is_dead() -> None:
    """A child that ended and was not waited for counts as gone."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    ref = process_ref(child.pid)
    assert wait_until(lambda: not alive(ref), 10)
    child.wait()
