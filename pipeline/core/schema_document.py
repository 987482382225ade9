"""Whether a document may become a schema version: the one check for files and for what is published over HTTP."""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from pipeline.core.errors import ConfigProblem
from pipeline.core.schema_cost import check_cost

MAX_DOCUMENT_BYTES = 256 * 1024
_MAX_DEPTH = 64  # of a document; ours have about six


def check_document(document: Mapping[str, Any]) -> None:
    """Check that a document is a JSON Schema (Draft 2020-12) that stands by itself.

    Raises:
        ConfigProblem: it is none, is nested too deeply, refers to what is outside of it, or judges one value too often. The message names the place.
    """
    for place, name, value, depth in _members(document, "$", 1):
        if depth > _MAX_DEPTH:
            raise ConfigProblem(f"nested more than {_MAX_DEPTH} deep")
        if name in {"$ref", "$dynamicRef"} and isinstance(value, str) and not value.startswith("#"):
            raise ConfigProblem(f"{place}: refers outside of the document: put it under $defs")
    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as exc:
        raise ConfigProblem(f"{exc.json_path}: {exc.message}") from exc
    check_cost(document)


def _members(value: Any, place: str, depth: int) -> Iterator[tuple[str, str, Any, int]]:
    if isinstance(value, Mapping):
        named = [(f"{place}.{name}", str(name), inner) for name, inner in value.items()]
    elif isinstance(value, list):
        named = [(f"{place}[{number}]", "", inner) for number, inner in enumerate(value)]
    else:
        return
    for where, name, inner in named:
        yield where, name, inner, depth
        if depth <= _MAX_DEPTH:
            yield from _members(inner, where, depth + 1)
