"""`headrace query` and `headrace schema`: what a person and a program see."""

import csv
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner, Result

from pipeline.cli import query as query_command
from pipeline.cli import schema as schema_command
from pipeline.cli.answers import footer, write_csv, write_json, write_table
from pipeline.core.errors import ConfigProblem
from pipeline.flows.query import Answer, ask
from pipeline.ports.sql import QueryResult, ResultColumn

ROOT = Path(__file__).parents[2]
QUERIES = sorted(path.stem for path in (ROOT / "athena" / "queries").glob("*.sql"))
TABLE = pa.table(
    {
        "n": pa.array([1, 20, None], pa.int64()),
        "at": pa.array([datetime(2013, 1, 1, 5, 30), None, None], pa.timestamp("us")),  # noqa: DTZ001
        "s": ["a,b", "[red]x\x1b[31m", "ä\n"],
        "raw": pa.array([b"ok", b"\xff", None], pa.binary()),
    }
)
KINDS = ("bigint", "timestamp", "varchar", "varbinary")


def result(table: pa.Table = TABLE) -> QueryResult:
    columns = tuple(map(ResultColumn, table.column_names, KINDS))
    return QueryResult(columns, iter(table.to_batches(max_chunksize=2)), 1_500, 2, 0.25)


class PlayedEngine:
    """An engine that notes statements and always gives the same result."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def run(self, sql: str) -> QueryResult:
        """Give the result."""
        self.asked.append(sql)
        return result()


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> tuple[PlayedEngine, Callable[..., Result]]:
    """The command over a played engine, in a home of its own."""
    engine = PlayedEngine()
    monkeypatch.setattr(query_command, "open_engine", lambda *_: engine)
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    return engine, lambda *words, **more: CliRunner().invoke(query_command.command, words, **more)


Played = tuple[PlayedEngine, Callable[..., Result]]


def written(
    write: Callable[[Answer, Any], None], max_rows: int | None = None, table: pa.Table = TABLE
) -> str:
    out = io.StringIO()
    write(Answer(result(table), max_rows), out)
    return out.getvalue()


def test_a_table_on_a_pipe_is_plain() -> None:
    """Columns are aligned, numbers to the right; nothing is cut off, coloured or obeyed by a terminal."""
    assert written(write_table).splitlines() == [
        " n  at                   s               raw",
        " 1  2013-01-01 05:30:00  a,b             ok",
        "20                       [red]x\\x1b[31m  0xff",
        "                         ä\\n",
    ]


class Terminal(io.StringIO):
    """A terminal of 80 columns."""

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_a_table_on_a_terminal_is_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words between brackets are text and no markup; a table too wide for the terminal goes row by row."""
    monkeypatch.setenv("COLUMNS", "80")
    drawn, listed = Terminal(), Terminal()
    write_table(Answer(result(), None), drawn)
    assert "[red]x\\x1b[31m" in drawn.getvalue()
    write_table(Answer(result(TABLE.set_column(2, "s", pa.array(["w" * 90] * 3))), 1), listed)
    assert listed.getvalue().splitlines() == [
        "row 1",
        "  n    1",
        "  at   2013-01-01 05:30:00",
        "  s    " + "w" * 90,
        "  raw  ok",
    ]


def test_json_is_one_array() -> None:
    """Every row is an object with ISO times; no rows give an empty array."""
    found = json.loads(written(write_json))
    assert found[0] == {"n": 1, "at": "2013-01-01T05:30:00", "s": "a,b", "raw": "ok"}
    assert found[2]["n"] is None
    assert json.loads(written(write_json, table=TABLE.slice(0, 0))) == []


def test_json_keeps_columns_of_one_name_and_refuses_no_number() -> None:
    """A repeated name is numbered; not-a-number and infinity, which JSON lacks, are null."""
    table = pa.Table.from_arrays(
        [pa.array([1]), pa.array([float("nan")]), pa.array([[1.0]])], names=["a", "a", "b"]
    )
    assert json.loads(written(write_json, table=table)) == [{"a": 1, "a_2": None, "b": [1.0]}]


def test_csv_reads_back() -> None:
    """A header and one record per row, quoted where it must be."""
    rows = list(csv.reader(io.StringIO(written(write_csv))))
    assert rows[0] == ["n", "at", "s", "raw"]
    assert rows[1] == ["1", "2013-01-01 05:30:00", "a,b", "ok"]
    assert rows[3][2] == "ä\n"


def test_an_answer_is_cut_and_says_so() -> None:
    """No more rows than wanted are read; the footer counts and tells how to see more."""
    answer = ask(PlayedEngine(), "SELECT 1", max_rows=2)
    assert len(list(answer.rows())) == 2
    assert footer(answer, 0.5) == (
        "2 rows · 2 files read · 1.5 KB scanned · 0.50 s (only the first 2 rows: --max-rows N shows more)"
    )
    whole = ask(PlayedEngine(), "SELECT 1", max_rows=3)
    assert len(list(whole.rows())) == 3
    assert "only" not in footer(whole, 0.5)


def test_rows_go_to_standard_output_and_the_rest_to_standard_error(played: Played) -> None:
    """A program that reads standard output gets rows and nothing else."""
    engine, run = played
    done = run("SELECT 1", "--format", "json")
    assert (done.exit_code, engine.asked) == (0, ["SELECT 1"])
    assert len(json.loads(done.stdout)) == 3
    assert "2 files read" in done.stderr


def test_json_is_asked_for_as_everywhere(played: Played) -> None:
    """`--json` gives what `--format json` does."""
    _, run = played
    assert run("SELECT 1", "--json").stdout == run("SELECT 1", "--format", "json").stdout != ""
    assert not run("SELECT 1").stdout.startswith("[")


@pytest.mark.parametrize("name", QUERIES)
def test_a_delivered_query_runs_by_name(played: Played, name: str) -> None:
    """Its name stands for its text; it says its question first and is listed with it."""
    engine, run = played
    assert run(name).exit_code == 0
    (sql,) = engine.asked
    assert sql == (ROOT / "athena" / "queries" / f"{name}.sql").read_text(encoding="utf-8")
    question = sql.splitlines()[0].removeprefix("-- ")
    assert question.endswith("?")
    assert any(line.split() == [name, *question.split()] for line in run("--list").stdout.splitlines())


def test_a_statement_comes_from_a_file_or_standard_input(played: Played, tmp_path: Path) -> None:
    """-f reads a file, - standard input."""
    engine, run = played
    (tmp_path / "q.sql").write_text("SELECT 2", encoding="utf-8")
    assert run("-f", str(tmp_path / "q.sql")).exit_code == 0
    assert run("-f", "-", input="SELECT 3").exit_code == 0
    assert engine.asked == ["SELECT 2", "SELECT 3"]


def test_mistakes_are_explained(played: Played, tmp_path: Path) -> None:
    """A wrong name, a missing file, nothing or too much given: each says what to do."""
    _, run = played
    near = run("busiest_route").exception
    assert isinstance(near, ConfigProblem)
    assert "did you mean 'busiest_routes'?" in str(near)
    missing = run("-f", str(tmp_path / "none.sql")).exception
    assert isinstance(missing, ConfigProblem)
    assert "none.sql: cannot be read" in str(missing)
    assert "give one of" in run().stderr
    assert "give one of" in run("SELECT 1", "-f", "x").stderr


def test_help_needs_no_engine() -> None:
    """`headrace query --help` loads neither DuckDB nor a cloud library."""
    code = (
        "import sys; from pipeline.cli.group import cli\n"
        "cli.main(['query', '--help'], standalone_mode=False)\n"
        "print(sorted({'duckdb', 'sqlglot', 'boto3', 'pyarrow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def schema(*words: str) -> Result:
    return CliRunner().invoke(schema_command.command, words)


def test_ddl_is_written_checked_and_tidied(tmp_path: Path) -> None:
    """Writing makes the check pass; a changed, a missing and a stray file are named, and mended by writing again."""
    folder = str(tmp_path / "tables")
    assert schema("ddl", "--out", folder).exit_code == 0
    assert schema("ddl", "--check", "--out", folder).exit_code == 0
    files = tmp_path / "tables"
    (files / "events.sql").write_text("changed", encoding="utf-8")
    (files / "quarantine.sql").unlink()
    shutil.copy(files / "events_raw.sql", files / "gone.sql")
    checked = schema("ddl", "--check", "--out", folder)
    assert checked.exit_code == 1
    lines = [line.removeprefix(folder + "/") for line in checked.stdout.splitlines()]
    assert lines == [
        "events.sql: differs from the schemas",
        "gone.sql: of no event type",
        "quarantine.sql: missing",
    ]
    assert schema("ddl", "--out", folder).exit_code == 0
    assert schema("ddl", "--check", "--out", folder).exit_code == 0


def test_event_types_are_listed() -> None:
    """The list names each type with its versions and table."""
    found = {row["event_type"]: row for row in json.loads(schema("list", "--json").stdout)}
    assert found["flight.departed"]["table"] == "flight_departed"
    assert found["flight.departed"]["versions"] == [1]
    assert "flight_departed" in schema("list").stdout
