"""From JSON Schemas to columns: which property becomes which column, and of what type, for ever.

The mapping, once and for ever: integer -> int64, number -> float64, string -> string, boolean -> bool, `date-time` ->
timestamp, `date` -> date32, object with known properties -> struct, array -> list, anything else -> JSON text.
Columns come from the schema in schema order, never from the data of a batch.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.core.errors import ConfigProblem
from pipeline.core.names import is_name, refuse_colliding_tables

ENVELOPE_COLUMNS = (
    "event_id",
    "tenant_id",
    "entity_id",
    "schema_version",
    "source",
    "event_time",
    "received_time",
    "ingested_time",
    "correlation_id",
    "is_duplicate",
    "shard_id",
    "sequence_number",
    "subsequence_number",
    "data_json",
)
PARTITION_KEYS = ("event_type", "dt")
RESERVED = frozenset({*ENVELOPE_COLUMNS, *PARTITION_KEYS, "tier", "arrival_day"})

_SCALARS = {"integer": "int64", "number": "float64", "string": "string", "boolean": "bool"}
_FORMATS = {"date-time": "timestamp", "date": "date32"}


@dataclass(frozen=True)
class ColumnType:
    """One column's type.

    `kind` is one of int64, float64, string, bool, timestamp, date32, json, struct (then `fields`) and
    list (then `item`).
    """

    kind: str
    fields: tuple["Column", ...] = ()
    item: "ColumnType | None" = None


@dataclass(frozen=True)
class Column:
    """One typed column: its name in SQL and the property of `data` it is filled from."""

    name: str
    property: str
    type: ColumnType
    description: str = ""


@dataclass(frozen=True)
class EventSchema:
    """One version of one event type."""

    event_type: str
    version: int
    document: Mapping[str, Any]
    columns: tuple[Column, ...]


@dataclass(frozen=True)
class TypeSchema:
    """All versions of one event type within a compatible line, and the union of their columns."""

    event_type: str
    versions: Mapping[int, EventSchema]
    columns: tuple[Column, ...]


def column_type(schema: Any) -> ColumnType:
    """Return the column type of one (sub)schema; anything not understood is JSON text."""
    if not isinstance(schema, Mapping):
        return ColumnType("json")
    kinds = schema.get("type")
    if isinstance(kinds, list):
        kinds = [kind for kind in kinds if kind != "null"]
        kinds = kinds[0] if len(kinds) == 1 else None
    if kinds == "object" and schema.get("properties"):
        return ColumnType("struct", fields=columns_of(schema["properties"], reserved=frozenset()))
    if kinds == "array" and isinstance(schema.get("items"), Mapping) and "prefixItems" not in schema:
        return ColumnType("list", item=column_type(schema["items"]))
    if kinds == "string":
        return ColumnType(_FORMATS.get(str(schema.get("format")), "string"))
    return ColumnType(_SCALARS.get(str(kinds), "json"))


def columns_of(properties: Mapping[str, Any], reserved: frozenset[str] = RESERVED) -> tuple[Column, ...]:
    """Return one column per property, in order.

    Raises:
        ConfigProblem: two properties would share one column name (Athena folds case).
    """
    found: dict[str, Column] = {}
    for name, schema in properties.items():
        column = re.sub(r"[^a-z0-9_]", "_", name.lower())
        if column in reserved or column.startswith("_") or not column:
            column = f"data_{column.lstrip('_')}"
        if column in found:
            raise ConfigProblem(
                f"properties {found[column].property!r} and {name!r} would both be column {column!r}; rename one"
            )
        text = schema.get("description", "") if isinstance(schema, Mapping) else ""
        found[column] = Column(column, name, column_type(schema), str(text))
    return tuple(found.values())


def _merge_types(where: str, old: ColumnType, new: ColumnType) -> ColumnType:
    if old == new:
        return old
    if old.kind == new.kind == "struct":
        return ColumnType("struct", fields=_merge_columns(where, old.fields, new.fields))
    if old.kind == new.kind == "list" and old.item and new.item:
        return ColumnType("list", item=_merge_types(where, old.item, new.item))
    raise ConfigProblem(
        f"{where}: {old.kind} in one version, {new.kind} in another; a column's type is for ever, "
        "so publish the new shape under a new property or a new event type"
    )


def _merge_columns(where: str, old: tuple[Column, ...], new: tuple[Column, ...]) -> tuple[Column, ...]:
    merged = {column.name: column for column in old}
    for column in new:
        known = merged.get(column.name)
        if known is None:
            merged[column.name] = column
        else:
            kind = _merge_types(f"{where}.{column.name}", known.type, column.type)
            merged[column.name] = Column(column.name, column.property, kind, column.description)
    return tuple(merged.values())


def parse_schema(event_type: str, version: int, document: Mapping[str, Any]) -> EventSchema:
    """Read one version.

    Raises:
        ConfigProblem: the type's name cannot be part of a key, the document describes no object, or two
            properties collide.
    """
    if not is_name(event_type):
        raise ConfigProblem(f"event type {event_type!r}: must match ^[a-z0-9][a-z0-9._-]{{0,62}}$")
    if version < 1 or document.get("type") != "object":
        raise ConfigProblem(f'{event_type}/{version}: a version is >= 1 and its schema has "type": "object"')
    return EventSchema(event_type, version, document, columns_of(document.get("properties", {})))


def group_types(schemas: list[EventSchema]) -> dict[str, TypeSchema]:
    """Group versions into types with the union of their columns, oldest version first.

    Raises:
        ConfigProblem: a column changes its type between versions, or two types share a table name.
    """
    refuse_colliding_tables(list({schema.event_type for schema in schemas}))
    types: dict[str, TypeSchema] = {}
    for schema in sorted(schemas, key=lambda one: (one.event_type, one.version)):
        known = types.get(schema.event_type)
        columns = (
            _merge_columns(schema.event_type, known.columns, schema.columns) if known else schema.columns
        )
        versions = {**(known.versions if known else {}), schema.version: schema}
        types[schema.event_type] = TypeSchema(schema.event_type, versions, columns)
    return types
