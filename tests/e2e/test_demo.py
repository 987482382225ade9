"""The command as a user runs it: the whole year, kept, then asked, audited, damaged and thrown away."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.items import aggregate_item
from pipeline.aws.meter import Meter
from pipeline.cli.settings import settings_with_stack
from pipeline.config import Settings
from pipeline.core.index import read_item
from pipeline.core.keys import EVENTS
from tests.e2e.finding import ASKED, Asked
from tests.e2e.known_answers import FILE

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.xdist_group("demo")]

# From the data set itself (R package nycflights13, and tests/e2e/known_answers.py).
PRODUCED = {
    "flight.departed": 328_521,
    "flight.landed": 327_346,
    "flight.cancelled": 8_255,
    "weather.observed": 26_115,
}
QUARANTINED, SENT_AGAIN = 2_512, 1_000


def headrace(*arguments: str, home: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the command with a home of its own."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", *arguments],
        env=environment | {"HEADRACE_HOME": str(home)},
        capture_output=True,
        text=True,
        check=check,
        timeout=300,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of one kept demo of the whole year."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    pytest.importorskip("duckdb", reason="SQL on a laptop needs the extra `local`")
    folder = tmp_path_factory.mktemp("demo")
    try:
        headrace("demo", "--keep", "--json", str(folder / "figures.json"), home=folder)
        yield folder
    finally:
        headrace("down", "--wipe", home=folder, check=False)


@pytest.fixture(scope="module")
def figures(home: Path) -> dict[str, Any]:
    """What the demo wrote with --json."""
    return dict(json.loads((home / "figures.json").read_text()))


@pytest.fixture(scope="module")
def settings(home: Path) -> Settings:
    """The settings of the running stack."""
    return settings_with_stack(home)


def test_the_year_has_its_known_answers(figures: dict[str, Any]) -> None:
    """690,237 produced: 687,725 archived, 2,512 quarantined; the 1,000 sent again are flagged."""
    produced = sum(PRODUCED.values())
    assert figures["produced_by_type"] == PRODUCED
    assert figures["produced"] == produced == 690_237
    assert figures["received"] == produced + SENT_AGAIN
    assert figures["archived"] == produced - QUARANTINED == 687_725
    assert figures["duplicates"] == SENT_AGAIN
    assert figures["quarantined"] == QUARANTINED
    assert figures["audit"] == {"balanced": True, "differences": []}


def test_default_views_hide_the_duplicates(figures: dict[str, Any]) -> None:
    """The default view counts each event once, the raw view the copies too."""
    assert figures["answers"]["counts"] == [[687_725, 688_725, QUARANTINED]]


def test_the_figures_are_whole(figures: dict[str, Any]) -> None:
    """Every figure that --json promises is there and was counted."""
    for name in ("files", "segments", "s3_puts", "dynamodb_write_units", "cpu_seconds", "peak_memory_bytes"):
        assert figures[name] > 0, name
    assert set(figures["stages"]) == {
        "start",
        "produce",
        "load",
        "duplicates",
        "query",
        "find",
        "replay",
        "audit",
    }
    assert figures["s3_puts"] >= figures["files"] + 2 * figures["segments"]


def test_the_aircraft_s_month_is_that_of_sql(home: Path, figures: dict[str, Any]) -> None:
    """History, replay and its rows by entity and day come to what SQL counts; a processor did the work."""
    month = (
        "SELECT count(*) AS events, count(DISTINCT dt) AS days FROM events WHERE tenant_id = 'ua' "
        "AND entity_id = 'N14228' AND dt BETWEEN '2013-01-01' AND '2013-01-31'"
    )
    [found] = json.loads(headrace("query", month, "--format", "json", home=home).stdout)
    assert figures["aircraft"]["agrees"]
    assert figures["aircraft"]["events"] == figures["replay"]["processed"] == found["events"] > 0
    assert figures["replay"]["rows"] == found["days"]
    assert figures["replay"]["messages"] > 0


def test_index_and_counts_are_counted(figures: dict[str, Any]) -> None:
    """The audit held every index item and every count against the data files."""
    assert figures["index_items"] > 366
    assert figures["aggregate_rows"] > 2 * 366


@pytest.mark.parametrize("name", sorted(json.loads(FILE.read_text())))
def test_delivered_queries_have_their_known_answers(home: Path, name: str) -> None:
    """A delivered query answers what the CSV files say."""
    found = headrace("query", name, "--format", "json", home=home)
    assert json.loads(found.stdout) == json.loads(FILE.read_text())[name]


def test_a_query_for_one_day_reads_that_day_only(settings: Settings) -> None:
    """A condition on dt leaves only that day's files to be read."""
    result = wiring.sql_engine(settings, "duckdb").run(
        "SELECT count(*) FROM flight_departed WHERE dt = '2013-07-04'"
    )
    entries = wiring.archive(settings).manifest.files("flight.departed#2013-07-04")
    assert result.files_read == len(entries) > 0
    assert next(result.rows())[0] == sum(entry.rows - entry.duplicates for entry in entries)


@pytest.mark.parametrize("asked", ASKED, ids=lambda one: one.words)
def test_counts_are_what_sql_counts(home: Path, asked: Asked) -> None:
    """Aggregates, index and rows give exactly the figures of SQL over all rows, duplicates included."""
    counted = json.loads(headrace("counts", *asked.words.split(), "--json", home=home).stdout)
    rows = json.loads(headrace("query", asked.sql, "--format", "json", home=home).stdout)
    assert len(rows) > 1
    groups = [
        [value for name, value in group.items() if name != "quarantined"] for group in counted["groups"]
    ]
    groups = [group for group in groups if group[1] or group[2]]
    assert sorted(groups) == sorted(list(row.values()) for row in rows)
    assert counted["total"]["events"] == sum(row["events"] for row in rows)


def test_an_aircrafts_events_are_those_of_sql(home: Path) -> None:
    """The index finds every row of an entity, in the order of time, and reads no row of anybody else."""
    found = headrace("events", "--tenant", "ua", "--entity", "N14228", "--all", "--json", home=home)
    sql = """SELECT event_id, event_type FROM events WHERE tenant_id = 'ua' AND entity_id = 'N14228'
        ORDER BY event_time, event_id"""
    rows = json.loads(headrace("query", sql, "--format", "json", home=home).stdout)
    events = [json.loads(line) for line in found.stdout.splitlines()]
    assert [one["event_time"] for one in events] == sorted(one["event_time"] for one in events)
    assert sorted((one["event_id"], one["event_type"]) for one in events) == sorted(
        (row["event_id"], row["event_type"]) for row in rows
    )
    assert len(events) > 100


def test_an_event_is_followed_by_its_id_alone(home: Path) -> None:
    """The first event was sent twice: an accepted row and a copy that names it; an id nobody sent is exit code 1."""
    found = json.loads(
        headrace("trace", "flight-000001-departed", "--tenant", "ua", "--json", home=home).stdout
    )
    first, copy = found["found"]
    assert (first["outcome"], copy["outcome"]) == ("accepted", "duplicate")
    assert copy["repeats"] == {"key": first["file"]["key"], "row": first["file"]["row"]}
    assert all(
        one["arrived"]["receipt"] and one["index"] and one["counted"]["included"] for one in found["found"]
    )
    unknown = headrace("trace", "flight-000001-departed", "--tenant", "aa", home=home, check=False)
    assert unknown.returncode == 1
    assert unknown.stdout.startswith("not among what was received from ")


def test_the_audit_names_planted_damage(home: Path, settings: Settings) -> None:
    """A file that is deleted, and one that is planted, are named by the audit, and it exits with 1."""
    from pipeline.wiring import connection

    s3 = make_client("s3", connection(settings), Meter())
    bucket = settings.storage.bucket
    victim = next(iter(wiring.archive(settings).objects.list(EVENTS))).key
    body = s3.get_object(Bucket=bucket, Key=victim)["Body"].read()
    stray = victim.replace("-000000000001", "-000000000999")
    s3.delete_object(Bucket=bucket, Key=victim)
    s3.put_object(Bucket=bucket, Key=stray, Body=body)
    try:
        found = headrace("audit", "--json", home=home, check=False)
    finally:
        s3.delete_object(Bucket=bucket, Key=stray)
        s3.put_object(Bucket=bucket, Key=victim, Body=body)
    report = json.loads(found.stdout)
    named = {(one["kind"], one["subject"]) for one in report["differences"]}
    assert found.returncode == 1
    assert ("file_missing", victim) in named
    assert ("file_stray", stray) in named
    assert headrace("audit", home=home).returncode == 0


def test_the_audit_names_damage_in_index_and_counts(home: Path, settings: Settings) -> None:
    """An index item that is deleted and a count that is altered are named, by entity and by key."""
    from pipeline.wiring import connection

    dynamodb = make_client("dynamodb", connection(settings), Meter())
    stores, prefix = wiring.archive(settings), settings.storage.table_prefix
    item = stores.index.find(["ua#0"], "2013-03-01", "2013-03-31")[0]
    total = stores.aggregates.find("ua#flight.departed", "2013-05-01", "2013-05-01")[0]
    key = {"partition": {"S": item.partition}, "name": {"S": item.name}}
    altered = msgspec.structs.replace(total, events=total.events + 1)
    dynamodb.delete_item(TableName=f"{prefix}entity_index", Key=key)
    dynamodb.put_item(TableName=f"{prefix}aggregates", Item=aggregate_item(altered))
    try:
        found = headrace("audit", "--json", home=home, check=False)
    finally:
        stores.index.put_all([item])
        dynamodb.put_item(TableName=f"{prefix}aggregates", Item=aggregate_item(total))
    report = json.loads(found.stdout)
    assert found.returncode == 1
    assert {one["kind"] for one in report["differences"]} == {"index_missing", "aggregate_altered"}
    entities = {entry.entity_id for entry in read_item(item)}
    named = [one["subject"] for one in report["differences"]]
    assert f"{total.partition} {total.name}" in named
    assert any(f"ua/{entity} on {item.name[:10]}" in named for entity in entities)


def test_bad_lines_are_named_and_the_rest_goes_on(home: Path, tmp_path: Path) -> None:
    """`produce` names each broken line by number, sends the others, and exits with 1."""
    good = {
        "event_id": "weather-new",
        "tenant_id": "noaa",
        "entity_id": "JFK",
        "event_type": "weather.observed",
        "schema_version": 1,
        "source": "JFK",
        "event_time": "2014-06-01T00:00:00Z",
        "data": {
            "origin": "JFK",
            "year": 2014,
            "month": 6,
            "day": 1,
            "hour": 0,
            "precip": 0,
            "visib": 10,
            "time_hour": "2014-06-01T00:00:00Z",
        },
    }
    lines = [json.dumps(good | {"event_id": "w-1"}), '{"broken', json.dumps(good | {"tenant_id": "nobody"})]
    file = tmp_path / "events.ndjson"
    file.write_text("\n".join([*lines, json.dumps(good | {"event_id": "w-2"})]) + "\n")
    found = headrace("produce", str(file), home=home, check=False)
    assert found.returncode == 1
    assert "line 2: not_json" in found.stderr
    assert "line 3: unknown_tenant at /tenant_id" in found.stderr
    assert "acknowledged: 2, refused: 2" in found.stdout
    assert headrace("audit", "--wait", "60", home=home).returncode == 0


def test_down_and_up_keep_everything(home: Path) -> None:
    """After `down` and `up` the archive is as it was, and still balances."""
    before = json.loads(headrace("audit", "--json", "--wait", "60", home=home).stdout)
    headrace("down", home=home)
    assert "headrace up" in headrace("audit", home=home, check=False).stderr
    headrace("up", "--detach", home=home)
    after = json.loads(headrace("audit", "--json", home=home).stdout)
    assert (after.pop("waiting")["events"], before.pop("waiting")["events"]) == (0, 0)
    assert after == before
    assert after["balanced"]
