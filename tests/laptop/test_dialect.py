"""Athena's dialect on the laptop: its functions keep their meaning, its faults are shown where they are."""

from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import ConfigProblem
from tests.laptop.rides import Ask, engine, ride_archive, rows


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Run a statement on an engine over rides and rain."""
    return engine(ride_archive(), tmp_path).run


ATHENA = {
    "date_trunc('hour', TIMESTAMP '2024-01-01 05:30:00')": datetime(2024, 1, 1, 5),  # noqa: DTZ001
    "date_diff('minute', TIMESTAMP '2024-01-01 05:30:00', TIMESTAMP '2024-01-01 06:00:00')": 30,
    "date_add('day', 1, DATE '2024-01-31')": date(2024, 2, 1),
    "date_trunc('month', DATE '2024-01-31')": date(2024, 1, 1),
    "date_format(TIMESTAMP '2024-01-01 05:30:00', '%Y-%m-%d %H:%i')": "2024-01-01 05:30",
    "day_of_week(DATE '2024-01-01')": 1,
    "hour(TIMESTAMP '2024-07-01 12:00:00' AT TIME ZONE 'America/New_York')": 8,
    "from_iso8601_timestamp('2024-01-01T00:00:00Z')": datetime(2024, 1, 1, tzinfo=UTC),
    "7 / 2": 3,
    "7 / 2.0e0": 3.5,
    "sum(fare) / count(*)": 8,
    "approx_distinct(city)": 3,
    "max_by(city, fare)": "Bern",
    "every(fare > 1)": True,
    "array_join(array_agg(city ORDER BY fare), '+')": "Oslo+Rome+Oslo+Bern",
    "map_agg(fare, city)[7]": "Oslo",
    'json_extract_scalar(\'{"a":{"b":"c"}}\', \'$.a.b\')': "c",
    "regexp_replace('aaa', 'a', 'b')": "bbb",
    "regexp_like('abc', '^a')": True,
    "element_at(split('a,b', ','), 2)": "b",
    "cardinality(sequence(1, 5))": 5,
    "try_cast('x' AS bigint)": None,
    "from_utf8(to_utf8('ä'))": "ä",
    "if(1 > 2, 'a', 'b')": "b",
    "arrays_overlap(ARRAY[1, 2], ARRAY[2])": True,
    "to_iso8601(TIMESTAMP '2024-01-01 05:30:00')": "2024-01-01T05:30:00.000Z",
}


@pytest.mark.parametrize(("expression", "expected"), ATHENA.items(), ids=list(ATHENA))
def test_functions_mean_what_they_mean_in_athena(ask: Ask, expression: str, expected: Any) -> None:
    """An expression in Athena's dialect gives Athena's value."""
    assert rows(ask(f"SELECT {expression} FROM ride_ended"))[0] == (expected,)


def test_arrays_are_unnested(ask: Ask) -> None:
    """CROSS JOIN UNNEST gives a row per item, with its place."""
    sql = "SELECT s, n FROM ride_ended CROSS JOIN UNNEST(stops) WITH ORDINALITY AS t(s, n) WHERE dt = '2024-01-02' ORDER BY n"
    assert rows(ask(sql)) == [(1, 1), (2, 2)]


REFUSED = {
    "empty": ("  -- nothing\n", "no SQL given"),
    "two statements": ("SELECT 1; SELECT 2", "2 statements given"),
    "a change": ("DROP TABLE events", "line 1, column 1: DROP is not run"),
    "a copy": ("COPY events TO 'x'", "COPY is not run"),
    "an attachment": ("ATTACH 'x.db'", "ATTACH is not run"),
    "a setting": ("SET threads = 1", "SET is not run"),
    "unload": ("UNLOAD (SELECT 1) TO 's3://x' WITH (format = 'PARQUET')", "UNLOAD is not run"),
    "insert": ("INSERT INTO events SELECT 1", "INSERT is not run"),
    "a change inside": ("WITH a AS (DELETE FROM events) SELECT 1", ""),
    "an explained change": ("EXPLAIN DROP TABLE events", ""),
    "a file": ("SELECT * FROM read_csv('/etc/passwd')", "read_csv() is no table here"),
    "a text": ("SELECT * FROM read_text('/etc/passwd')", "read_text() is no table here"),
    "a file by name": ("SELECT * FROM '/etc/passwd'", "no table"),
    "a file in quotes": ('SELECT * FROM "/etc/passwd"', "no table"),
    "a file in a subquery": (
        "SELECT (SELECT count(*) FROM read_blob('/etc/*'))",
        "read_blob() is no table here",
    ),
    "a file in a condition": (
        "SELECT 1 FROM events WHERE dt IN (SELECT * FROM read_text('/etc/passwd'))",
        "read_text()",
    ),
    "a file in a value": ("VALUES ((SELECT content FROM read_text('/etc/passwd')))", "read_text()"),
    "a bucket's object": ("SELECT * FROM 's3://b/k.parquet'", "no table"),
    "DuckDB's own tables": ("SELECT * FROM duckdb_settings()", "duckdb_settings() is no table here"),
    "a variable of the program": ("SELECT * FROM partitions", "no table 'partitions'"),
    "another database": ("SELECT * FROM other.events", "no table 'other.events'"),
    "the engine's inside": ("SELECT * FROM scan0.events", "no table 'scan0.events'"),
    "a near miss": (
        "SELECT 1\nFROM ride_endet",
        "line 2, column 6: no table 'ride_endet'; did you mean \"ride_ended\"?",
    ),
    "a wrong column": (
        "SELECT r.fair FROM ride_ended r",
        "column 10: no column 'fair'; did you mean \"fare\"?",
    ),
    "a column of two tables": (
        "SELECT dt FROM ride_ended, rain_seen",
        "line 1, column 8: more than one table has",
    ),
    "an unknown function": ("SELECT\n  frobnicate(fare) FROM ride_ended", "line 2, column 3: "),
    "a half condition": ("SELECT 1 FROM events WHERE", "line 1, column 22: something is missing in WHERE"),
    "an open text": ("SELECT 'abc FROM events", "line 1, column 8: opened here and never closed"),
    "a wrong type": ("SELECT date_trunc('hour', city) FROM ride_ended", "line 1, column 8: "),
    "a value that is none": ("SELECT CAST(city AS bigint) FROM ride_ended", "line 1, column 13: "),
    "no group": ("SELECT city, count(*) FROM ride_ended", "line 1, column 8: "),
    "a number for a day": ("SELECT 1 FROM ride_ended WHERE dt > 5", "line 1, column 32: "),
}


@pytest.mark.parametrize(("sql", "message"), REFUSED.values(), ids=REFUSED)
def test_bad_statements_are_refused_with_their_place(ask: Ask, sql: str, message: str) -> None:
    """What is not one reading statement over the archive's tables is refused; the fault is shown where it is."""
    with pytest.raises(ConfigProblem) as caught:
        rows(ask(sql))
    assert message in str(caught.value)
    if "column" in message and "line" in message:
        assert str(caught.value).splitlines()[-1].strip("^ ") == ""
