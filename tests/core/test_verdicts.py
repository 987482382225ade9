"""One verdict, whoever gives it: the fast path, the slow path, jsonschema-rs and jsonschema."""

import datetime as dt
import json
from typing import Any

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import event as note
from hypothesis import given, settings

from pipeline.core.columns import typed_array
from pipeline.core.event import Limits, Row
from pipeline.core.judge import judge
from pipeline.core.rules import Rules, Version
from pipeline.core.schema import parse_schema
from tests.core.kit import decode, event, rules_for, wire, with_data
from tests.core.schemas import INTEGERS, MOMENTS, PATTERNS, SCHEMAS, SET_OPERATIONS, WORDS, near, slow_witness

NOON = dt.datetime(2024, 3, 10, 12, tzinfo=dt.UTC)
CLOSED = {"type": "object", "required": ["v"], "additionalProperties": False}


def _too_big(value: Any) -> bool:
    """True when somewhere in it is a whole number outside int64."""
    if isinstance(value, dict):
        return any(map(_too_big, value.values()))
    if isinstance(value, list):
        return any(map(_too_big, value))
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return whole and not -(2**63) <= value < 2**63


def _columns(version: Version, data: Any) -> pa.Table:
    return pa.table({one.name: typed_array(one, [data]) for one in version.schema.columns})


@st.composite
def _cases(draw: st.DrawFn) -> tuple[dict[str, Any], list[tuple[Any, bytes]]]:
    schema = draw(SCHEMAS)
    ascii_only = draw(st.booleans())
    chosen = [draw(near(schema)) for _ in range(4)]
    return schema, [(data, json.dumps(data, ensure_ascii=ascii_only).encode()) for data in chosen]


@given(_cases())
@settings(max_examples=250, deadline=None)
def test_one_verdict(case: tuple[dict[str, Any], list[tuple[Any, bytes]]]) -> None:
    """Both libraries and the loader agree; the fast path accepts nothing that they refuse, and fills the same columns."""
    schema, samples = case
    rules, witness = rules_for(schema), slow_witness(schema)
    for data, raw in samples:
        _judge_all(rules, witness, data, raw)


def _judge_all(rules: Rules, witness: Any, data: Any, raw: bytes) -> None:
    version = rules.types["door"][1]
    accepted = witness.is_valid(data)
    assert version.validator.is_valid(data) is accepted
    found = decode(with_data(raw), rules)
    if isinstance(found, Row):
        assert accepted
        _envelope, slow = judge(with_data(raw), rules, found.envelope.event_time)
        assert _columns(version, found.data).equals(_columns(version, slow))
    elif accepted:
        assert (found.code, _too_big(data)) == ("number_out_of_range", True)
    else:
        assert found.code in ("schema_mismatch", "bad_envelope", "number_out_of_range")
    note(_fast_is_no_laxer(rules, raw))


def _fast_is_no_laxer(rules: Rules, raw: bytes) -> str:
    """Assert that what the fast path lets pass, the slow one and JSON Schema let pass as well."""
    version = rules.types["door"][1]
    if version.shape.decode is None:
        return "outside the subset"
    try:
        version.shape.decode(raw)
    except (ValueError, RecursionError):
        return "left to the slow path"
    assert version.validator.is_valid(json.loads(raw)), raw
    judge(with_data(raw), rules, NOON)
    return "fast"


@given(st.binary(max_size=4), st.integers(0, 400), st.booleans())
@settings(max_examples=300, deadline=None)
def test_mutated_bytes(rubbish: bytes, at: int, insert: bool) -> None:
    """Whatever happens to an event's bytes, it is one row or one refusal, and a row is what both JSON parsers read."""
    whole = wire(event(data={"n": 1, "label": "é", "at": "2024-03-10T11:00:00Z"}))
    at %= len(whole)
    payload = whole[:at] + rubbish + whole[at if insert else at + len(rubbish) :]
    found = decode(payload, MUTATED)
    if isinstance(found, Row):
        document = json.loads(payload)
        assert MUTATED.envelope.is_valid(document)
        assert json.loads(found.raw) == document["data"]
        assert found.envelope.event_id == document["event_id"]
    else:
        assert found.raw == payload


MUTATED = rules_for(
    {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "label": {"type": "string"},
            "at": {"type": "string", "format": "date-time"},
        },
    }
)
_TIMES = st.sampled_from(MOMENTS) | st.from_regex(
    r"\A(0000|0001|1969|2023|2024|9999)-(0[0-9]|1[0-3])-(0[0-9]|[12][0-9]|3[0-2])[Tt _]([01][0-9]|2[0-4]):[0-6][0-9]:[0-6][0-9]"
    r"([.,][0-9]{0,10})?([Zz]|[+-][0-2][0-9]:?[0-6][0-9])?\Z"
)


@given(_TIMES)
@settings(max_examples=150, deadline=None)
def test_times_in_envelope_and_data(text: str) -> None:
    """A time that the envelope's schema refuses is refused; what is accepted is the instant that was written."""
    rules = rules_for(MUTATED.schemas["door"].versions[1].document, limits=Limits(max_future_seconds=2**37))
    found = decode(wire(event(event_time=text, received_time=text, data={"n": 1, "at": text})), rules)
    if isinstance(found, Row):
        assert rules.envelope.is_valid(event(event_time=text, received_time=text))
        assert found.envelope.event_time == found.envelope.received_time == found.data.c_at
        assert found.envelope.event_time.utcoffset() is not None
        pa.table({"at": typed_array(rules.schemas["door"].columns[2], [found.data])}).to_pylist()
    else:
        assert found.code in ("bad_envelope", "time_in_future")


@pytest.mark.parametrize(
    "pattern",
    [
        "^(a+)+$",
        "^(a|aa)*$",
        "^a*a*a*a*b$",
        "^a?a?a?a?a?a?a?a?aaaaaaaa$",
        "^[a-z]{1,99}[a-z]{1,99}$",
        "^a{2,}a+$",
    ],
)
def test_a_pattern_that_could_take_for_ever_is_left_to_the_exact_judge(pattern: str) -> None:
    """A pattern of which one text can be matched in very many ways has no fast path, and is judged in no time."""
    schema = {**CLOSED, "properties": {"v": {"type": "string", "pattern": pattern}}}
    version = Version(parse_schema("t", 1, schema))
    assert not version.shape.decode
    assert not version.validator.is_valid({"v": "a" * 300 + "!"})


@pytest.mark.parametrize("pattern", [*PATTERNS, *SET_OPERATIONS])
def test_patterns(pattern: str) -> None:
    """A pattern of the subset means to msgspec what it means to ECMA 262, also before a newline."""
    schema = {**CLOSED, "properties": {"v": {"type": "string", "pattern": pattern}}}
    version = Version(parse_schema("door", 1, schema))
    assert not (pattern in SET_OPERATIONS and version.shape.decode)  # what they mean is not settled
    for word in [*WORDS, "aa", "ab", "bb", "b", "B", "[", "]", ",", ".", "b{,2}"]:
        for text in (word, word + "\n"):
            raw = json.dumps({"v": text}).encode()
            if version.shape.decode is not None:
                try:
                    version.shape.decode(raw)
                except ValueError:
                    continue
                assert version.validator.is_valid({"v": text}), (pattern, text)


@pytest.mark.parametrize("kind", ["integer", "number"])
@pytest.mark.parametrize("keyword", ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"])
@pytest.mark.parametrize("bound", [0, 5, 2**53 - 1, 2**53, 2**63 - 1, -(2**63), 2**70, -(2**70), 1e300])
def test_bounds(kind: str, keyword: str, bound: float) -> None:
    """At every bound and beside it the fast path is no laxer than JSON Schema."""
    schema = {**CLOSED, "properties": {"v": {"type": kind, keyword: bound}}}
    rules = rules_for(schema)
    whole = int(bound)
    for value in [*INTEGERS, whole - 1, whole, whole + 1, 2**64, -(2**64), 10**30, float(whole)]:
        raw = json.dumps({"v": value}).encode()
        _fast_is_no_laxer(rules, raw)


@pytest.mark.parametrize(
    ("inner", "value", "accepted"),
    [
        ({"type": ["string", "null"], "enum": ["a"]}, None, False),
        ({"type": ["string"]}, None, False),
        ({"type": ["string", "null"]}, None, True),
        ({"type": "array", "items": {"type": "integer"}, "enum": [[1]]}, [2], False),
        ({"type": "string", "format": "date", "enum": ["2024-03-10"]}, "2024-03-10", True),
        (
            {"type": "string", "format": "date-time", "enum": ["2024-03-10T11:00:00Z"]},
            "2024-03-10T11:00:00Z",
            True,
        ),
        ({"type": "string", "enum": ["abc"], "maxLength": 2}, "abc", False),
        (
            {"type": "array", "prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
            ["a", 1],
            True,
        ),
        (
            {"type": "array", "items": {"type": ["string", "null"], "format": "date-time"}},
            [None, MOMENTS[0]],
            True,
        ),
        ({"type": "number", "minimum": 0, "exclusiveMinimum": 0}, 0, False),
    ],
)
def test_combinations_that_tempt_the_fast_path(inner: dict[str, Any], value: Any, accepted: bool) -> None:
    """Keywords beside each other mean all of them; what is accepted also becomes a column."""
    rules = rules_for({**CLOSED, "properties": {"v": inner}})
    found = decode(wire(event(data={"v": value})), rules)
    assert isinstance(found, Row) is accepted
    if isinstance(found, Row):
        assert _columns(rules.types["door"][1], found.data).num_rows == 1
