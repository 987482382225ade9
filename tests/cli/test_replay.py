"""`headrace replay` and `headrace process`: what a person and a program see."""

import json
import os
import sys
import threading
from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
from click.exceptions import Abort
from click.testing import CliRunner, Result

from pipeline.cli import process as process_command
from pipeline.cli import progress, replay_results, waiting
from pipeline.cli import replay as replay_command
from pipeline.cli.settings import emulator_overrides, processor_environment
from pipeline.config import load_settings
from pipeline.core.errors import ConfigProblem, NotFound
from pipeline.core.replay import Selection
from pipeline.core.replay_job import Job, JobState
from pipeline.facts import ReplayJobStarted
from pipeline.flows import replay_plan
from pipeline.machine import processor
from tests.flows.replaying import Yard, made

DOORS = ("--tenant", "acme", "--type", "door.opened")


@pytest.fixture
def yard(monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A loaded archive in memory, behind the command."""
    found = Yard()
    found.load(*[made(number) for number in range(60)])
    parts = SimpleNamespace(
        plan=found.plan_ports(), start=found.replay_ports(), jobs=found.jobs, queue=found.queue
    )
    monkeypatch.setattr(replay_command, "_parts", lambda _settings: parts)
    monkeypatch.setattr(replay_command, "settings_with_stack", lambda _home: None)
    known = SimpleNamespace(tenants=["acme"], schemas=["door.opened", "meter.read"])
    monkeypatch.setattr(replay_command, "_rules", lambda _settings: known)
    monkeypatch.setattr(replay_results, "settings_with_stack", lambda _home: None)
    monkeypatch.setattr(replay_results, "_rules", lambda _settings: known)
    monkeypatch.setattr(replay_results, "_days", lambda _settings: found.days)
    return found


@pytest.fixture
def run(yard: Yard) -> Callable[..., Result]:
    """The command; errors leave it as they are."""
    del yard
    return lambda *arguments: CliRunner().invoke(replay_command.command, arguments, standalone_mode=False)


def test_a_plan(run: Callable[..., Result], yard: Yard) -> None:
    """Events, messages, chunks, bytes, cost and times, for people and for programs; nothing changes."""
    found = json.loads(run("plan", *DOORS, "--to", "2024-03-09", "--json").stdout)
    assert found["events"] == found["rows"] == 16
    assert (found["messages"], found["chunks"]) == (2, 2)
    assert found["selection"]["until"] == "2024-03-10T00:00:00Z"
    assert found["first_event_time"].startswith("2024-03-08T")
    assert found["bytes"] > 0
    assert found["dynamodb_write_units"] == 2 * 16  # each event may be of another entity
    assert found["dollars"] > 32 * 0.625 / 1e6
    assert {found["selection"][name] for name in ("tenant_id", "event_type")} == {"acme", "door.opened"}
    one = json.loads(run("plan", "--tenant", "acme", "--entity", "a", "--json").stdout)
    assert (one["events"], one["dynamodb_write_units"]) == (16, 2 * 1)
    text = run("plan", *DOORS).stdout
    assert text.startswith("events    24, from 2024-03-08T")
    assert "3 in 3 chunks" in text
    assert run("plan", "--tenant", "acme", "--entity", "nobody").stdout == "nothing to replay\n"
    assert (
        "1 in 1 chunk\n"
        in run(
            "plan", "--tenant", "acme", "--entity", "a", "--type", "door.opened", "--to", "2024-03-08"
        ).stdout
    )
    assert (yard.jobs.jobs, yard.queue.waiting) == ({}, [])


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_nothing_to_replay(run: Callable[..., Result], yard: Yard, form: tuple[str, ...]) -> None:
    """No job is made, and whoever takes its id from standard output gets none."""
    found = run("start", "--tenant", "acme", "--entity", "nobody", *form)
    assert (found.return_value, found.stdout) == (1, "")
    assert found.stderr == "nothing to replay: no job was made\n"
    assert yard.jobs.jobs == {}


def test_resuming_what_is_not_there(run: Callable[..., Result], yard: Yard) -> None:
    """An id is printed once it is known to be one; also of a job that cannot go on."""
    found = run("start", "--resume", "nope")
    assert (isinstance(found.exception, NotFound), found.stdout) == (True, "")
    job = run("start", *DOORS).stdout.strip()
    yard.jobs.move(job, ("sent",), "stale", 1, "gone")
    found = run("start", "--resume", job)
    assert (isinstance(found.exception, ConfigProblem), found.stdout) == (True, "")


def _interrupted(*_arguments: object, **_named: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("what", ["open", "snapshot", "freeze", "stored", "send", "wait"])
def test_an_interrupted_start_says_what_there_is(
    run: Callable[..., Result], yard: Yard, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Before the job is stored: that there is none. From then on: its id, and the command that goes on."""
    stored = yard.jobs.freeze

    def store_and_interrupt(*arguments: Any) -> None:
        stored(*arguments)
        raise KeyboardInterrupt

    place, name, deed = {
        "open": (replay_command, "_parts", _interrupted),
        "snapshot": (replay_plan, "snapshot", _interrupted),
        "freeze": (yard.jobs, "freeze", _interrupted),
        "stored": (yard.jobs, "freeze", store_and_interrupt),
        "send": (yard.queue, "send", _interrupted),
        "wait": (waiting, "wait_for", _interrupted),
    }[what]
    monkeypatch.setattr(place, name, deed)
    found = run("start", *DOORS, "--wait")
    assert isinstance(found.exception, Abort)
    if what in ("open", "snapshot", "freeze"):
        assert (found.stdout, found.stderr.splitlines()[0]) == ("", "no job was made")
        return
    (job,) = yard.jobs.jobs
    assert found.stdout == ("" if what == "stored" else f"{job}\n")
    assert f"`headrace replay start --resume {job}" in found.stderr


def test_a_start_that_takes_long_shows_how_far_it_is(
    run: Callable[..., Result], yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in a pipe: what it is at, from planning on, on standard error."""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.001)
    monkeypatch.setattr(progress, "TELL_SECONDS", 0.001)
    freeze, send = yard.jobs.freeze, yard.queue.send
    told = threading.Event()
    seen: list[str] = []

    def tell(stages: Any, line: str) -> None:
        seen.append(line.partition(":")[0])
        told.set()
        del stages

    def slowly(call: Callable[..., None]) -> Callable[..., None]:
        def slow(*arguments: Any) -> None:
            told.clear()
            assert told.wait(10)
            call(*arguments)

        return slow

    monkeypatch.setattr(progress.Stages, "_tell", tell)
    monkeypatch.setattr(yard.jobs, "freeze", slowly(freeze))
    monkeypatch.setattr(yard.queue, "send", slowly(send))
    assert run("start", *DOORS).return_value == 0
    assert [name for name, _ in groupby(seen) if name != "plan"] == ["freeze", "send"]


def test_status_of_a_job_that_is_being_sent(run: Callable[..., Result], yard: Yard) -> None:
    """How many messages are sent, and how many wait in the queue."""
    job = run("start", *DOORS).stdout.strip()
    shown = run("status", job).stdout
    assert ("so far" in shown, "queue     about 3 messages of all jobs" in shown) == (False, True)
    yard.jobs.move(job, ("sent",), "sending", 1)
    yard.jobs.note_sent(job, 2, 2)
    assert "sent      2 of them so far" in run("status", job).stdout
    assert json.loads(run("status", job, "--json").stdout)["sent_messages"] == 2


def test_results(run: Callable[..., Result], yard: Yard) -> None:
    """The rows of an entity's days, by day and scope, for people and for programs."""
    for more in ((), ("--include-duplicates", "--to", "2024-03-08")):
        run("start", "--tenant", "acme", "--entity", "a", *more)
    yard.processor().run(drain=True)
    asked = ("results", "--tenant", "acme", "--entity", "a")
    lines = run(*asked).stdout.splitlines()
    rows = yard.days.find("acme", "a", "2024-03-08", "2024-03-10")
    assert lines[0].split() == [
        *("day", "scope", "events", "duplicates", "inputs_hash", "sample_ids", "basis", "job")
    ]
    assert len(lines) == 1 + len(rows) > 2
    for line, row in zip(lines[1:], rows, strict=True):
        assert line.split() == [
            *(row.dt, row.scope, str(row.events), str(row.duplicates), row.inputs_hash),
            *(*row.sample_ids, str(row.basis), row.job),
        ]
    found = json.loads(run(*asked, "--from", "2024-03-08", "--to", "2024-03-08", "--json").stdout)
    assert [(one["day"], one["scope"]) for one in found] == [
        ("2024-03-08", "all"),
        ("2024-03-08", "all,duplicates"),
    ]
    assert found[0]["sample_ids"] == list(rows[0].sample_ids)
    assert found[0]["first_event_time"].startswith("2024-03-08T")
    assert "scope says `duplicates`" in run("results", "--help").stdout.replace("\n ", "")


def test_no_results(run: Callable[..., Result]) -> None:
    """It is said on standard error; a program gets an empty array, and an unknown tenant is named."""
    found = run("results", "--tenant", "acme", "--entity", "nobody")
    assert (found.stdout, "no results" in found.stderr) == ("", True)
    assert json.loads(run("results", "--tenant", "acme", "--entity", "nobody", "--json").stdout) == []
    assert isinstance(run("results", "--tenant", "acmee", "--entity", "a").exception, ConfigProblem)


def test_a_job_from_start_to_done(run: Callable[..., Result], yard: Yard) -> None:
    """Its id alone is on standard output; status shows how far it is; the list has the newest first."""
    first = run("start", *DOORS).stdout.strip()
    assert "sent    0 of 24 events, 0 of 3 chunks" in run("status", first).stdout
    yard.clock.advance(60)
    second = json.loads(run("start", "--tenant", "acme", "--entity", "a", "--json").stdout)
    yard.processor().run(drain=True)
    shown = run("status", first, "--wait")
    assert (shown.return_value, "done    24 of 24 events" in shown.stdout) == (0, True)
    listed = json.loads(run("status", "--json").stdout)
    assert [one["job"] for one in listed] == [second["job"], first]
    assert {one["state"] for one in listed} == {"done"}
    assert [line.split("  ")[0] for line in run("status").stdout.splitlines()] == [second["job"], first]


def test_a_job_that_goes_wrong(run: Callable[..., Result], yard: Yard) -> None:
    """Exit code 1, what happened and the next step; resumed it goes on."""
    job = run("start", *DOORS).stdout.strip()
    yard.jobs.move(job, ("sent",), "failed", 1, "chunk 1: no row")
    shown = run("status", job, "--wait")
    assert shown.return_value == 1
    assert f"headrace replay start --resume {job}" in shown.stderr
    assert run("start", "--resume", job).return_value == 0
    assert yard.jobs.get(job).state == "sent"
    yard.jobs.move(job, ("sent",), "stale", 1, "an object is gone")
    assert run("status", job).return_value == 1
    assert isinstance(run("start", "--resume", job).exception, ConfigProblem)


@pytest.mark.parametrize(
    ("state", "word"), [("sending", "not all of its messages are sent"), ("sent", "`headrace process`")]
)
def test_waiting_for_nothing(
    run: Callable[..., Result], yard: Yard, monkeypatch: pytest.MonkeyPatch, state: JobState, word: str
) -> None:
    """Whoever waits while nothing happens is told what may be wrong, and the command that goes on."""
    monkeypatch.setattr(replay_command, "PATIENCE_SECONDS", 0.0)
    job = run("start", *DOORS).stdout.strip()
    yard.jobs.move(job, ("sent",), state, 1)
    looks, get = iter(range(100)), yard.jobs.get

    def looked(name: str) -> Job:
        if next(looks) == 2:
            yard.processor().run(drain=True)
        return get(name)

    monkeypatch.setattr(yard.jobs, "get", looked)
    shown = run("status", job, "--wait")
    assert shown.return_value == 0
    assert shown.stderr.count(word) == 1
    assert f"`headrace replay start --resume {job}`" in shown.stderr


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("start",), "--tenant"),
        (("plan", "--tenant", "acmee", "--entity", "a"), 'did you mean "acme"?'),
        (("plan", "--tenant", "acme", "--type", "door.open"), 'did you mean "door.opened"?'),
        (("plan", *DOORS, "--entity", ""), "--entity"),
        (("start", "--resume", "x", "--entity", ""), "--resume"),
        (("plan", "--tenant", "acme"), "--entity"),
        (("plan", *DOORS, "--from", "2024-03-09T10:00:00Z"), "whole days"),
        (("plan", *DOORS, "--from", "yesterday"), "2013-07-04"),
        (("plan", *DOORS, "--from", "2024-03-09", "--to", "2024-03-08"), "earlier"),
        (("start", "--resume", "x", "--tenant", "acme"), "--resume"),
        (("status", "--wait"), "id of a job"),
    ],
)
def test_wrong_usage(run: Callable[..., Result], arguments: tuple[str, ...], word: str) -> None:
    """It is named with what to give instead."""
    found = run(*arguments)
    assert isinstance(found.exception, ConfigProblem)
    assert word in str(found.exception)


def test_an_unknown_job(run: Callable[..., Result]) -> None:
    """It is not found."""
    assert isinstance(run("status", "nothing").exception, NotFound)


def test_what_a_producer_wrote_does_nothing_to_a_terminal(run: Callable[..., Result], yard: Yard) -> None:
    """Control characters are shown, not sent."""
    job = yard.start(Selection("acme", "a\x1b[31m")).id
    assert "entity a\\x1b[31m" in run("status", job).stdout
    yard.jobs.jobs[job] = msgspec.structs.replace(yard.jobs.jobs[job], state="failed", reason="\x1b")
    assert "\x1b" not in run("status", job).stderr


def test_a_processor_of_a_local_stack_gets_nothing_of_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A real key or profile never meets an emulator; for AWS itself they stay."""
    monkeypatch.setenv("AWS_PROFILE", "real")
    monkeypatch.setenv("HEADRACE_REPLAY__QUEUE", "other")
    local = load_settings(emulator_overrides("http://127.0.0.1:1"), environ={})
    cloud = load_settings({"aws": {"region": "eu-west-1"}}, environ={})
    assert "AWS_PROFILE" not in processor_environment(local)
    assert processor_environment(cloud)["AWS_PROFILE"] == "real"
    for one in (local, cloud):
        assert processor_environment(one).get("HEADRACE_REPLAY__QUEUE") != "other"


def test_a_processor_gets_the_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The process that does the work has the settings of the command, and its exit code is the command's."""
    report = tmp_path / "report"
    script = f"import os, sys; open({str(report)!r}, 'w').write(os.environ['HEADRACE_AWS__ENDPOINT_URL'] + str(sys.argv)); sys.exit(3)"
    monkeypatch.setattr(processor, "PROCESSOR", (sys.executable, "-c", script))
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.setenv("HEADRACE_AWS__ENDPOINT_URL", "http://127.0.0.1:1")
    found = CliRunner().invoke(process_command.command, ["--drain"], standalone_mode=False)
    assert found.return_value == 3
    assert report.read_text() == "http://127.0.0.1:1['-c', '--drain']"


@pytest.mark.parametrize("emf", [True, False])
def test_a_start_tells_its_numbers(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], *, emf: bool
) -> None:
    """With `metrics.emf` facts are documents on standard error, as worker `replay`; a person's terminal has none."""
    settings = load_settings({"metrics": {"emf": emf}}, environ={})
    monkeypatch.setattr("pipeline.wiring.replay_parts", lambda _settings, _clock, facts: facts)
    told = replay_command._parts(settings)
    assert callable(told)
    told(ReplayJobStarted(job="j", chunks=3))
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [(one["worker"], one["started_replays"], one["planned_replay_chunks"]) for one in lines] == (
        [("replay", 1, 3)] if emf else []
    )
