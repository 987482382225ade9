"""From schemas to columns: golden, for a column's type is for ever."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipeline.core.columns import arrow_type, typed_array
from pipeline.core.errors import ConfigProblem
from pipeline.core.event import Row
from pipeline.core.rules import make_rules
from pipeline.core.schema import ENVELOPE_COLUMNS, columns_of, group_types, parse_schema
from tests.core.kit import ENVELOPE, decode, event, rules_for, wire
from tests.golden.compare import matches_golden

EVERYTHING: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "golden" / "every_kind.schema.json").read_text(encoding="utf-8")
)


def _described(document: dict[str, Any]) -> list[list[str]]:
    return [[one.name, one.property, str(arrow_type(one.type))] for one in columns_of(document["properties"])]


def test_every_kind_of_property() -> None:
    """Each kind of (sub)schema has the column that the golden file names."""
    matches_golden("every_kind.columns.json", _described(EVERYTHING))


@pytest.mark.parametrize("name", [*ENVELOPE_COLUMNS, "event_type", "dt", "tier", "arrival_day"])
def test_reserved_names_move_aside(name: str) -> None:
    """A property named like an envelope column, a partition key or a column of the views is `data_<name>`."""
    [column] = columns_of({name: {"type": "string"}})
    assert (column.name, column.property) == (f"data_{name}", name)


@pytest.mark.parametrize("names", [("a b", "a_b"), ("A", "a"), ("é", "ü"), ("dt", "data_dt"), ("", "_")])
def test_two_properties_of_one_column_are_refused(names: tuple[str, str]) -> None:
    """Athena folds case and knows few letters: what would collide there is refused here, with both names."""
    with pytest.raises(ConfigProblem, match="would both be column") as caught:
        columns_of({name: {"type": "string"} for name in names})
    assert all(repr(name) in str(caught.value) for name in names)


def test_versions_unite() -> None:
    """A type's columns are the union over its versions, oldest first; structs unite inside."""
    first = {"a": {"type": "integer"}, "s": {"type": "object", "properties": {"x": {"type": "string"}}}}
    second = {"s": {"type": "object", "properties": {"y": {"type": "boolean"}}}, "b": {"type": "number"}}
    schemas = [
        parse_schema("door", 2, {"type": "object", "properties": second}),
        parse_schema("door", 1, {"type": "object", "properties": first}),
    ]
    found = group_types(schemas)["door"].columns
    assert [(one.name, str(arrow_type(one.type))) for one in found] == [
        ("a", "int64"),
        ("s", "struct<x: string, y: bool>"),
        ("b", "double"),
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ({"type": "integer"}, {"type": "number"}),
        ({"type": "string"}, {"type": "string", "format": "date-time"}),
        ({"type": "array", "items": {"type": "integer"}}, {"type": "array", "items": {"type": "string"}}),
        ({"type": "object", "properties": {"x": {"type": "integer"}}}, {"type": "string"}),
    ],
)
def test_a_type_is_for_ever(old: dict[str, Any], new: dict[str, Any]) -> None:
    """A column that changes its type between versions is refused by its full name."""
    documents = [{"type": "object", "properties": {"v": one}} for one in (old, new)]
    with pytest.raises(ConfigProblem, match=r"door\.v.*is for ever"):
        group_types([parse_schema("door", number, one) for number, one in enumerate(documents, 1)])


@pytest.mark.parametrize(
    ("event_type", "version", "document"),
    [
        ("Door", 1, {"type": "object"}),
        ("../door", 1, {"type": "object"}),
        ("door\n", 1, {"type": "object"}),
        ("x" * 64, 1, {"type": "object"}),
        ("door", 0, {"type": "object"}),
        ("door", 1, {"type": "array"}),
        ("door", 1, {}),
    ],
)
def test_what_cannot_be_a_type(event_type: str, version: int, document: dict[str, Any]) -> None:
    """A name that may not stand in a key, a version below 1 and a schema of no object are refused."""
    with pytest.raises(ConfigProblem):
        parse_schema(event_type, version, document)


def test_types_that_share_a_table_are_refused() -> None:
    """`a.b` and `a_b` cannot both be published."""
    schemas = [parse_schema(name, 1, {"type": "object"}) for name in ("a.b", "a_b")]
    with pytest.raises(ConfigProblem, match="table 'a_b'"):
        make_rules(schemas, [], rules_for({"type": "object"}).limits, ENVELOPE)


@pytest.mark.parametrize(
    "inner",
    [{"type": "objct"}, {"type": "string", "pattern": "^(a$"}, {"$ref": "#/$defs/missing"}],
)
def test_a_schema_that_is_none_is_a_problem_of_the_settings(inner: dict[str, Any]) -> None:
    """A document that no validator can be made of is refused with its type and version."""
    rules = rules_for({"type": "object"}, {"type": "object", "properties": {"v": inner}})
    with pytest.raises(ConfigProblem, match="schema door/2"):
        _ = rules.types


def test_values_of_every_kind() -> None:
    """Each column holds its property's value in its own type, null where there is none; both paths fill alike."""
    data = {
        "Count": 1.0,
        "ratio": 2,
        "word": "é",
        "flag": False,
        "when": "2024-03-10T12:00:00.25+01:00",
        "day": "2024-02-29",
        "place": {"lat": 1.5, "zip code": None, "more": 1},
        "tags": ["a", None],
        "spans": [{"from": "2024-03-10T11:00:00Z"}, {}, None],
        "free": {"a": [1, None]},
        "maybe": None,
        "pair": ["x", 1],
        "event_id": "inner",
    }
    rules = rules_for(EVERYTHING)
    found = decode(wire(event(data=data)), rules)
    assert isinstance(found, Row), found
    columns = rules.schemas["door"].columns
    table = pa.table({one.name: typed_array(one, [found.data]) for one in columns})
    noon = dt.datetime(2024, 3, 10, 11, tzinfo=dt.UTC)
    assert table.to_pylist()[0] == {
        **dict.fromkeys(table.column_names),
        "count": 1,
        "ratio": 2.0,
        "word": "é",
        "flag": False,
        "when": noon.replace(microsecond=250_000),
        "day": dt.date(2024, 2, 29),
        "place": {"lat": 1.5, "zip_code": None, "event_type": None},
        "tags": ["a", None],
        "spans": [{"from": noon}, {"from": None}, None],
        "free": '{"a":[1,null]}',
        "pair": '["x",1]',
        "data_event_id": "inner",
    }
