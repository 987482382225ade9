"""Generated structs: the fast verdict on `data`, and the shape its columns are read from.

For every schema version there is one struct class whose attributes are the version's columns. Where the whole
schema lies inside a subset that msgspec checks exactly as JSON Schema does, decoding into the class *is* the
validation (1.6 us against 6 us by way of dicts). The fast path may refuse what JSON Schema accepts, because a
refusal is judged again (`core.judge`); it must never accept what JSON Schema refuses. A property test holds it
to that.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pipeline.core.schema import Column, ColumnType, EventSchema

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Beyond this a double no longer holds every integer, and a JSON integer literal may exceed int64: judged slowly.
_EXACT = 2**53
_KNOWN_KEYWORDS = frozenset(
    [
        "$schema",
        "$id",
        "$comment",
        "title",
        "description",
        "examples",
        "default",
        "deprecated",
        "readOnly",
        "writeOnly",
        "type",
        "format",
        "enum",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
        "pattern",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "minItems",
        "maxItems",
    ]
)
# No escapes, look-arounds or inner anchors: a pattern on which Python's re and ECMA 262 agree to the letter.
_SIMPLE_PATTERN = re.compile(r"\^[^\\$^.\s]*(?:\[\^?[^\\\[\]]*\][^\\$^.\s]*)*\$")


class NotExact(Exception):  # noqa: N818 - a signal inside this module, not an error
    """The schema leaves the subset in which msgspec and JSON Schema agree."""


class Shape:
    """One version's struct class and how to fill it.

    Attributes:
        decode: bytes of `data` -> struct, raising msgspec.MsgspecError; None outside the exact subset.
        depth: the deepest nesting of `data` that the exact shape lets pass.
    """

    def __init__(self, schema: EventSchema) -> None:
        self._columns = schema.columns
        self.depth = 1 + max((_depth(column.type) for column in schema.columns), default=0)
        self._factory = _struct_factory(schema.event_type, schema.columns)
        self.decode: Callable[[bytes | msgspec.Raw], Any] | None = None
        try:
            exact = _exact_struct(schema.event_type, schema.document, schema.columns)
            self.decode = msgspec.json.Decoder(exact).decode
        except NotExact:
            pass

    def fill(self, data: Mapping[str, Any]) -> Any:
        """Return the struct for an object that JSON Schema has accepted."""
        return _fill(self._factory, self._columns, data)


def attribute(column: Column) -> str:
    """Return the attribute of a generated struct that holds `column` (column names may be keywords)."""
    return f"c_{column.name}"


def _depth(kind: ColumnType) -> int:
    if kind.kind == "struct":
        return 1 + max((_depth(column.type) for column in kind.fields), default=0)
    return 1 + _depth(kind.item) if kind.item else 0


@cache
def _struct_factory(name: str, columns: tuple[Column, ...]) -> Callable[..., Any]:
    fields = [(attribute(column), Any, None) for column in columns]
    return msgspec.defstruct(re.sub(r"\W", "_", name), fields, kw_only=True, gc=False)


def _fill(factory: Callable[..., Any], columns: tuple[Column, ...], data: Mapping[str, Any]) -> Any:
    values = {attribute(c): _value(c.type, data[c.property]) for c in columns if c.property in data}
    return factory(**values)


def _value(kind: ColumnType, value: Any) -> Any:
    """Return a JSON value as its column holds it; None where it does not fit (the JSON text keeps it)."""
    if kind.kind == "json":
        return msgspec.json.encode(value).decode()
    if value is None:
        return None
    if kind.kind == "int64":
        return int(value)
    if kind.kind == "float64":
        return float(value)
    if kind.kind in ("timestamp", "date32"):
        return _moment(kind.kind, value)
    if kind.kind == "list" and kind.item:
        return [_value(kind.item, one) for one in value]
    if kind.kind == "struct":
        return _fill(_struct_factory("nested", kind.fields), kind.fields, value)
    return value


def _moment(kind: str, value: str) -> dt.datetime | dt.date | None:
    try:
        return msgspec.convert(value, dt.datetime if kind == "timestamp" else dt.date)
    except msgspec.ValidationError:
        return None  # a leap second: right by RFC 3339, not representable; data_json keeps it


def _exact_struct(name: str, schema: Mapping[str, Any], columns: tuple[Column, ...]) -> Any:
    """Return a struct type that accepts a subset of what `schema` accepts."""
    if not set(schema) <= _KNOWN_KEYWORDS or schema.get("additionalProperties", True) not in (True, False):
        raise NotExact
    properties, required = schema.get("properties", {}), set(schema.get("required", ()))
    if not required <= set(properties) or "enum" in schema:
        raise NotExact
    fields, rename = [], {}
    for column in columns:
        annotation = _exact_type(properties[column.property], column.type)
        # A default of None is not checked by msgspec, so a missing property is None and a JSON null is refused.
        field = (attribute(column), annotation)
        fields.append(field if column.property in required else (*field, None))
        rename[attribute(column)] = column.property
    return msgspec.defstruct(
        re.sub(r"\W", "_", name),
        fields,
        kw_only=True,
        rename=rename,
        forbid_unknown_fields=True,
        gc=False,  # JSON has no cycles
    )


def _exact_type(schema: Any, kind: ColumnType) -> Any:
    if not isinstance(schema, Mapping) or not set(schema) <= _KNOWN_KEYWORDS or kind.kind == "json":
        raise NotExact
    if kind.kind == "struct":
        inner = _exact_struct("nested", schema, kind.fields)
    elif kind.kind == "list" and kind.item:
        limits = _meta(schema, {"minItems": "min_length", "maxItems": "max_length"})
        inner = Annotated[list[_exact_type(schema["items"], kind.item)], limits]  # type: ignore[misc]
    else:
        inner = _exact_scalar(schema, kind.kind)
    return inner | None if isinstance(schema["type"], list) else inner


def _exact_scalar(schema: Mapping[str, Any], kind: str) -> Any:
    if kind == "bool":
        return _only(bool, schema)
    if kind in ("int64", "float64"):
        return _exact_number(schema, kind)
    if "enum" in schema:
        if not all(isinstance(one, str) for one in schema["enum"]) or "pattern" in schema:
            raise NotExact
        return Literal[tuple(schema["enum"])]
    if kind == "date32":
        return _only(dt.date, schema)
    if kind == "timestamp":
        return Annotated[_only(dt.datetime, schema), Meta(tz=True)]
    if "format" in schema:
        raise NotExact
    limits = {**_bounds(schema, {"minLength": "min_length", "maxLength": "max_length"})}
    if "pattern" in schema:
        pattern = str(schema["pattern"])
        if not _SIMPLE_PATTERN.fullmatch(pattern):
            raise NotExact
        limits["pattern"] = pattern[:-1] + r"\Z"  # Python's $ also matches before a final newline
    return Annotated[str, Meta(**limits)] if limits else str


def _exact_number(schema: Mapping[str, Any], kind: str) -> Any:
    if "enum" in schema:
        raise NotExact
    names = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
    bounds = _bounds(schema, names)
    if kind == "int64" and not all(isinstance(bound, int) for bound in bounds.values()):
        raise NotExact
    low, high = (INT64_MIN, INT64_MAX) if kind == "int64" else (-_EXACT, _EXACT)
    if "gt" not in bounds:
        bounds["ge"] = max(bounds.get("ge", low), low)
    if "lt" not in bounds:
        bounds["le"] = min(bounds.get("le", high), high)
    return Annotated[int if kind == "int64" else float, Meta(**bounds)]


def _only(kind: Any, schema: Mapping[str, Any]) -> Any:
    if {"enum", "pattern", "minLength", "maxLength"} & set(schema):
        raise NotExact
    return kind


def _bounds(schema: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: schema[theirs] for theirs, ours in names.items() if theirs in schema}


def _meta(schema: Mapping[str, Any], names: Mapping[str, str]) -> Meta:
    return Meta(**_bounds(schema, names))
