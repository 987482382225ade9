"""Strategies: JSON Schemas inside and outside the fast path's subset, and data that nearly fits them."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import jsonschema
from hypothesis import strategies as st
from jsonschema import validators
from jsonschema.exceptions import ValidationError

INTEGERS = [0, 1, -1, 2, 5, 10, 2**31, 2**53 - 1, 2**53, 2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)]
HUGE = [2**63, -(2**63) - 1, 2**64, 10**30]
FLOATS = [0.0, -0.0, 1.0, 0.1, 1.5, -2.5, 1e-9, 1e15, 9007199254740992.0, 1e19, 1e30, -1e300]
MOMENTS = [
    "2024-03-10T11:00:00Z",
    "2024-03-10t11:00:00z",
    "2024-03-10T11:00:00.5Z",
    "2024-03-10T11:00:00.123456789+05:30",
    "2024-03-10T11:00:00-00:00",
    "0001-01-01T00:00:00+01:00",
    "2016-12-31T23:59:60Z",
    "2024-03-10 11:00:00Z",
    "2024-03-10T11:00:00+0000",
    "2024-03-10T11:00:00+00",
    "2024-03-10T11:00:00",
    "2024-03-10T11:00Z",
    "2024-03-10T110000.0Z",
    "2024-W10-7T11:00:00Z",
    "20240310T11:00:00.00Z",
    "2024-03-10T24:00:00Z",
    "2023-02-29T11:00:00Z",
    "2024-03-10T11:00:00,5Z",
    "2024-03-10T11:00:00Z\n",
    "2024-03-10T11:00:00+01:00:00",
]
DATES = ["2024-03-10", "2023-02-29", "2024-3-1", "20240310", "2024-03-10\n", "2024-03-10Z", "0001-01-01"]
WORDS = [
    "",
    "a",
    "ab",
    "AB",
    "AB1",
    "AB\n",
    "\n",
    "é",
    "e\u0301",
    "\U0001f600",
    "\x00",
    'say "a"',
    "a\\b",
    "x" * 40,
    "&",
    "-",
]
PATTERNS = [
    "^[A-Z]{2}$",
    "^a+$",
    "^a|b$",
    "^[a-z]*[0-9]?$",
    "^[^a]$",
    "^(ab|AB)$",
    "^a--$",
    "^é$",
    "^.$",
    "a",
    "^\\w+$",
    "^$",
    "^[ \\t]$",
    "[A-Z]$",
    "^(?!a)[a-z]$",
    "^(?=A)[A-Z0-9]{2,3}$",
]
# Some engines take these for operations on sets, others for letters; and Python warns of them.
SET_OPERATIONS = ["^[a&&b]$", "^[+--]$", "^[a~~b]$"]
NAMES = ["a", "b", "C", "to do", "class", "é"]
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.sampled_from([*INTEGERS, *HUGE, *FLOATS])
    | st.sampled_from([*WORDS, *MOMENTS, *DATES]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=4,
)


def _some(**keywords: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=keywords)


def _numbers(pool: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    one = st.sampled_from(pool)
    return (
        _some(minimum=one, maximum=one)
        | _some(exclusiveMinimum=one, exclusiveMaximum=one)
        | _some(minimum=one, exclusiveMinimum=one)
    )


def _type(kind: str) -> st.SearchStrategy[Any]:
    return st.sampled_from([kind, kind, kind, [kind, "null"], [kind]])


def _scalar(kind: str, keywords: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(lambda chosen, rest: {"type": chosen, **rest}, _type(kind), keywords)


_length = st.integers(0, 3)
_enum = st.lists(st.sampled_from([*WORDS, *MOMENTS[:3], *DATES[:2]]), min_size=1, max_size=3, unique=True)
_ODD: list[Any] = [
    True,
    {},
    {"type": ["integer", "string"]},
    {"const": 1},
    {"enum": [1, "a", None]},
    {"type": "integer", "multipleOf": 2},
    {"type": "integer", "enum": [1, 2]},
    {"type": "string", "format": "email"},
    {"type": "string", "minLength": 1.0},
    {"anyOf": [{"type": "integer"}, {"maxLength": 1}]},
    {"type": "array"},
    {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
    {"type": "array", "items": {"type": "integer"}, "enum": [[1]]},
    {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    {"type": "object", "minProperties": 1},
]
_INSIDE = st.one_of(
    _scalar("integer", _numbers(INTEGERS)),
    _scalar("number", _numbers([*INTEGERS, *FLOATS])),
    _scalar(
        "string", _some(minLength=_length, maxLength=st.integers(2, 9), pattern=st.sampled_from(PATTERNS[:6]))
    ),
    st.builds(lambda enum: {"type": "string", "enum": enum}, _enum),
    _scalar("string", st.sampled_from([{"format": "date-time"}, {"format": "date"}, {}])),
    _scalar("boolean", st.just({})),
)
_ANY = st.one_of(
    _INSIDE,
    _scalar("integer", _numbers([*INTEGERS, *HUGE, 1.5])),
    _scalar("number", _numbers([*INTEGERS, *HUGE, *FLOATS])),
    _scalar("string", _some(minLength=_length, maxLength=_length, pattern=st.sampled_from(PATTERNS))),
    _scalar("string", _some(enum=_enum, format=st.sampled_from(["date", "date-time"]))),
    _scalar("string", st.just({"format": "date-time"})),
    _scalar("string", st.just({"format": "date"})),
    _scalar("boolean", st.just({})),
    st.sampled_from(_ODD),
)


_EXTRA = [
    {},
    {"additionalProperties": False},
    {"additionalProperties": True},
    {"additionalProperties": {"type": "integer"}},
]


def _objects(inner: st.SearchStrategy[Any], extra: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda properties, required, more: {
            "type": "object",
            "properties": properties,
            "required": [name for name in properties if name in required],
            **more,
        },
        st.dictionaries(st.sampled_from(NAMES[:4]), inner, min_size=1, max_size=4),
        st.sets(st.sampled_from(NAMES)),
        st.sampled_from(extra),
    )


def _lists(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.builds(
        lambda items, more: {"type": "array", "items": items, **more},
        inner,
        _some(minItems=_length, maxItems=_length),
    )


def _nested(scalars: st.SearchStrategy[Any], extra: list[Any]) -> st.SearchStrategy[dict[str, Any]]:
    flat = _objects(scalars, extra)
    return flat | _objects(scalars | flat | _lists(scalars) | _lists(flat), extra)


SCHEMAS = _nested(_INSIDE, _EXTRA[:2]) | _nested(_ANY, _EXTRA)


def near(schema: Any) -> st.SearchStrategy[Any]:
    """Return data of a schema's shape whose values mostly fit its bounds, or not by one."""
    return st.integers(0, 15).flatmap(lambda dice: _fitting(schema) if dice else ANYTHING)


def _fitting(schema: Any) -> st.SearchStrategy[Any]:
    if not isinstance(schema, Mapping):
        return ANYTHING
    kinds = schema.get("type")
    kind = kinds[0] if isinstance(kinds, list) else kinds
    if kind == "object" and "properties" in schema:
        parts = {name: near(one) for name, one in schema["properties"].items()}
        full = st.fixed_dictionaries(parts)
        return full | full | st.fixed_dictionaries({}, optional={**parts, "é": ANYTHING})
    if kind == "array" and "items" in schema:
        return st.lists(near(schema["items"]), max_size=3)
    if kind == "integer":
        return st.sampled_from([*INTEGERS, 1.0, 1e15, 1e30])
    if kind == "number":
        return st.sampled_from([*INTEGERS, *FLOATS])
    if kind == "string":
        texts = {"date-time": MOMENTS, "date": DATES}.get(str(schema.get("format")), WORDS)
        return st.sampled_from(schema.get("enum", texts)) | st.sampled_from(texts)
    return ANYTHING


_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def _is_date_time(value: Any) -> bool:
    if not isinstance(value, str):
        return True
    return _DATE_TIME.fullmatch(value) is not None and _is_real(
        value[:19].upper().replace("23:59:60", "23:59:59")
    )


def _is_date(value: Any) -> bool:
    return not isinstance(value, str) or (
        re.fullmatch(r"\d{4}-\d\d-\d\d", value) is not None and _is_real(value)
    )


def _is_email(value: Any) -> bool:
    return not isinstance(value, str) or re.fullmatch(r"[^@]+@[^@]+", value) is not None


_checker = jsonschema.FormatChecker(formats=())
for _name, _check in (("date-time", _is_date_time), ("date", _is_date), ("email", _is_email)):
    _checker.checks(_name)(_check)


def _is_real(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _pattern(_validator: Any, pattern: str, value: Any, _schema: Any) -> Any:
    """ECMA 262's `$` is the end of the text; Python's is also the place before a last newline."""
    if isinstance(value, str) and not re.search(pattern.replace("$", r"\Z"), value):
        yield ValidationError(f"{value!r} does not match {pattern!r}")


_Validator = validators.extend(jsonschema.Draft202012Validator, {"pattern": _pattern})


def slow_witness(schema: Any) -> Any:
    """Return the Python library `jsonschema` with the formats and the `$` of the standards."""
    return _Validator(schema, format_checker=_checker)
