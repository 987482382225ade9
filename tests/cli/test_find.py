"""`headrace events`, `counts` and `trace`: what a person and a program see, over an archive in memory."""

import io
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pipeline import wiring
from pipeline.cli import counts, events, trace
from pipeline.cli.events import left_out, table_lines
from pipeline.core.errors import ConfigProblem
from pipeline.flows.events import Event
from pipeline.flows.sight import TracePorts
from tests.cli.test_query import Terminal
from tests.core.kit import event, wire, with_data
from tests.flows.deployment import Deployment
from tests.flows.finding import RULES, trace_ports

SHARD = "shardId-000000000000"
Run = Callable[..., Result]
FIND = (("events",), ("counts",), ("trace", "e1"))


@pytest.fixture(scope="module")
def house() -> Deployment:
    """Five events of an entity, a copy, a refused unit, and data that is not on one line."""
    made = Deployment()
    made.rules = RULES
    for number in range(5):
        unit = event(event_id=f"e{number}", event_time=f"2024-03-10T0{number}:00:00Z", entity_id="front")
        made.stream.append(SHARD, wire(unit), "key")
    made.load()
    made.clock.advance(60)
    made.stream.append(
        SHARD, wire(event(event_id="e0", event_time="2024-03-10T00:00:00Z", entity_id="front")), "key"
    )
    made.stream.append(SHARD, wire(event(event_id="bad", event_type="gong")), "key")
    made.stream.append(SHARD, wire(event(event_id="lost", tenant_id="acne")), "key")
    odd = with_data(b'{\n "n": 1,\r\n "label": "\xc2\x9b[31m"}', event_id="odd\x7f", entity_id="odd")
    made.stream.append(SHARD, odd, "key")
    made.load()
    return made


@pytest.fixture
def run(house: Deployment, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The commands over the archive."""

    @contextmanager
    def finding(_settings: object, _progress: object) -> Iterator[TracePorts]:
        yield trace_ports(house)

    monkeypatch.setattr(wiring, "finding", finding)
    monkeypatch.setattr(wiring, "rules", lambda _settings: RULES)
    for module in (events, counts, trace):
        monkeypatch.setattr(module, "settings_with_stack", lambda _home: None)
    commands = {"events": events.command, "counts": counts.command, "trace": trace.command}
    return lambda name, *words: CliRunner().invoke(commands[name], ["--tenant", "acme", *words])


def test_events_of_an_entity(run: Run) -> None:
    """A line per event in the order of time, duplicates hidden, and data on the line."""
    done = run("events", "--entity", "front")
    assert (done.exit_code, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["time", "type", "source", "event_id", "data"]
    assert [line.split()[3] for line in lines[1:]] == [f"e{number}" for number in range(5)]
    assert lines[1].split() == ["2024-03-10T00:00:00Z", "door", "hall", "e0", '{"n":1}']


def test_duplicates_are_shown_on_request_and_marked(run: Run) -> None:
    """The copy stands beside its original, with a mark."""
    lines = run("events", "--entity", "front", "--include-duplicates").stdout.splitlines()
    assert [line.split()[3:5] for line in lines[1:3]] == [["e0", '{"n":1}'], ["e0", "dup"]]
    assert len(lines) == 7


def test_what_is_left_out_is_said(run: Run) -> None:
    """The first N, and on standard error how many there are; --all shows every one and says nothing."""
    done = run("events", "--entity", "front", "--limit", "2")
    assert len(done.stdout.splitlines()) == 3
    assert done.stderr == "2 of 5 shown; --all shows every one\n"
    whole = run("events", "--entity", "front", "--limit", "2", "--all")
    assert (len(whole.stdout.splitlines()), whole.stderr) == (6, "")


def test_a_total_that_is_not_known_is_not_claimed() -> None:
    """Where only rows could say how many there are, the answer names what is certain."""
    assert left_out(100, 240, exact=True) == "100 of 240 shown; --all shows every one"
    assert left_out(100, 240, exact=False) == "100 of at least 240 shown; --all shows every one"
    assert left_out(100, 100, exact=False) == "the first 100 shown; there may be more: --all shows every one"


def test_events_as_json_are_whole_envelopes(run: Run) -> None:
    """An object a line, in the envelope's order; `data` is what the producer wrote, on one line."""
    (line,) = run("events", "--entity", "odd", "--json").stdout_bytes.splitlines()
    found = json.loads(line)
    assert list(found)[:5] == ["event_id", "tenant_id", "entity_id", "event_type", "schema_version"]
    assert (found["event_type"], found["data"]) == ("door", {"n": 1, "label": "\x9b[31m"})
    assert found["event_time"] == "2024-03-10T11:00:00Z"
    assert found["ingested_time"] == "2024-03-10T12:01:00Z"
    assert found["is_duplicate"] is False
    assert "data_json" not in found


def test_a_terminal_obeys_nothing_that_a_producer_wrote(run: Run) -> None:
    """Control characters of ids and data are escaped."""
    out = run("events", "--entity", "odd").stdout
    assert out.isprintable() or all(one.isprintable() or one == "\n" for one in out)
    assert "odd\\x7f" in out
    assert "\\x9b[31m" in out


def test_data_is_cut_where_the_terminal_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal a line is a line, unless the id is longer; in a pipe nothing is cut, as of `headrace query`."""
    monkeypatch.setenv("COLUMNS", "60")
    columns = {
        "source": "hall",
        "event_id": "e1",
        "is_duplicate": False,
        "data_json": '{"label":"' + "x" * 90 + '"}',
    }
    one = Event(1_710_072_000_000_000, "door", "key", 0, columns)
    cut = list(table_lines([one], [], Terminal()))
    assert len(cut[1]) == 61
    assert cut[1].endswith("x…\n")
    assert list(table_lines([one], [], io.StringIO()))[1].endswith('xxx"}\n')
    long = one._replace(columns=columns | {"event_id": "e" * 60})
    assert list(table_lines([long], [], Terminal()))[1].endswith("ee    …\n")  # an id is there to be copied


def test_events_of_a_type_need_their_days(run: Run) -> None:
    """Without an entity the archive could be read from end to end: type and days are asked for."""
    assert "give --entity" in run("events").stderr
    assert "give --entity" in run("events", "--type", "door", "--from", "2024-03-10").stderr
    done = run("events", "--type", "door", "--from", "2024-03-10", "--to", "2024-03-10T03:00:00Z")
    assert [line.split()[3] for line in done.stdout.splitlines()[1:]] == ["e0", "e1", "e2"]


def test_nothing_found_is_a_sentence_and_no_error(run: Run) -> None:
    """What was asked for is repeated on standard error; a program reads nothing, and exit code 0."""
    done = run(
        "events", "--entity", "back", "--type", "door", "--source", "hall", "--from", "2024-03-10", "--json"
    )
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == (
        "tenant acme has no events of entity 'back' of type door from source 'hall' from 2024-03-10T00:00:00Z\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ("events", "--entity", "a", "--tenant", "acne"),
            "no tenant 'acne'; did you mean \"acme\"? known: acme, globex",
        ),
        (
            ("events", "--entity", "a", "--type", "dor"),
            "no event type 'dor'; did you mean \"door\"? known: bell, door",
        ),
        (
            ("counts", "--type", "x"),
            "no event type 'x'; known: bell, door (`headrace schema list` shows them)",
        ),
        (("events", "--entity", "a", "--from", "x"), "--from 'x': give a day like 2013-07-04"),
        (("trace", "e1", "--at", "x"), "--at 'x': give a day"),
        (("trace", "e1", "--receipt", "x"), "--receipt 'x': give it as PRODUCER#NUMBER"),
    ],
)
def test_mistakes_are_explained(run: Run, words: tuple[str, ...], said: str) -> None:
    """A name that nobody registered, a time that is none: the message names those that are known, or the form."""
    name, *rest = words
    done = run(name, *rest)
    assert isinstance(done.exception, ConfigProblem)
    assert said in str(done.exception)


def test_counts_as_a_table(run: Run) -> None:
    """A line per group and the sum; what it was counted from goes to standard error."""
    done = run("counts", "--by", "type")
    assert [line.split() for line in done.stdout.splitlines()] == [
        ["type", "events", "duplicates", "quarantined"],
        ["_unknown", "0", "0", "1"],
        ["door", "6", "1", "0"],
        ["all", "6", "1", "1"],
    ]
    assert "counted from the aggregates" in done.stderr
    assert "by the day they arrived" in done.stderr


@pytest.mark.parametrize(
    ("words", "figures", "said"),
    [
        (("--from", "2024-03-11"), {"0"}, "not by event time\n"),  # none arrived, events may have happened
        (("--type", "bell"), {"0"}, ""),
        (("--by", "hour"), {"-"}, "by hour, source or entity they are not known\n"),
        (("--by", "source", "--from", "2024-03-10"), {"-"}, "by hour, source or entity they are not known\n"),
        (("--entity", "front"), {"-"}, "by hour, source or entity they are not known\n"),
    ],
)
def test_quarantined_units_have_days_of_their_own(
    run: Run, words: tuple[str, ...], figures: set[str], said: str
) -> None:
    """Where a window or a group makes it matter, a line says so; the sum knows no more than its groups."""
    done = run("counts", *words)
    assert {line.split()[-1] for line in done.stdout.splitlines()[1:]} == figures
    note = done.stderr.partition("\n")[2]
    assert note.endswith(said)
    assert bool(note) is bool(said)


def test_a_stored_type_may_be_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its schema may be gone from the folder; its events are still there."""
    monkeypatch.setattr(wiring, "rules", lambda _settings: replace(RULES, schemas={}))
    assert "\nall       6" in run("counts", "--type", "door").stdout
    assert len(run("events", "--entity", "front", "--type", "door").stdout.splitlines()) == 6
    assert "known: door" in str(run("counts", "--type", "x").exception)


def test_counts_as_json(run: Run) -> None:
    """Figures, groups and basis; null where a figure is not known by that group."""
    found = json.loads(
        run("counts", "--entity", "front", "--by", "hour", "--to", "2024-03-10T01:00:00Z", "--json").stdout
    )
    assert found == {
        "tenant_id": "acme",
        "total": {"events": 1, "duplicates": 1, "quarantined": None},
        "groups": [{"hour": "2024-03-10T00:00:00Z", "events": 1, "duplicates": 1, "quarantined": None}],
        "basis": ["index", "rows"],
        "quarantined_by": "arrival day",
    }
    assert "groups" not in json.loads(run("counts", "--json").stdout)


def test_a_trace_as_text(run: Run) -> None:
    """A paragraph for each stored unit of the id, from its arrival to what it counts in."""
    done = run("trace", "e0")
    assert done.exit_code == 0
    original, copy = done.stdout.split("\n\n")
    assert [line.split()[0] for line in original.splitlines() if line[0] != " "] == [
        "arrived",
        "archived",
        "segment",
        "index",
        "counted",
    ]
    assert "accepted" in original
    assert "as events, hour 0, source hall" in original
    assert "duplicate of events/event_type=door/dt=2024-03-10/0001-000000000001.parquet row 0" in copy
    assert "no receipt" in copy


def test_a_refused_unit_as_text(run: Run) -> None:
    """The reason stands in the place of the data file."""
    out = run("trace", "bad").stdout
    assert "refused    unknown_type at /event_type: event type 'gong' has no schema" in out
    assert "index      none: refused units are in no index" in out
    assert "acme#_unknown  2024-03-10#open#0001  as quarantined" in out


def test_what_was_refused_names_any_tenant(run: Run) -> None:
    """A trace looks for a tenant that nobody registered, and warns of it."""
    done = run("trace", "lost", "--tenant", "acne")
    assert done.exit_code == 0
    assert "refused    unknown_tenant at /tenant_id" in done.stdout
    said = "headrace: warning: no tenant 'acne' is registered; did you mean \"acme\"?"
    assert done.stderr.startswith(said)
    assert run("trace", "bad").stderr == ""


def test_what_a_committed_segment_lacks_is_damage(run: Run, house: Deployment) -> None:
    """Index and totals are written before a segment is committed: missing after it, the audit is named."""
    index, totals, rows = house.index.items, house.aggregates.items, dict(house.ledger.rows)
    place = ("trace", "e1", "--at", "2024-03-10")
    try:
        house.index.items, house.aggregates.items = {}, {}
        damaged = run(*place).stdout.splitlines()[-2:]
        house.ledger.rows.update({key: replace(one, state="planned") for key, one in rows.items()})
        planned = run(*place).stdout.splitlines()[-2:]
    finally:
        house.index.items, house.aggregates.items = index, totals
        house.ledger.rows.update(rows)
    assert all(line.endswith("must be there: run `headrace audit`") for line in damaged)
    assert all(line.endswith("not yet: the segment is not committed") for line in planned)


def test_a_trace_as_json(run: Run) -> None:
    """Everything that the text says, by name."""
    found = json.loads(run("trace", "e0", "--entity", "front", "--json").stdout)
    assert found["by"] == "entity"
    first, second = found["found"]
    assert (first["outcome"], first["repeats"], first["counted"]["as"]) == ("accepted", None, "events")
    assert second["repeats"] == {"key": first["file"]["key"], "row": first["file"]["row"]}
    assert second["arrived"]["receipt"] is None
    assert second["arrived"]["time"] == "2024-03-10T12:01:00Z"
    assert first["segment"]["state"] == "committed"
    assert first["index"]["key"] == first["file"]["key"]


def test_an_entity_is_not_everywhere(run: Run) -> None:
    """What an entity's rows answered leaves other entities open: a line, and a field for programs."""
    said = "note: the same id may also be under other entities: leave --entity out to look everywhere\n"
    assert run("trace", "e0", "--entity", "front").stderr == said
    assert run("trace", "e0").stderr == ""
    assert run("trace", "e0", "--entity", "odd").stderr == ""  # led nowhere: everything was searched
    for words, open_still in ((("--entity", "front"), True), ((), False), (("--at", "2024-03-10"), False)):
        assert json.loads(run("trace", "e0", *words, "--json").stdout)["may_be_elsewhere"] is open_still


def test_an_unknown_id_is_exit_code_1(run: Run) -> None:
    """The sentence stands alone, for a person and for a program."""
    sentence = "not among what was received from 2024-03-10T12:00:00Z to 2024-03-10T12:01:00Z"
    done = run("trace", "e99")
    assert (done.exit_code, done.stdout) == (1, sentence + "\n")
    found: dict[str, Any] = json.loads(run("trace", "e99", "--json").stdout)
    assert (found["found"], found["message"]) == ([], sentence)
    assert found["searched"]["segments"] == 2


@pytest.mark.parametrize(
    "words",
    [
        *[(name, *more, option, "") for name, *more in FIND for option in ("--entity", "--tenant")],
        ("events", "--source", ""),
        ("counts", "--source", ""),
        ("trace", ""),
    ],
)
def test_an_empty_name_is_wrong_usage(run: Run, words: tuple[str, ...]) -> None:
    """It would name nothing that anybody has: most likely a variable of a shell was not set."""
    done = run(*words)
    assert done.exit_code == 2
    assert "it is empty" in done.stderr


def test_hints_exclude_each_other(run: Run) -> None:
    """One hint at a time."""
    assert (
        "give one of --entity, --at and --receipt"
        in run("trace", "e1", "--entity", "a", "--at", "2024-03-10").stderr
    )


@pytest.mark.parametrize("name", ["events", "counts", "trace"])
def test_help_loads_nothing_heavy(name: str, tmp_path: Path) -> None:
    """`--help` loads neither Arrow nor a cloud library."""
    code = (
        "import sys; from pipeline.cli.group import cli\n"
        f"cli.main([{name!r}, '--help'], standalone_mode=False)\n"
        "print(sorted({'duckdb', 'boto3', 'pyarrow', 'numpy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={"HEADRACE_HOME": str(tmp_path), "PATH": ""},
    )
    assert done.stdout.splitlines()[-1] == "[]"
