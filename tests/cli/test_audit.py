"""`headrace audit`: what its last line promises, and of what; and what waits, and for whom."""

import json
import os
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from pipeline import wiring
from pipeline.cli import audit, progress
from pipeline.cli.audit import show, waiting_document
from pipeline.cli.loader_state import LoaderState, knows_rules, loader_state
from pipeline.config import Settings, load_settings
from pipeline.core.audit import Line, Report
from pipeline.laptop.home import Home, prepare
from pipeline.laptop.stack import Stack, write_stack
from pipeline.machine.processes import ProcessRef, process_ref

HERE = "http://127.0.0.1:4567"
NOW = 2_000_000_000.0
STATES = {
    "running": LoaderState("running", "a loader runs", 0.3),
    "not running": LoaderState("not running", "run `headrace up`", 99.0),
    "unknown": LoaderState("unknown", "who knows"),
}


def _stack(folder: Path, *, loads: bool | None, beat_age: float | None, endpoint: str = HERE) -> Settings:
    """Record a stack whose loader lives, is dead, or (None) is not its own."""
    home, me = Home(folder), process_ref(os.getpid())
    prepare(home)
    loader = me if loads else ProcessRef(os.getpid(), "another start")
    write_stack(
        home,
        Stack(
            endpoint_url=HERE,
            port=4567,
            phase="running",
            started_at=0,
            owner=None,
            emulator=me,
            loader=loader if loads is not None else None,
            has_loader=loads is not None,
        ),
    )
    if beat_age is not None:
        home.heartbeat.parent.mkdir(exist_ok=True)
        home.heartbeat.write_bytes(b"{}")
        os.utime(home.heartbeat, (NOW - beat_age, NOW - beat_age))
    return load_settings(
        {"paths": {"home": folder}, "aws": {"endpoint_url": endpoint, "region": "us-east-1"}}
    )


@pytest.mark.parametrize(
    ("loads", "beat_age", "word", "hint"),
    [
        (True, 0.4, "running", "--wait 60"),
        (True, 30.0, "stalled", "30 s old"),
        (True, None, "stalled", "gives no heartbeat"),
        (False, 0.4, "not running", "`headrace up`"),
        (None, 0.4, "running", "--wait 60"),
        (None, 30.0, "unknown", "`headrace worker`"),
        (None, None, "unknown", "`headrace worker`"),
    ],
)
def test_who_loads_is_seen(
    *, loads: bool | None, beat_age: float | None, word: str, hint: str, tmp_path: Path
) -> None:
    """By the stack's record and the heartbeat, each with a next step."""
    state = loader_state(_stack(tmp_path, loads=loads, beat_age=beat_age), NOW)
    assert (state.word, state.heartbeat_age_seconds) == (word, beat_age)
    assert hint in state.next_step


@pytest.mark.parametrize(
    ("loads", "beat", "known"),
    [
        (True, b'{"rules":"abc"}', True),
        (True, b'{"rules":"old"}', False),
        (True, b"{}", False),
        (True, None, False),
        (False, b'{"rules":"old"}', True),
        (None, None, False),
    ],
)
def test_whether_the_loader_knows_the_rules(
    *, loads: bool | None, beat: bytes | None, known: bool, tmp_path: Path
) -> None:
    """By its heartbeat; where no loader runs none has older ones, and of one that cannot be seen nothing is known."""
    settings = _stack(tmp_path, loads=loads, beat_age=None if beat is None else 0.4)
    if beat is not None:
        Home(tmp_path).heartbeat.write_bytes(beat)
    assert knows_rules(settings, "abc", NOW) is known


def test_waiting_is_seen_in_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is still on its way is told on standard error while the audit looks again, until all agrees."""
    reports = [Report(in_flight=2), Report(in_flight=1), Report()]
    shown: list[int] = []
    monkeypatch.setattr(audit, "LOOK_AGAIN_SECONDS", 0)
    monkeypatch.setattr(wiring, "audit", lambda _settings, _progress: reports.pop(0))
    monkeypatch.setattr(progress.Progress, "update", lambda _self, done: shown.append(done))
    monkeypatch.setattr(audit, "settings_with_stack", load_settings)
    monkeypatch.setattr(audit, "loader_state", lambda _settings, _now: STATES["running"])
    done = CliRunner().invoke(audit.command, ["--wait", "60", "--json"], standalone_mode=False)
    assert (json.loads(done.stdout)["in_flight"], shown, reports) == (0, [2, 1], [])


def test_of_another_endpoint_nothing_is_known(tmp_path: Path) -> None:
    """A stack of another endpoint says nothing of what is audited, and neither does no stack: AWS has none here."""
    other = _stack(tmp_path, loads=False, beat_age=0.4, endpoint="http://127.0.0.1:9")
    assert loader_state(other, NOW).word == "unknown"
    assert loader_state(load_settings({"paths": {"home": tmp_path / "none"}}), time.time()).word == "unknown"


def _shown(report: Report, state: LoaderState) -> list[str]:
    console = Console(record=True, width=400)
    show(report, console, state, NOW)
    return console.export_text().splitlines()


@pytest.mark.parametrize("word", STATES)
def test_the_last_line_says_that_nobody_reads(word: str) -> None:
    """Balanced is what was loaded; what lies in the stream of a dead loader is not in it."""
    report = Report()
    report.lines["shardId-000000000000", "2024-03-10"] = Line(1, 1)
    last = _shown(report, STATES[word])[-1]
    assert last.startswith("balanced")
    assert ("nobody reads the stream" in last and "`headrace up`" in last) == (word == "not running")


@pytest.mark.parametrize("word", STATES)
def test_what_waits_is_said_with_the_next_step(word: str) -> None:
    """How many, since when, and who would load them; for a person and for a program."""
    report = Report(in_flight=1_234, in_flight_since_us=int((NOW - 77) * 1e6))
    *_, waits, last = _shown(report, STATES[word])
    assert waits.startswith("1,234 acknowledged events wait to be loaded: the archive is 77 s behind; ")
    assert waits.endswith(STATES[word].next_step)
    assert last == "NOT balanced yet: what is loaded agrees, and events wait"
    assert waiting_document(report, STATES[word], NOW) == {
        "events": 1_234,
        "behind_seconds": 77.0,
        "loader": word,
        "heartbeat_age_seconds": STATES[word].heartbeat_age_seconds,
        "next_step": STATES[word].next_step,
    }


def test_where_nothing_waits_nothing_is_behind() -> None:
    """No step is next, but where nobody reads: units without a receipt may be in the stream."""
    assert waiting_document(Report(), STATES["not running"], NOW)["next_step"] == "run `headrace up`"
    found = waiting_document(Report(), STATES["running"], NOW)
    assert (found["events"], found["behind_seconds"], found["next_step"]) == (0, None, None)
