"""`headrace query`: one statement in Athena's dialect, on this machine or in Athena itself."""

import difflib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.answers import WRITERS, footer, say
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.config import Settings, load_settings
from pipeline.core.errors import ConfigProblem
from pipeline.machine.query_files import load_queries, looks_like_name

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.ports.sql import SqlEngine

TABLE_ROWS = 1_000  # more than anybody reads; programs ask for json or csv and get all


@click.command("query")
@click.argument("statement", required=False, metavar="[SQL | NAME]")
@click.option(
    "-f",
    "--file",
    "path",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Read the SQL from a file; - for standard input.",
)
@click.option("--list", "list_them", is_flag=True, help="List the delivered queries.")
@click.option(
    "--engine", type=click.Choice(["duckdb", "athena"]), help="Which engine runs it [default: query.engine]."
)
@click.option(
    "--format",
    "style",
    type=click.Choice(list(WRITERS)),
    default="table",
    show_default=True,
    help="How the rows are printed.",
)
@click.option("--json", "style", flag_value="json", help="The same as --format json.")
@click.option(
    "--max-rows",
    type=click.IntRange(min=1),
    help=f"Stop after so many rows [default: {TABLE_ROWS} in a table, else all].",
)
@home_option
def command(
    *,
    statement: str | None,
    path: str | None,
    list_them: bool,
    engine: str | None,
    style: str,
    max_rows: int | None,
    home: Path | None,
) -> None:
    """Ask the archive in SQL, in Athena's dialect.

    The statement is given as text, in a file, or by the NAME of a delivered query. It can only read. A condition on
    `dt` (the day of the event, UTC) decides how many files are read. A line on standard error says what it took.

    \b
    headrace query --list
    headrace query delay_by_carrier
    headrace query "SELECT count(*) FROM flight_departed WHERE dt = '2013-07-04'"
    headrace query -f athena/queries/aircraft_day.sql --format csv
    """  # noqa: D301 - click's mark against re-wrapping
    settings = load_settings({"paths": {"home": home}})
    if list_them:
        _list(settings)
        return
    sql = _sql(settings, statement, path)
    from pipeline.flows.query import ask

    started = time.monotonic()
    answer = ask(
        open_engine(settings, engine, home), sql, max_rows or (TABLE_ROWS if style == "table" else None)
    )
    WRITERS[style](answer, sys.stdout)
    sys.stdout.flush()
    say(footer(answer, time.monotonic() - started))


def open_engine(settings: Settings, engine: str | None, home: Path | None) -> "SqlEngine":
    """Return the engine that was asked for; the laptop's needs the archive, so it finds the local stack."""
    from pipeline.wiring import sql_engine

    chosen = engine or settings.query.engine
    return sql_engine(settings if chosen == "athena" else settings_with_stack(home), chosen)


def _sql(settings: Settings, statement: str | None, path: str | None) -> str:
    if (statement is None) == (path is None):
        raise click.UsageError("give one of: SQL, the NAME of a delivered query (see --list), -f FILE")
    if path is not None:
        return _read(path)
    text = (statement or "").strip()
    if not looks_like_name(text):
        return text
    queries = load_queries(settings.paths.athena / "queries")
    if text not in queries:
        near = difflib.get_close_matches(text, queries, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigProblem(f"no delivered query {text!r}{hint} `headrace query --list` shows them all")
    return queries[text].sql


def _read(path: str) -> str:
    try:
        return sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8")
    except OSError as exc:
        raise ConfigProblem(f"{path}: cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigProblem(f"{path}: is not UTF-8 text") from exc


def _list(settings: Settings) -> None:
    queries = load_queries(settings.paths.athena / "queries")
    width = max((len(name) for name in queries), default=0)
    for name, query in queries.items():
        click.echo(f"{name:{width}}  {query.question}")
