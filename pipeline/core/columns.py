"""Columns as Arrow arrays, built from generated structs without a detour by way of dicts."""

from collections.abc import Sequence
from functools import cache
from itertools import chain
from operator import attrgetter
from typing import Any

import pyarrow as pa

from pipeline.core.schema import Column, ColumnType
from pipeline.core.shapes import attribute

MICROS = pa.timestamp("us", tz="UTC")
_SCALARS = {
    "int64": pa.int64(),
    "float64": pa.float64(),
    "string": pa.string(),
    "bool": pa.bool_(),
    "timestamp": MICROS,
    "date32": pa.date32(),
    "json": pa.string(),
}


def arrow_type(kind: ColumnType) -> pa.DataType:
    """Return the Arrow type of a column type."""
    if kind.kind == "struct":
        return pa.struct([pa.field(one.name, arrow_type(one.type)) for one in kind.fields])
    if kind.kind == "list" and kind.item:
        return pa.list_(arrow_type(kind.item))
    return _SCALARS[kind.kind]


@cache
def envelope_schema() -> pa.Schema:
    """Return the envelope's columns, in the order every data file has them."""
    return pa.schema(
        [
            pa.field("event_id", pa.string(), nullable=False),
            pa.field("tenant_id", pa.string(), nullable=False),
            pa.field("entity_id", pa.string(), nullable=False),
            pa.field("schema_version", pa.int32(), nullable=False),
            pa.field("source", pa.string(), nullable=False),
            pa.field("event_time", MICROS, nullable=False),
            pa.field("received_time", MICROS, nullable=False),
            pa.field("ingested_time", MICROS, nullable=False),
            pa.field("correlation_id", pa.string()),
            pa.field("is_duplicate", pa.bool_(), nullable=False),
            pa.field("shard_id", pa.string(), nullable=False),
            pa.field("sequence_number", pa.string(), nullable=False),
            pa.field("subsequence_number", pa.int64(), nullable=False),
            pa.field("data_json", pa.string(), nullable=False),
        ]
    )


@cache
def quarantine_schema() -> pa.Schema:
    """Return the columns of a quarantine file."""
    return pa.schema(
        [
            pa.field("code", pa.string(), nullable=False),
            pa.field("pointer", pa.string(), nullable=False),
            pa.field("message", pa.string(), nullable=False),
            pa.field("tenant_id", pa.string()),
            pa.field("event_type", pa.string()),
            pa.field("event_id", pa.string()),
            pa.field("ingested_time", MICROS, nullable=False),
            pa.field("partition_key", pa.string(), nullable=False),
            pa.field("shard_id", pa.string(), nullable=False),
            pa.field("sequence_number", pa.string(), nullable=False),
            pa.field("subsequence_number", pa.int64(), nullable=False),
            pa.field("raw", pa.binary(), nullable=False),
        ]
    )


@cache
def redriven_schema() -> pa.Schema:
    """Return the columns of a file that marks refused units as redriven."""
    return pa.schema(
        [
            pa.field("code", pa.string(), nullable=False),
            pa.field("ingested_time", MICROS, nullable=False),
            pa.field("shard_id", pa.string(), nullable=False),
            pa.field("sequence_number", pa.string(), nullable=False),
            pa.field("subsequence_number", pa.int64(), nullable=False),
            pa.field("quarantine_file", pa.string(), nullable=False),
            pa.field("quarantine_row", pa.int64(), nullable=False),
            pa.field("units", pa.int64(), nullable=False),
            pa.field("redriven_as", pa.string(), nullable=False),
            pa.field("redriven_time", MICROS, nullable=False),
        ]
    )


def typed_array(column: Column, structs: Sequence[Any]) -> pa.Array:
    """Return one column of a sequence of generated structs; null where a struct has no such attribute."""
    return _array(column.type, _attributes(column, structs))


def _attributes(column: Column, structs: Sequence[Any]) -> list[Any]:
    name = attribute(column)
    if len(set(map(type, structs))) == 1 and hasattr(structs[0], name):
        return list(map(attrgetter(name), structs))
    return [getattr(one, name, None) for one in structs]


def _array(kind: ColumnType, values: list[Any]) -> pa.Array:
    if kind.kind == "struct":
        missing = pa.array([value is None for value in values], pa.bool_())
        children = [_array(one.type, _attributes(one, values)) for one in kind.fields]
        return pa.StructArray.from_arrays(children, fields=list(arrow_type(kind)), mask=missing)
    if kind.kind == "list" and kind.item:
        offsets, total = [], 0
        for value in values:
            offsets.append(None if value is None else total)
            total += len(value) if value is not None else 0
        items = _array(kind.item, list(chain.from_iterable(value for value in values if value is not None)))
        return pa.ListArray.from_arrays(pa.array([*offsets, total], pa.int32()), items)
    return pa.array(values, arrow_type(kind))
