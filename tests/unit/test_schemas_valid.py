"""The schemas under `schemas/`: valid JSON Schema, described to the last property, and closed."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from jsonschema import Draft202012Validator

from pipeline.core.names import is_name, refuse_colliding_tables, table_name

SCHEMAS = Path(__file__).parents[2] / "schemas"
FILES = sorted(SCHEMAS.rglob("*.json"))
TYPES = sorted(path.name for path in SCHEMAS.iterdir() if path.is_dir())

every_file = pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SCHEMAS)))


def _load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _objects(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every object schema with properties, from the outside in."""
    if "properties" in schema:
        yield schema
        for inner in schema["properties"].values():
            yield from _objects(inner)
    if "items" in schema:
        yield from _objects(schema["items"])


def test_there_is_an_envelope_and_the_types_of_the_demo() -> None:
    """The files are where the product looks for them."""
    assert SCHEMAS / "envelope.json" in FILES
    assert {"flight.departed", "flight.landed", "flight.cancelled", "weather.observed"} <= set(TYPES)


@every_file
def test_is_a_schema_of_2020_12(path: Path) -> None:
    """The meta-schema accepts it, it says which draft it is, and the hot path's library compiles it."""
    document = _load(path)
    assert document["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
    Draft202012Validator.check_schema(document)
    jsonschema_rs.validator_for(document, validate_formats=True)


@every_file
def test_is_described_and_closed(path: Path) -> None:
    """Title, description, a description per property; nothing undeclared gets in, nothing required is undeclared."""
    document = _load(path)
    assert document["title"]
    assert document["description"]
    assert document["type"] == "object"
    for schema in _objects(document):
        assert schema["additionalProperties"] is False
        assert set(schema["required"]) <= set(schema["properties"])
        undescribed = [
            name
            for name, inner in schema["properties"].items()
            if not inner.get("description", "").endswith(".")
        ]
        assert undescribed == []


@every_file
def test_numbers_and_words_are_bounded(path: Path) -> None:
    """A number has both bounds; a text has a length or a format, and its pattern is plain ASCII, anchored at both ends."""
    for schema in _objects(_load(path)):
        for name, inner in schema["properties"].items():
            kinds = inner["type"] if isinstance(inner["type"], list) else [inner["type"]]
            if {"integer", "number"} & set(kinds):
                assert inner["minimum"] < inner["maximum"], name
            if "string" in kinds:
                assert "maxLength" in inner or "format" in inner, name
            assert re.fullmatch(r"\^[A-Za-z0-9\[\]{},._-]+\$|", inner.get("pattern", "")), name


def test_folders_are_event_types_and_files_are_versions() -> None:
    """A folder's name may be part of a key, and holds versions 1, 2, 3 without a gap."""
    for name in TYPES:
        versions = sorted(int(path.stem) for path in (SCHEMAS / name).iterdir())
        assert is_name(name)
        assert versions == list(range(1, len(versions) + 1)), name


def test_table_names_do_not_collide() -> None:
    """Each type has a table of its own."""
    refuse_colliding_tables(TYPES)
    assert len({table_name(name) for name in TYPES}) == len(TYPES)


LANDED: dict[str, Any] = json.loads(
    '{"year":2013,"month":1,"day":1,"dep_time":517,"sched_dep_time":515,"dep_delay":2,"arr_time":830,'
    '"sched_arr_time":819,"arr_delay":11,"carrier":"UA","flight":1545,"tailnum":"N14228","origin":"EWR",'
    '"dest":"IAH","air_time":227,"distance":1400,"hour":5,"minute":15,"time_hour":"2013-01-01T10:00:00Z"}'
)
AFTER_DEPARTURE = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time")
DIVERTED = {name: value for name, value in LANDED.items() if name not in ("arr_delay", "air_time")}
CANCELLED = {name: value for name, value in LANDED.items() if name not in AFTER_DEPARTURE}
NAMELESS = {name: value for name, value in CANCELLED.items() if name != "tailnum"}


@pytest.mark.parametrize(
    ("event_type", "data", "accepted"),
    [
        ("flight.landed", LANDED, True),
        ("flight.landed", DIVERTED, False),
        ("flight.landed", LANDED | {"dep_time": 2400}, True),
        ("flight.landed", LANDED | {"dep_time": 2401}, False),
        ("flight.landed", LANDED | {"dep_delay": 2.5}, False),
        ("flight.landed", LANDED | {"air_time": 0}, False),
        ("flight.landed", LANDED | {"carrier": "ua"}, False),
        ("flight.landed", LANDED | {"tailnum": "D942DN"}, True),
        ("flight.landed", LANDED | {"tailnum": "N1234567"}, False),
        ("flight.landed", LANDED | {"time_hour": "2013-01-01 10h"}, False),
        ("flight.landed", LANDED | {"gate": "A1"}, False),
        ("flight.departed", LANDED, True),
        ("flight.departed", DIVERTED, True),
        ("flight.departed", CANCELLED, False),
        ("flight.cancelled", CANCELLED, True),
        ("flight.cancelled", NAMELESS, True),
        ("flight.cancelled", LANDED, False),
    ],
)
def test_flight_schemas_tell_the_types_apart(event_type: str, data: dict[str, Any], accepted: bool) -> None:
    """What a flight did decides which fields it has; both libraries give the verdict."""
    document = _load(SCHEMAS / event_type / "1.json")
    assert jsonschema_rs.validator_for(document, validate_formats=True).is_valid(data) is accepted
    if "h" not in str(data["time_hour"]):  # jsonschema itself leaves formats alone
        assert Draft202012Validator(document).is_valid(data) is accepted
