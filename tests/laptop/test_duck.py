"""The laptop's SQL engine over real Parquet files in memory ports."""

from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.laptop.duck import DuckEngine
from pipeline.laptop.object_cache import ObjectCache
from pipeline.ports.clock import SystemClock
from pipeline.ports.sql import QueryResult
from tests.fakes.files import Archive, types_of

RIDE_1 = {"fare": {"type": "integer"}, "city": {"type": "string"}}
RIDE_2 = {
    **RIDE_1,
    "tip": {"type": "number"},
    "paid_on": {"type": "string", "format": "date"},
    "stops": {"type": "array", "items": {"type": "integer"}},
    "car": {"type": "object", "properties": {"plate": {"type": "string"}, "seats": {"type": "integer"}}},
}
TYPES = types_of(
    {("ride.ended", 1): RIDE_1, ("ride.ended", 2): RIDE_2, ("rain.seen", 1): {"mm": {"type": "number"}}}
)
OLD = TYPES["ride.ended"].versions[1].columns
NEW = TYPES["ride.ended"].columns
RAIN = TYPES["rain.seen"].columns
DAYS = ("2024-01-01", "2024-01-02", "2024-01-03")
CAR = {"plate": "x", "seats": 4}


@pytest.fixture
def archive() -> Archive:
    """Three days of two types, one file a day; the first day of rides written under the older schema."""
    found = Archive()
    found.add("ride.ended", DAYS[0], 1, [{"fare": 7, "city": "Oslo"}, {"fare": 8, "city": "Rome"}], OLD)
    repeated = {"fare": 9, "city": "Oslo", "is_duplicate": True}
    rides = [{"fare": 9, "city": "Oslo", "tip": 0.5, "stops": [1, 2], "car": CAR}, repeated]
    found.add("ride.ended", DAYS[1], 1, rides, NEW)
    found.add("ride.ended", DAYS[2], 2, [{"fare": 11, "city": "Bern", "paid_on": date(2024, 1, 3)}], NEW)
    for day in DAYS:
        found.add("rain.seen", day, 1, [{"mm": 1.5, "data_json": '{"mm":1.5,"at":{"x":["a","b"]}}'}], RAIN)
    found.refuse("2024-02-01", 2, [{"event_type": "ride.ended", "raw": b"\xff"}, {"code": "not_json"}])
    return found


@pytest.fixture
def ask(archive: Archive, tmp_path: Path) -> Callable[[str], QueryResult]:
    """Run a statement on an engine over the archive."""
    cache = ObjectCache(archive.objects, tmp_path / "cache")
    return DuckEngine(TYPES, archive.manifest, cache, clock=SystemClock()).run


Ask = Callable[[str], QueryResult]


def rows(result: QueryResult) -> list[tuple[Any, ...]]:
    return list(result.rows())


def value(result: QueryResult) -> Any:
    ((found,),) = result.rows()
    return found


def keys(*places: tuple[str, int, int]) -> list[str]:
    """Return keys of (event type, index of day, ordinal)."""
    return sorted(
        f"events/event_type={kind}/dt={DAYS[day]}/a1-{ordinal:012d}.parquet" for kind, day, ordinal in places
    )


RIDES = keys(("ride.ended", 0, 1), ("ride.ended", 1, 1), ("ride.ended", 2, 2))
RAINS = keys(("rain.seen", 0, 1), ("rain.seen", 1, 1), ("rain.seen", 2, 1))


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
    engine = DuckEngine(TYPES, empty.manifest, ObjectCache(empty.objects, tmp_path), clock=SystemClock())
    result = engine.run("SELECT fare, tip, paid_on, event_time, dt, stops, car.plate FROM ride_ended")
    assert [column.type for column in result.columns] == [
        *("bigint", "double", "date", "timestamp", "varchar", "bigint[]", "varchar"),
    ]
    assert result.table().num_rows == 0
    assert value(engine.run("SELECT count(*) FROM quarantine")) == 0


def test_events_hold_all_types_and_their_keys(ask: Ask) -> None:
    """`events` has every type, with event_type and dt out of the paths."""
    found = rows(ask("SELECT event_type, min(dt), count(*) FROM events GROUP BY event_type ORDER BY 1"))
    assert found == [("rain.seen", DAYS[0], 3), ("ride.ended", DAYS[0], 4)]


def test_quarantine_keeps_the_bytes(ask: Ask) -> None:
    """A refused record's bytes come back; event_type is what it said of itself, no partition."""
    assert rows(ask("SELECT raw FROM quarantine WHERE event_type = 'ride.ended'")) == [(b"\xff",)]
    assert value(ask("SELECT count(*) FROM quarantine WHERE event_type IS NULL AND dt = '2024-02-01'")) == 1


PRUNED = {
    "no condition": ("SELECT max(fare) FROM ride_ended", RIDES),
    "equality": ("SELECT 1 FROM ride_ended WHERE dt = '2024-01-02'", RIDES[1:2]),
    "range beside others": (
        "SELECT 1 FROM ride_ended r WHERE r.dt >= '2024-01-02' AND fare > 1 AND (city = 'x' OR dt = 'y')",
        RIDES[1:],
    ),
    "any function of the key": ("SELECT 1 FROM ride_ended WHERE substr(dt, 9) IN ('01', '07')", RIDES[:1]),
    "in a list, written with casts": (
        "SELECT 1 FROM ride_ended WHERE CAST(dt AS date) < DATE '2024-01-02' + INTERVAL '1' DAY",
        RIDES[:2],
    ),
    "either of two": ("SELECT 1 FROM ride_ended WHERE dt = '2024-01-01' OR dt = '2024-01-03'", RIDES[::2]),
    "the type": ("SELECT 1 FROM events WHERE event_type LIKE 'rain%' AND dt < '2024-01-02'", RAINS[:1]),
    "another type": ("SELECT 1 FROM ride_ended WHERE event_type = 'rain.seen'", []),
    "through a subquery": ("SELECT 1 FROM (SELECT * FROM ride_ended) WHERE dt = '2024-01-01'", RIDES[:1]),
    "through renaming and grouping": (
        "WITH d AS (SELECT dt AS day, count(*) AS n FROM ride_ended GROUP BY dt) SELECT n FROM d WHERE day = '2024-01-01'",
        RIDES[:1],
    ),
    "two uses of one expression": (
        "WITH d AS (SELECT * FROM ride_ended) SELECT 1 FROM d a JOIN d b ON a.fare = b.fare"
        " WHERE a.dt = '2024-01-01' AND b.dt = '2024-01-02'",
        RIDES[:2],
    ),
    "both sides of a union": (
        "SELECT 1 FROM (SELECT dt FROM ride_ended UNION ALL SELECT dt FROM rain_seen) WHERE dt = '2024-01-03'",
        sorted([RIDES[2], RAINS[2]]),
    ),
    "across an inner join": (
        "SELECT 1 FROM ride_ended JOIN rain_seen ON ride_ended.dt = rain_seen.dt WHERE rain_seen.dt = '2024-01-01'",
        sorted([RIDES[0], RAINS[0]]),
    ),
    "the inner side of an outer join": (
        "SELECT 1 FROM ride_ended r LEFT JOIN rain_seen w ON w.mm > 0 AND w.dt = '2024-01-01' AND r.dt = '2024-01-02'",
        sorted([*RIDES, RAINS[0]]),
    ),
    "not by a limit's leave": ("SELECT 1 FROM (SELECT * FROM ride_ended LIMIT 9) WHERE dt = '2024-01-01'", RIDES),
    "not by the limit of a branch": (
        "SELECT 1 FROM (SELECT dt FROM rain_seen WHERE dt = 'x' UNION ALL (SELECT dt FROM ride_ended LIMIT 9))"
        " WHERE dt = '2024-01-01'",
        RIDES,
    ),
    "not before a window": (
        "SELECT 1 FROM (SELECT dt, count(*) OVER () AS n FROM ride_ended) WHERE dt = '2024-01-01'",
        RIDES,
    ),
    "not on what an outer join may null": (
        "SELECT 1 FROM rain_seen w LEFT JOIN ride_ended r ON r.dt = w.dt WHERE r.dt IS NULL",
        sorted([*RIDES, *RAINS]),
    ),
    "not by a subquery": (
        "SELECT 1 FROM ride_ended WHERE dt = (SELECT min(dt) FROM rain_seen WHERE dt > '2024-01-02')",
        sorted([*RIDES, RAINS[2]]),
    ),
}


@pytest.mark.parametrize(("sql", "expected"), PRUNED.values(), ids=PRUNED)
def test_only_files_of_the_partitions_asked_for_are_read(
    ask: Ask, archive: Archive, sql: str, expected: list[str]
) -> None:
    """Exactly the files that the conditions on the partition keys leave are fetched, and counted."""
    result = ask(sql)
    assert sorted(archive.objects.gets) == sorted(expected)
    assert (result.files_read, result.bytes_scanned) == (
        len(expected),
        sum(len(archive.objects.stored[key].body) for key in expected),
    )


@pytest.mark.parametrize(("sql", "_"), PRUNED.values(), ids=PRUNED)
def test_pruning_never_changes_an_answer(
    archive: Archive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sql: str, _: list[str]
) -> None:
    """Each statement gives the same rows when every file is read."""
    engine = DuckEngine(TYPES, archive.manifest, ObjectCache(archive.objects, tmp_path), clock=SystemClock())
    pruned = sorted(rows(engine.run(sql)))
    monkeypatch.setattr("pipeline.laptop.prune.Uses.of", lambda *_: [[]])
    assert sorted(rows(engine.run(sql))) == pruned


def test_today_counts_in_conditions(ask: Ask, archive: Archive) -> None:
    """`current_date` takes part in the choice of partitions as in the statement; as text it is a plain day."""
    sql = "SELECT count(*) FROM ride_ended WHERE dt > CAST(current_date - INTERVAL '7' DAY AS varchar)"
    assert value(ask(sql)) == 0
    assert archive.objects.gets == []
    assert value(ask("SELECT CAST(DATE '2024-01-08' - INTERVAL '7' DAY AS varchar)")) == "2024-01-01"


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
    result = ask("SELECT sum(fare), count_if(fare > 1), avg(tip), max(event_time), max(raw.dt) AS d FROM ride_ended raw")
    assert [tuple(column) for column in result.columns] == [
        ("_col0", "bigint"),
        ("_col1", "bigint"),
        ("_col2", "double"),
        ("_col3", "timestamp"),
        ("d", "varchar"),
    ]
    assert rows(result) == [(35, 4, 0.5, datetime(2024, 1, 3), DAYS[2])]  # noqa: DTZ001 - as in Athena


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
    "json_extract_scalar('{\"a\":{\"b\":\"c\"}}', '$.a.b')": "c",
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
    assert value(ask(f"SELECT {expression} FROM ride_ended")) == expected  # noqa: S608 - a test's own text


def test_arrays_are_unnested(ask: Ask) -> None:
    """CROSS JOIN UNNEST gives a row per item, with its place."""
    sql = "SELECT s, n FROM ride_ended CROSS JOIN UNNEST(stops) WITH ORDINALITY AS t(s, n) WHERE dt = '2024-01-02'"
    assert rows(ask(sql)) == [(1, 1), (2, 2)]


def test_what_is_there_can_be_asked(ask: Ask) -> None:
    """SHOW TABLES, DESCRIBE, VALUES and EXPLAIN answer."""
    assert ("ride_ended_raw",) in rows(ask("SHOW TABLES"))
    assert ("fare", "bigint", "") in rows(ask("DESCRIBE ride_ended"))
    assert rows(ask("VALUES (1, 'a')")) == [(1, "a")]
    assert "Parquet" in value(ask("EXPLAIN SELECT * FROM ride_ended")) 


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
    "a file in a subquery": ("SELECT (SELECT count(*) FROM glob('/etc/*'))", "glob() is no table here"),
    "a file in a condition": ("SELECT 1 FROM events WHERE dt IN (SELECT * FROM read_text('/etc/passwd'))", "read_text()"),
    "a file in a value": ("VALUES ((SELECT content FROM read_text('/etc/passwd')))", "read_text()"),
    "a bucket's object": ("SELECT * FROM 's3://b/k.parquet'", "no table"),
    "DuckDB's own tables": ("SELECT * FROM duckdb_settings()", "duckdb_settings() is no table here"),
    "a variable of the program": ("SELECT * FROM partitions", "no table 'partitions'"),
    "another database": ("SELECT * FROM other.events", "no table 'other.events'"),
    "the engine's inside": ("SELECT * FROM scan0.events", "no table 'scan0.events'"),
    "a near miss": ("SELECT 1\nFROM ride_endet", 'line 2, column 6: no table \'ride_endet\'; did you mean "ride_ended"?'),
    "a wrong column": ("SELECT r.fair FROM ride_ended r", 'column 10: no column \'fair\'; did you mean "fare"?'),
    "a column of two tables": ("SELECT dt FROM ride_ended, rain_seen", "line 1, column 8: more than one table has"),
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


def test_the_engine_itself_cannot_reach_other_files(tmp_path: Path) -> None:
    """Behind the check of tables DuckDB is confined too, and cannot be set free."""
    import duckdb

    from pipeline.laptop.duck_session import open_session

    outside = tmp_path / "outside.csv"
    outside.write_text("a\n1\n")
    inside = tmp_path / "cache" / "inside.csv"
    inside.parent.mkdir()
    inside.write_text("a\n1\n")
    session = open_session(inside.parent)
    assert session.execute(f"SELECT * FROM read_csv('{inside}')").fetchall() == [(1,)]
    local = [1]
    assert local
    for sql in (
        f"SELECT * FROM read_csv('{outside}')",
        f"SELECT * FROM read_text('{inside.parent}/../outside.csv')",
        f"SELECT * FROM '{outside}'",
        f"COPY (SELECT 1) TO '{outside}'",
        f"ATTACH '{tmp_path}/x.db'",
        "SELECT * FROM local",
        "SELECT * FROM read_parquet('http://localhost:1/x.parquet')",
        "SET enable_external_access = true",
        "SET allowed_directories = ['/']",
        "INSTALL httpfs",
        "LOAD httpfs",
    ):
        with pytest.raises(duckdb.Error):
            session.execute(sql).fetchall()


def test_a_statement_larger_than_memory_says_so(tmp_path: Path) -> None:
    """Out of memory is one line with a remedy."""
    import duckdb

    from pipeline.laptop.duck_errors import duck_problem

    problem = duck_problem("SELECT 1", duckdb.OutOfMemoryException("Out of Memory Error: failed to pin block"))
    assert "narrow it by dt" in str(problem)
