"""Which files a statement reads."""

from pathlib import Path

import pytest

from tests.fakes.files import Archive
from tests.laptop.rides import RAINS, RIDES, Ask, engine, ride_archive, rows, value


@pytest.fixture
def archive() -> Archive:
    """Rides and rain."""
    return ride_archive()


@pytest.fixture
def ask(archive: Archive, tmp_path: Path) -> Ask:
    """Run a statement on an engine over the archive."""
    return engine(archive, tmp_path).run


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
        """WITH d AS (SELECT * FROM ride_ended) SELECT 1 FROM d a JOIN d b ON a.fare = b.fare
        WHERE a.dt = '2024-01-01' AND b.dt = '2024-01-02'""",
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
    "not by a limit's leave": (
        "SELECT 1 FROM (SELECT * FROM ride_ended LIMIT 9) WHERE dt = '2024-01-01'",
        RIDES,
    ),
    "not by the limit of a branch": (
        """SELECT 1 FROM (SELECT dt FROM rain_seen WHERE dt = 'x' UNION ALL ((SELECT dt FROM ride_ended) LIMIT 9))
        WHERE dt = '2024-01-01'""",
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
    ask = engine(archive, tmp_path).run
    pruned = sorted(rows(ask(sql)))
    monkeypatch.setattr("pipeline.laptop.prune.Uses.of", lambda *_: [[]])
    assert sorted(rows(ask(sql))) == pruned


def test_today_counts_in_conditions(ask: Ask, archive: Archive) -> None:
    """`current_date` takes part in the choice of partitions as in the statement; as text it is a plain day."""
    sql = "SELECT count(*) FROM ride_ended WHERE dt > CAST(current_date - INTERVAL '7' DAY AS varchar)"
    assert value(ask(sql)) == 0
    assert archive.objects.gets == []
    assert value(ask("SELECT CAST(DATE '2024-01-08' - INTERVAL '7' DAY AS varchar)")) == "2024-01-01"
