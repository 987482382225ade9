"""The laptop's SQL engine over real Parquet files in memory ports."""

import contextlib
import signal
import subprocess
import sys
from datetime import date, datetime
from pathlib import Path

import duckdb
import pytest

from pipeline.core.errors import Corrupt
from pipeline.laptop.duck_errors import duck_problem
from tests.fakes.files import Archive
from tests.laptop.rides import DAYS, RAINS, RIDES, Ask, engine, ride_archive, rows, value


@pytest.fixture
def archive() -> Archive:
    """Rides and rain."""
    return ride_archive()


@pytest.fixture
def ask(archive: Archive, tmp_path: Path) -> Ask:
    """Run a statement on an engine over the archive."""
    return engine(archive, tmp_path).run


def test_a_view_leaves_duplicates_out_and_raw_shows_them(ask: Ask) -> None:
    """The view people use has three days of rides without the repeat; `_raw` has it, flagged, with its tier."""
    assert value(ask("SELECT count(*) FROM ride_ended")) == 4
    found = rows(ask("SELECT tier, is_duplicate, count(*) FROM ride_ended_raw GROUP BY 1, 2 ORDER BY 3"))
    assert found == [("open", True, 1), ("open", False, 4)]


def test_columns_of_newer_versions_are_null_in_older_files(ask: Ask) -> None:
    """A file written before a column existed gives nulls of the column's type, nested ones too."""
    found = rows(ask("SELECT dt, tip, car.seats, stops, paid_on FROM ride_ended WHERE fare <> 8 ORDER BY dt"))
    assert found == [
        (DAYS[0], None, None, None, None),
        (DAYS[1], 0.5, 4, [1, 2], None),
        (DAYS[2], None, None, None, date(2024, 1, 3)),
    ]


def test_a_table_without_files_has_all_its_columns(tmp_path: Path) -> None:
    """An empty archive answers with typed, empty columns."""
    empty = Archive()
    ask = engine(empty, tmp_path).run
    result = ask("SELECT fare, tip, paid_on, event_time, dt, stops, car.plate FROM ride_ended")
    assert [column.type for column in result.columns] == [
        *("bigint", "double", "date", "timestamp", "varchar", "bigint[]", "varchar"),
    ]
    assert result.table().num_rows == 0
    assert value(ask("SELECT count(*) FROM quarantine")) == 0


def test_events_hold_all_types_and_their_keys(ask: Ask) -> None:
    """`events` has every type, with event_type and dt out of the paths."""
    found = rows(ask("SELECT event_type, min(dt), count(*) FROM events GROUP BY event_type ORDER BY 1"))
    assert found == [("rain.seen", DAYS[0], 3), ("ride.ended", DAYS[0], 4)]


def test_quarantine_keeps_the_bytes(ask: Ask) -> None:
    """A refused record's bytes come back; event_type is what it said of itself, no partition."""
    assert rows(ask("SELECT raw FROM quarantine WHERE event_type = 'ride.ended'")) == [(b"\xff",)]
    assert value(ask("SELECT count(*) FROM quarantine WHERE event_type IS NULL AND dt = '2024-02-01'")) == 1


def test_an_object_is_fetched_once(ask: Ask, archive: Archive) -> None:
    """A second statement over the same files finds them here."""
    for _ in range(2):
        assert value(ask("SELECT count(*) FROM rain_seen WHERE dt = '2024-01-01'")) == 1
    assert archive.objects.gets == RAINS[:1]


def test_a_file_the_bucket_lacks_is_named(ask: Ask, archive: Archive) -> None:
    """The error names the key and the command that looks further."""
    del archive.objects.stored[RIDES[1]]
    with pytest.raises(Corrupt, match=r"dt=2024-01-02/a1-000000000001\.parquet.*headrace audit"):
        ask("SELECT count(*) FROM ride_ended")


def test_types_are_named_as_in_athena(ask: Ask) -> None:
    """Sums and counts are bigint, times have no zone, unnamed columns are numbered from 0."""
    result = ask(
        "SELECT sum(fare), count_if(fare > 1), avg(tip), max(event_time), max(raw.dt) AS d FROM ride_ended raw"
    )
    assert [tuple(column) for column in result.columns] == [
        ("_col0", "bigint"),
        ("_col1", "bigint"),
        ("_col2", "double"),
        ("_col3", "timestamp"),
        ("d", "varchar"),
    ]
    assert rows(result) == [(35, 4, 0.5, datetime(2024, 1, 3), DAYS[2])]  # noqa: DTZ001 - as in Athena


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("date_diff('hour', TIMESTAMP '2024-01-01 10:59:00', TIMESTAMP '2024-01-01 11:01:00')", 0),
        ("date_diff('day', DATE '2024-01-01', DATE '2024-01-03')", 2),
        ("date_diff('month', DATE '2024-01-31', DATE '2024-02-28')", 0),
        ("extract(dow FROM DATE '2013-01-06')", 7),
    ],
)
def test_spans_and_weekdays_are_athenas(ask: Ask, expression: str, expected: int) -> None:
    """Whole units, not borders crossed; Monday is the first day."""
    assert value(ask(f"SELECT {expression}")) == expected


def test_what_is_there_can_be_asked(ask: Ask) -> None:
    """SHOW TABLES, DESCRIBE, VALUES and EXPLAIN answer."""
    assert ("ride_ended_raw",) in rows(ask("SHOW TABLES"))
    assert ("fare", "bigint", "") in rows(ask("DESCRIBE ride_ended"))
    assert rows(ask("VALUES (1, 'a')")) == [(1, "a")]
    assert "Parquet" in value(ask("EXPLAIN SELECT * FROM ride_ended"))


def test_a_statement_larger_than_memory_says_so() -> None:
    """Out of memory is one line with a remedy."""
    problem = duck_problem(
        "SELECT 1", duckdb.OutOfMemoryException("Out of Memory Error: failed to pin block")
    )
    assert "narrow it by dt" in str(problem)


LONG_STATEMENT = """
import sys, duckdb
from pipeline.laptop.duck_session import interruptible
connection = duckdb.connect()
relation = connection.sql("SELECT sum(a.range * b.range % 7) FROM range(300000) a, range(300000) b")
try:
    print("running", flush=True)
    interruptible(connection, lambda: relation.to_arrow_reader(1000).read_all())
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_ctrl_c_stops_a_statement() -> None:
    """An interrupt while DuckDB works is Ctrl-C for the caller too, not an error of the statement."""
    with subprocess.Popen([sys.executable, "-c", LONG_STATEMENT], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"running\n"
        for _ in range(30):  # again, as a person would: the first may come before the statement
            process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1.0)
                break
        else:
            process.kill()
        assert process.wait() in (130, -signal.SIGINT)
