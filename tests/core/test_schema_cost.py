"""How often a schema judges one value: what could take hours is refused, what people write is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.errors import ConfigProblem
from pipeline.core.schema_cost import MAX_APPLIED, MAX_SUBSCHEMAS
from pipeline.core.schema_document import check_document

T = {"$ref": "#/$defs/t"}


def schema(of: Any, **defs: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": of}, "$defs": defs}


def doubling(levels: int) -> dict[str, Any]:
    twice = {
        f"d{at}": {"anyOf": [{"$ref": f"#/$defs/d{at - 1}"}, {"$ref": f"#/$defs/d{at - 1}", "maxLength": at}]}
        for at in range(1, levels)
    }
    return schema({"$ref": f"#/$defs/d{levels - 1}"}, d0={"type": "string"}, **twice)


REFUSED = {
    "doubled by each reference": doubling(40),
    "of itself": schema(T, t={"allOf": [T]}),
    "of itself, by an anchor": schema({"$ref": "#x"}, t={"$anchor": "x", "not": {"$dynamicRef": "#x"}}),
    "doubled by each level": schema(T, t={"anyOf": [{"properties": {"x": T}}, {"properties": {"x": T}}]}),
    "doubled by each level of any name": schema(T, t={"patternProperties": {"x": T, "y": T}}),
    "doubled by a name and any name": schema(T, t={"properties": {"x": T}, "patternProperties": {"x": T}}),
    "doubled by each level of a list": schema(T, t={"items": T, "contains": T}),
    "doubled by a further member": schema(
        T, t={"allOf": [{"properties": {"x": T}}, {"additionalProperties": T}]}
    ),
    "long chains": schema(T, t={"allOf": [{"maxLength": at} for at in range(500)]}),
    "too many": schema({}) | {"properties": {str(at): {} for at in range(MAX_SUBSCHEMAS + 1)}},
    "an id below the top": schema({"$id": "https://example.com/x", "$ref": "#/$defs/t"}, t={}),
    "nowhere": schema({"$ref": "#/$defs/u"}, t={}),
}
TAKEN = {
    "a tree": schema(T, t={"properties": {"left": T, "right": T}}),
    "a tree of others": schema(T, t={"properties": {"left": T}, "additionalProperties": T}),
    "an expression": schema(T, t={"properties": {"and": {"items": T}, "or": {"items": T}, "not": T}}),
    "places": schema(T, t={"prefixItems": [T, T, T]}),
    "variants": schema({"oneOf": [{"properties": {"kind": {"const": at}}} for at in range(50)]}),
    "an escaped name": schema({"$ref": "#/$defs/a~1b%25"}, **{"a/b%": {"type": "string"}}),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_could_take_for_ever_is_refused(name: str) -> None:
    """A schema whose work on one value grows with each reference or level is no schema version."""
    with pytest.raises(ConfigProblem):
        check_document(REFUSED[name])


@pytest.mark.parametrize("name", TAKEN)
def test_what_people_write_is_taken(name: str) -> None:
    """Trees, expressions and variants are taken, also where they refer to themselves."""
    check_document(TAKEN[name])


def test_the_bound_is_where_it_says() -> None:
    """Doubling is taken as long as one value is judged often enough for no more than the bound."""
    assert 2**6 < MAX_APPLIED < 2**9
    check_document(doubling(6))
    with pytest.raises(ConfigProblem, match=f"more than {MAX_APPLIED} times"):
        check_document(doubling(9))


def test_ours_are_taken() -> None:
    """Every schema that is delivered is far below the bounds."""
    for path in Path("schemas").rglob("*.json"):
        check_document(json.loads(path.read_text()))
