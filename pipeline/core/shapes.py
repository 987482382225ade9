"""Generated structs: the fast verdict on `data`, and the shape its columns are read from.

For every schema version there is one struct class whose attributes are the version's columns. Where the whole
schema lies inside a subset that msgspec checks exactly as JSON Schema does, decoding into the class *is* the
validation (1.6 us against 6 us by way of dicts). The fast path may refuse what JSON Schema accepts, because a
refusal is judged again (`core.judge`); it must never accept what JSON Schema refuses. A property test holds it
to that.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pipeline.core.moment import moment, moments
from pipeline.core.schema import Column, ColumnType, EventSchema

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
# Beyond this a double no longer holds every integer, and a JSON integer literal may exceed int64: judged slowly.
_EXACT = 2**53 - 1
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

# What may match several lengths of text. Python's engine goes through all their combinations before it says no, so a pattern
# of `(a+)+` and 40 letters would hold a process for hours; the exact judge's engine takes one way through the text.
_CLASS = re.compile(r"\[\^?[^\\\[\]]*\]")
_VARIES = re.compile(r"[*+?]|\{(\d*)(,?)(\d*)\}")
_MOST_WAYS = 64
_SET_OPERATION = re.compile(r"&&|--|~~|\|\|")  # inside a class, which some engines take for more than letters


class NotExact(Exception):
    """The schema leaves the subset in which msgspec and JSON Schema agree."""


class DoesNotFit(Exception):
    """A number that JSON Schema calls an integer has no place in its column, which holds 64 bits.

    Attributes:
        path: where it is in `data`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.path: list[str | int] = []


class Shape:
    """One version's struct class and how to fill it.

    Attributes:
        decode: bytes of `data` -> struct, raising msgspec.MsgspecError; None outside the exact subset.
        all_fit: whether `decode` would take the bytes of each of many `data`; may raise as it does; None where that is.
        depth: the deepest nesting of `data` that the exact shape lets pass.
    """

    def __init__(self, schema: EventSchema) -> None:
        self._columns = schema.columns
        self.depth = 1 + max((_depth(column.type) for column in schema.columns), default=0)
        self._factory = _struct_factory(schema.event_type, schema.columns)
        self.decode: Callable[[bytes | msgspec.Raw], Any] | None = None
        self.all_fit: Callable[[Sequence[bytes | msgspec.Raw]], bool] | None = None
        try:
            exact = _exact_struct(schema.event_type, schema.document, schema.columns)
            parse = msgspec.json.Decoder(exact).decode
            self.decode = _settled(parse, schema.columns)
            self.all_fit = _all_fit(parse, schema.columns)
        except (NotExact, TypeError, ValueError):  # a bound or a name that msgspec cannot express
            pass

    def fill(self, data: Mapping[str, Any]) -> Any:
        """Return the struct for an object that JSON Schema has accepted.

        Raises:
            DoesNotFit: an integer outside the 64-bit signed range, written as 1e30 or so.
        """
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
    values: dict[str, Any] = {}
    for column in columns:
        if column.property in data:
            values[attribute(column)] = _placed(column.type, data[column.property], column.property)
    return factory(**values)


def _placed(kind: ColumnType, value: Any, place: str | int) -> Any:
    try:
        return _value(kind, value)
    except DoesNotFit as exc:
        exc.path.insert(0, place)
        raise


def _value(kind: ColumnType, value: Any) -> Any:
    """Return a JSON value as its column holds it; None where it does not fit (the JSON text keeps it)."""
    if kind.kind == "json":
        return msgspec.json.encode(value).decode()
    if value is None:
        return None
    if kind.kind == "int64":
        if not INT64_MIN <= value <= INT64_MAX:
            raise DoesNotFit
        return int(value)
    if kind.kind == "float64":
        return float(value)
    if kind.kind in ("timestamp", "date32"):
        return _moment(kind.kind, value)
    if kind.kind == "list" and kind.item:
        return [_placed(kind.item, one, index) for index, one in enumerate(value)]
    if kind.kind == "struct":
        return _fill(_struct_factory("nested", kind.fields), kind.fields, value)
    return value


def _moment(kind: str, value: str) -> dt.datetime | dt.date | None:
    if kind == "timestamp":
        return moment(value)  # None: a leap second, say; data_json keeps it
    try:
        return msgspec.convert(value, dt.date)
    except msgspec.ValidationError:
        return None  # the year 0


def _settled(parse: Callable[[Any], Any], columns: tuple[Column, ...]) -> Callable[[Any], Any]:
    """Return a decoder that turns the date-times of an exact struct from text into instants."""
    found = [(attribute(column), _settler(column.type)) for column in columns]
    instants = [name for name, settle in found if settle is _instant]
    inside = [(name, settle) for name, settle in found if settle is not None]

    def settled(raw: Any) -> Any:
        struct = parse(raw)
        for name, settle in inside:
            value = getattr(struct, name)
            if value is not None:
                setattr(struct, name, settle(value))
        return struct

    def settled_instants(raw: Any) -> Any:  # most have no others; a call less for each event
        struct = parse(raw)
        for name in instants:
            text = getattr(struct, name)
            if text is not None:
                when = moment(text)
                if when is None:
                    raise _no_date_time()
                setattr(struct, name, when)
        return struct

    if len(instants) < len(inside):
        return settled
    return settled_instants if instants else parse


def _all_fit(parse: Callable[[Any], Any], columns: tuple[Column, ...]) -> Callable[[Sequence[Any]], bool]:
    """Return what says of many `data` whether `_settled` would take each: their date-times are looked at together."""
    found = [(attrgetter(attribute(column)), _settler(column.type)) for column in columns]
    instants = [of for of, settle in found if settle is _instant]
    others = [(of, settle) for of, settle in found if settle is not None and settle is not _instant]

    def all_fit(raws: Sequence[Any]) -> bool:
        structs = [parse(raw) for raw in raws]
        for of, settle in others:
            for value in map(of, structs):
                if value is not None:
                    settle(value)
        texts = ([text for text in map(of, structs) if text is not None] for of in instants)
        return all(moments(some) is not None for some in texts)

    return all_fit


def _settler(kind: ColumnType) -> Callable[[Any], Any] | None:
    if kind.kind == "timestamp":
        return _instant
    if kind.kind == "list" and kind.item:
        each = _settler(kind.item)
        return each and (lambda values: [None if value is None else each(value) for value in values])
    settled = _settled(_parsed, kind.fields)
    return None if settled is _parsed else settled


def _parsed(struct: Any) -> Any:
    return struct


def _instant(text: str) -> dt.datetime:
    found = moment(text)
    if found is None:
        raise _no_date_time()
    return found


def _no_date_time() -> msgspec.ValidationError:
    return msgspec.ValidationError("not an RFC 3339 date-time")


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
        if "enum" in schema:
            raise NotExact
        limits = Meta(**_bounds(schema, {"minItems": "min_length", "maxItems": "max_length"}))
        inner = Annotated[list[_exact_type(schema["items"], kind.item)], limits]  # type: ignore[misc]
    else:
        inner = _exact_scalar(schema, kind.kind)
    nullable = isinstance(schema["type"], list) and "null" in schema["type"] and "enum" not in schema
    return inner | None if nullable else inner


def _exact_scalar(schema: Mapping[str, Any], kind: str) -> Any:
    if kind == "bool":
        return _only(bool, schema)
    if kind in ("int64", "float64"):
        return _exact_number(schema, kind)
    if kind == "date32":
        return _only(dt.date, schema)
    if kind == "timestamp":
        return _only(str, schema)  # the decoder looks at it again: see `_settled`
    return _exact_string(schema)


def _exact_string(schema: Mapping[str, Any]) -> Any:
    if "enum" in schema:
        plain = not {"pattern", "format", "minLength", "maxLength"} & set(schema)
        if not plain or not all(isinstance(one, str) for one in schema["enum"]):
            raise NotExact
        return Literal[tuple(schema["enum"])]
    if "format" in schema:
        raise NotExact
    limits = {**_bounds(schema, {"minLength": "min_length", "maxLength": "max_length"})}
    if "pattern" in schema:
        pattern = str(schema["pattern"])
        if not _SIMPLE_PATTERN.fullmatch(pattern) or _SET_OPERATION.search(pattern) or not _is_quick(pattern):
            raise NotExact
        limits["pattern"] = pattern[:-1] + r"\Z"  # Python's $ also matches before a final newline
    return Annotated[str, Meta(**limits)] if limits else str


def _is_quick(pattern: str) -> bool:
    """True when a search tries few ways through a text: no groups, one part without a bound at most, few lengths of the others."""
    outside = _CLASS.sub("c", pattern)
    if set("()|") & set(outside):
        return False
    ways, unbounded = 1, 0
    for part in _VARIES.finditer(outside):
        if part[0] == "?":
            ways *= 2
        elif part[0] in "*+" or (part[2] and not part[3]):
            unbounded += 1
        elif part[2]:
            ways *= max(1, int(part[3]) - int(part[1] or 0) + 1)
    return unbounded <= 1 and ways <= _MOST_WAYS


def _exact_number(schema: Mapping[str, Any], kind: str) -> Any:
    if "enum" in schema:
        raise NotExact
    names = {"minimum": "ge", "maximum": "le", "exclusiveMinimum": "gt", "exclusiveMaximum": "lt"}
    bounds = _bounds(schema, names)
    if kind == "int64" and not all(isinstance(bound, int) for bound in bounds.values()):
        raise NotExact
    low, high = (INT64_MIN, INT64_MAX) if kind == "int64" else (-_EXACT, _EXACT)
    if bounds.get("gt", low - 1) < low:  # an open bound holds the numbers in only when it lies inside
        bounds.pop("gt", None)
        bounds["ge"] = max(bounds.get("ge", low), low)
    if bounds.get("lt", high + 1) > high:
        bounds.pop("lt", None)
        bounds["le"] = min(bounds.get("le", high), high)
    plain = int if kind == "int64" else float
    return Annotated[plain, Meta(**bounds)]


def _only(kind: Any, schema: Mapping[str, Any]) -> Any:
    if {"enum", "pattern", "minLength", "maxLength"} & set(schema):
        raise NotExact
    return kind


def _bounds(schema: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {ours: schema[theirs] for theirs, ours in names.items() if theirs in schema}
