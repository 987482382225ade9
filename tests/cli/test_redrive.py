"""`headrace quarantine` and `headrace redrive`: what a person and a program see, over an archive in memory."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from pipeline import wiring
from pipeline.cli import audit as audit_command
from pipeline.cli import quarantine, redrive
from pipeline.cli.loader_state import LoaderState
from pipeline.core.errors import ConfigProblem, NotFound
from tests.flows.deployment import Deployment
from tests.flows.redriving import FIXED, archived, bare, labelled, ports_of, reading, send, strict_house

Run = Callable[..., Result]


@pytest.fixture
def house() -> Deployment:
    """Three refused units on one day, one on the next; one says hostile things of itself."""
    made = strict_house()
    send(made, labelled(1), bare(2), b"\x1b[31mrubbish\xff", bare(3))
    made.clock.advance(86_400)
    send(made, bare(4, tenant_id="\x1b[2J" + "x" * 60))
    return made


@pytest.fixture
def run(house: Deployment, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The commands over the archive."""
    monkeypatch.setattr(wiring, "quarantine", lambda _settings, _progress: reading(house))
    monkeypatch.setattr(wiring, "redriving", lambda _settings, _facts, _progress: ports_of(house))
    monkeypatch.setattr(wiring, "load_limits", lambda _settings: house.limits)
    monkeypatch.setattr(wiring, "rules", lambda _settings: FIXED)
    monkeypatch.setattr(redrive, "fact_sink", lambda _settings, _worker: house.facts)
    for module in (quarantine, redrive):
        monkeypatch.setattr(module, "settings_with_stack", lambda _home: None)
    monkeypatch.setattr(redrive, "_is_known", lambda _settings: False)
    commands = {"quarantine": quarantine.command, "redrive": redrive.command}
    return lambda name, *words: CliRunner().invoke(commands[name], words)


def test_list_counts_by_day_code_type_and_tenant(run: Run) -> None:
    """A line per group, the largest of a day first; what names itself oddly is escaped and cut."""
    done = run("quarantine", "list")
    assert (done.exit_code, done.stderr) == (0, "4 refused units, 0 of them redriven\n")
    head, *lines = done.stdout.splitlines()
    assert head.split() == [
        "day",
        "code",
        "type",
        "tenant",
        "units",
        "redriven",
        *("first", "arrival") * 1,
        "last",
        "arrival",
    ]
    assert lines[0].split() == [
        *("2024-03-10", "schema_mismatch", "door", "acme", "2", "0"),
        *("2024-03-10T12:00:01Z", "2024-03-10T12:00:03Z"),
    ]
    assert lines[1].split()[:6] == ["2024-03-10", "not_json", "-", "-", "1", "0"]
    assert lines[2].split()[3].startswith("\\x1b[2Jxxx")
    assert lines[2].split()[3].endswith("…")
    assert "\x1b" not in done.stdout


def test_list_filters_and_is_cut(run: Run) -> None:
    """Options choose; lines beyond the limit are counted; nothing at all is said."""
    assert run("quarantine", "list", "--reason", "not_json").stdout.count("\n") == 2
    assert "2 lines more" in run("quarantine", "list", "--limit", "1").stderr
    done = run("quarantine", "list", "--tenant", "nobody")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "", "nothing was refused that is like this\n")
    found = json.loads(run("quarantine", "list", "--from", "2024-03-11", "--json").stdout)
    assert [(one["day"], one["code"], one["tenant_id"][:4], one["units"]) for one in found] == [
        ("2024-03-11", "bad_envelope", "\x1b[2J", 1)
    ]
    wrong = run("quarantine", "list", "--reason", "nonsense")
    assert wrong.exit_code == 2
    assert "schema_mismatch" in wrong.stderr


def test_show_escapes_what_it_shows(run: Run) -> None:
    """Reason, origin and bytes of each unit; no control character reaches the terminal."""
    done = run("quarantine", "show", "--reason", "not_json")
    assert done.exit_code == 0
    lines = dict(line.split(maxsplit=1) for line in done.stdout.splitlines())
    assert lines["unit"] == "2024-03-10/0001-1/1"
    assert lines["refused"].startswith("not_json: ")
    assert lines["says"] == "nothing of itself"
    assert lines["arrived"].startswith("2024-03-10T12:00:02Z  shardId-000000000000  ")
    assert lines["redriven"] == "no"
    assert lines["bytes"] == "13: \\x1b[31mrubbish\\xff"
    every = run("quarantine", "show")
    assert "\x1b" not in every.stdout
    assert every.stdout.count("unit  ") == 4


def test_show_cuts_and_limits(run: Run) -> None:
    """Long bytes are cut where asked, and more units than asked are told."""
    done = run("quarantine", "show", "--limit", "1", "--bytes", "5")
    assert '{"eve … ' in done.stdout
    assert "bytes more: --raw writes them all" in done.stdout
    assert done.stderr == "the first 1 shown; there are more: --limit N shows them\n"


def test_show_one_unit_by_name(run: Run) -> None:
    """A name leads to its unit, whole as JSON or as the very bytes."""
    done = run("quarantine", "show", "2024-03-10/0001-1/1", "--raw")
    assert done.stdout_bytes == b"\x1b[31mrubbish\xff"
    found = json.loads(run("quarantine", "show", "2024-03-10/0001-1/1", "--json").stdout)
    assert (found["raw"], found["raw_base64"]) == (None, "G1szMW1ydWJiaXNo/w==")
    found = json.loads(run("quarantine", "show", "2024-03-10/0001-000000000001/0", "--json").stdout)
    assert found["raw"] == bare(2).decode()
    assert found["redriven"] is None
    run("redrive", "--all")
    found = json.loads(run("quarantine", "show", "2024-03-10/0001-1/0", "--json").stdout)
    assert found["redriven"]["as"] == "0002-000000000001"
    assert isinstance(run("quarantine", "show", "2024-03-10/0001-1/99").exception, NotFound)
    assert isinstance(run("quarantine", "show", "2024-03-10/0009-1/0").exception, NotFound)
    assert isinstance(run("quarantine", "show", "0001-1/0").exception, ConfigProblem)


@pytest.mark.parametrize(
    "words",
    [
        ("show", "--raw"),
        ("show", "2024-03-10/0001-1/0", "--reason", "not_json"),
    ],
)
def test_wrong_usage_of_show(run: Run, words: tuple[str, ...]) -> None:
    """Bytes of one unit only, and a name needs no options."""
    assert run("quarantine", *words).exit_code == 2


def test_redrive_says_what_it_would_do_and_did(run: Run, house: Deployment) -> None:
    """A dry run, the run, and the run again: the same figures, then nothing."""
    dry = run("redrive", "--all", "--dry-run")
    assert (dry.exit_code, dry.stderr.count("\n")) == (0, 0)
    assert dry.stdout.splitlines() == [
        "looked at        4 refused units",
        "would redrive    2  (schema_mismatch 2)",
        "refused still    2  (bad_envelope 1, not_json 1), by today's rules",
    ]
    assert len(archived(house)) == 1
    done = run("redrive", "--all")
    assert done.stdout.splitlines() == [
        "looked at        4 refused units",
        "redriven now     2  (schema_mismatch 2)",
        "archived         2 events, 0 of them duplicates",
        "refused still    2  (bad_envelope 1, not_json 1), by today's rules",
    ]
    assert len(archived(house)) == 3
    again = json.loads(run("redrive", "--all", "--json").stdout)
    assert again == {
        "dry_run": False,
        "looked_at": 4,
        "redriven_before": 2,
        "redriven": 0,
        "redriven_by_code": {},
        "refused_still": 2,
        "refused_still_by_code": {"bad_envelope": 1, "not_json": 1},
        "archived": 0,
        "duplicates": 0,
        "segments": 0,
    }
    assert "4 refused units, 2 of them redriven" in run("quarantine", "list").stderr
    assert "redriven before  2" in run("redrive", "--all").stdout


def test_redrive_takes_what_is_named(run: Run, house: Deployment) -> None:
    """Options choose; what they do not mean stays."""
    done = run("redrive", "--reason", "schema_mismatch", "--to", "2024-03-10T12:00:02Z")
    assert done.stdout.startswith("looked at        1 refused unit\n")
    assert [row["event_id"] for row in archived(house)] == ["e1", "e2"]
    assert run("redrive", "--type", "gate").stdout == "nothing was refused that is like this\n"


@pytest.mark.parametrize("words", [(), ("--dry-run",), ("--all", "--reason", "not_json"), ("--tenant", "")])
def test_redrive_takes_everything_only_when_told(run: Run, house: Deployment, words: tuple[str, ...]) -> None:
    """Without a filter --all is needed; with both nobody knows what is meant."""
    done = run("redrive", *words)
    assert done.exit_code == 2
    assert ("--all excludes" in done.stderr) == ("--all" in words)
    assert len(archived(house)) == 1


def test_the_audit_shows_what_was_redriven(run: Run, house: Deployment) -> None:
    """A figure for programs, a sentence for people."""
    from rich.console import Console

    run("redrive", "--all")
    report = house.audit()
    assert audit_command.as_document(report)["redriven"] == 2
    console = Console(record=True, width=200)
    audit_command.show(report, console, LoaderState("running", "a loader runs"), 0.0)
    assert "2 refused units were redriven: they count as archived or duplicates" in console.export_text()


def test_a_mended_rule_is_for_the_loaders_too(run: Run) -> None:
    """Where something goes through that was refused, running loaders may refuse it still; a rehearsal mends nothing."""
    assert "restart them" not in run("redrive", "--reason", "schema_mismatch", "--dry-run").stderr
    assert "restart them" in run("redrive", "--reason", "schema_mismatch").stderr
    assert "restart them" not in run("redrive", "--reason", "schema_mismatch").stderr


def test_a_rule_that_the_loaders_know_is_no_reason_to_restart_them(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They were restarted already, or what was mended is published: nobody is asked again."""
    monkeypatch.setattr(redrive, "_is_known", lambda _settings: True)
    done = run("redrive", "--reason", "schema_mismatch")
    assert ("redriven now" in done.stdout, "restart them" in done.stderr) == (True, False)


def test_a_misspelt_code_is_told_from_the_one_that_was_meant(run: Run) -> None:
    """The nearest is named, and then all that there are."""
    done = run("redrive", "--reason", "schema_missmatch")
    assert done.exit_code == 2
    assert "did you mean 'schema_mismatch'?" in done.stderr
    assert "kills_worker" in done.stderr
    assert "did you mean" not in run("redrive", "--reason", "qqq").stderr
