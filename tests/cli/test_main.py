"""The `headrace` process as a person meets it: help, mistakes, interruptions, and the stack's commands."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest

from pipeline.cli import group, main
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.machine.processes import wait_until

COMMAND = [sys.executable, "-m", "pipeline.cli.main"]


def environment(home: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))}
    return kept | {"HEADRACE_HOME": str(home)} | more


def run(home: Path, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(home, **more),
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def outcome(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Exception], tuple[object, str]]:
    """Run a command that fails with the given error; gives exit code and what was said."""

    def run_failing(error: BaseException) -> tuple[object, str]:
        @click.command()
        def failing() -> None:
            raise error

        monkeypatch.setattr(group, "cli", failing)
        monkeypatch.setattr(sys, "argv", ["headrace"])
        with pytest.raises(SystemExit) as caught:
            main.main()
        return caught.value.code, capsys.readouterr().err

    return run_failing


def test_help_lists_every_command_without_importing_any() -> None:
    """`--help` names all commands, and loads neither the settings nor a cloud library for it."""
    code = (
        "import sys; from pipeline.cli.group import cli; cli.main(['--help'], standalone_mode=False);"
        "sys.exit(any(m in sys.modules for m in ('boto3', 'pydantic', 'pyarrow', 'duckdb')))"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0
    assert all(f"  {name} " in answer.stdout for name in group.COMMANDS)


@pytest.mark.parametrize("name", sorted(group.COMMANDS))
def test_a_command_shows_its_help(tmp_path: Path, name: str) -> None:
    """Each command of the table can be imported and describes itself."""
    if not (Path(group.__file__).parent / f"{name}.py").exists():
        pytest.skip("not part of this installation")
    answer = run(tmp_path, name, "--help")
    assert answer.returncode == 0, answer.stderr
    assert "Usage: headrace" in answer.stdout


def test_an_unknown_command_gets_a_hint(tmp_path: Path) -> None:
    """A misspelt command is refused with the one that was probably meant."""
    answer = run(tmp_path, "staus")
    assert answer.returncode == 2
    assert "no command 'staus'; did you mean 'status'?" in answer.stderr


def test_wrong_settings_are_lines_and_exit_2(tmp_path: Path) -> None:
    """Every wrong setting is one line on standard error, without a stack trace."""
    answer = run(tmp_path, "config", "show", HEADRACE_STREAM__SHARDS="x", HEADRACE_QUERRY__ENGINE="x")
    assert answer.returncode == 2
    assert answer.stdout == ""
    assert [line[:10] for line in answer.stderr.splitlines()] == ["headrace: "] * 2


def test_config_show_is_json_on_request(tmp_path: Path) -> None:
    """`config show --json` is one object of keys with value and source, secrets hidden."""
    keys = {"HEADRACE_AWS__ACCESS_KEY_ID": "id", "HEADRACE_AWS__SECRET_ACCESS_KEY": "hunter2"}
    answer = run(tmp_path, "config", "show", "--json", **keys)
    shown = json.loads(answer.stdout)
    assert shown["paths.home"] == {"value": str(tmp_path), "source": "environment HEADRACE_HOME"}
    assert "hunter2" not in answer.stdout + run(tmp_path, "config", "show", **keys).stdout


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ConfigProblem("one\ntwo"), 2, "headrace: one\nheadrace: two\n"),
        (Transient("later"), 1, "headrace: later\n"),
        (KeyboardInterrupt(), 130, "headrace: interrupted\n"),
        (BrokenPipeError(), 1, ""),
        (
            ModuleNotFoundError("no", name="duckdb"),
            2,
            "headrace: this needs the package `duckdb`: pip install 'headrace[local]'\n",
        ),
        (
            OSError(errno.ENOSPC, "full", "/some/file"),
            1,
            "headrace: the disk is full (/some/file): free some space and run the command again\n",
        ),
    ],
)
def test_an_error_is_one_line_and_a_code(
    outcome: Callable[[BaseException], tuple[object, str]],
    error: BaseException,
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a person can mend is said without a stack trace, with an exit code of its own."""
    monkeypatch.setattr(
        main, "_let_go_of_output", lambda: None
    )  # would close the standard output of the tests
    assert outcome(error) == (code, said) or (
        isinstance(error, KeyboardInterrupt) and outcome(error)[0] == code
    )


def test_a_closed_pipe_is_quiet(tmp_path: Path) -> None:
    """`headrace ... | head -1` ends without a word on standard error."""
    program = subprocess.Popen(
        [*COMMAND, "config", "show", "--json"],
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert program.stdout is not None
    assert program.stderr is not None
    program.stdout.close()
    assert program.stderr.read() == b""
    assert program.wait() == 1
    program.stderr.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    """Output that finds no room ends with one line and exit 1."""
    with Path("/dev/full").open("w", encoding="ascii") as full:
        answer = subprocess.run(
            [*COMMAND, "config", "show"],
            env=environment(tmp_path),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert answer.returncode == 1
    assert answer.stderr == "headrace: the disk is full: free some space and run the command again\n"


def test_status_and_down_without_a_stack(tmp_path: Path) -> None:
    """Without a stack `status` says how to start one and exits 1; `down` has nothing to do."""
    answer = run(tmp_path, "status", "--json")
    assert answer.returncode == 1
    report = json.loads(answer.stdout)
    assert (report["status"], report["emulator"]) == ("absent", {"pid": None, "running": False})
    assert "`headrace up`" in report["reason"]
    assert run(tmp_path, "down").returncode == 0


def test_up_refuses_another_endpoint(tmp_path: Path) -> None:
    """A stack of its own and an endpoint from outside contradict each other."""
    answer = run(tmp_path, "up", HEADRACE_AWS__ENDPOINT_URL="http://elsewhere:1")
    assert answer.returncode == 2
    assert "environment HEADRACE_AWS__ENDPOINT_URL" in answer.stderr
    assert "unset it" in answer.stderr


@pytest.mark.stack
def test_up_status_down(tmp_path: Path) -> None:
    """A detached stack is shown as running, refuses a second start, and keeps its stream over down and up."""
    up = run(tmp_path, "up", "--detach")
    try:
        assert up.returncode == 0, up.stderr
        report = json.loads(run(tmp_path, "status", "--json").stdout)
        assert report["status"] == "running"
        assert report["loader"]["running"]
        assert report["loader"]["heartbeat"]["pid"] == report["loader"]["pid"]
        again = run(tmp_path, "up")
        assert again.returncode == 2
        assert f"runs already on {report['endpoint_url']}" in again.stderr
    finally:
        down = run(tmp_path, "down")
    assert down.returncode == 0, down.stderr
    assert "data kept" in down.stderr
    assert run(tmp_path, "up", "--detach").returncode == 0
    assert run(tmp_path, "down", "--wipe").returncode == 0


@pytest.mark.stack
@pytest.mark.parametrize("after_seconds", [0.0, 0.1, 0.3, 0.5, 0.8, 1.2, 2.5])
def test_ctrl_c_is_one_line_at_any_moment(tmp_path: Path, after_seconds: float) -> None:
    """Ctrl-C during `up` never shows a stack trace, and leaves no process and no lost state."""
    program = subprocess.Popen([*COMMAND, "up"], env=environment(tmp_path), stderr=subprocess.PIPE, text=True)
    assert wait_until((tmp_path / "run").exists, 10)
    time.sleep(after_seconds)  # a place in the start, not a wait for something
    program.send_signal(signal.SIGINT)
    _, said = program.communicate(timeout=120)
    # Python ends itself by the signal when it met code made from text (a dataclass); a shell reads both as 130
    assert program.returncode in {0, 130, -signal.SIGINT}, said
    assert "Traceback" not in said
    assert all(line.startswith("headrace: ") for line in said.splitlines() if line)
    assert json.loads(run(tmp_path, "status", "--json").stdout)["status"] == "absent"


@pytest.mark.parametrize(
    "words",
    [
        ("events", "--tenant", "ua", "--entity", b"\xff"),
        ("counts", "--tenant", "ua", "--source", b"\xff"),
        ("trace", b"e\xff", "--tenant", "ua"),
        ("replay", "plan", b"--tenant=\xff"),
        ("produce", b"\xff"),
    ],
)
def test_arguments_that_are_not_utf_8_are_refused(tmp_path: Path, words: tuple[str | bytes, ...]) -> None:
    """Wrong usage, in a sentence that any terminal can show, and no defect; other letters than ASCII are right."""
    done = subprocess.run(
        [*COMMAND, *words], env=environment(tmp_path), capture_output=True, check=False, timeout=120
    )
    assert done.returncode == 2
    assert done.stderr.decode().endswith("\\xff' is not UTF-8\n")
    assert "not UTF-8" not in run(tmp_path, "trace", "é\N{SNOWMAN}", "--tenant", "ua").stderr
