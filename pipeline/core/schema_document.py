"""Is a document a JSON Schema at all: the same verdict for a file and for a publication. Apart, as its import takes time."""

from collections.abc import Mapping
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import SchemaError

from pipeline.core.errors import ConfigProblem


def check_document(name: str, document: Mapping[str, Any]) -> None:
    """Hold a document against the meta-schema of JSON Schema 2020-12; `name` says in a message which one it is.

    Raises:
        ConfigProblem: with the path to the fault.
    """
    try:
        Draft202012Validator.check_schema(document)
    except SchemaError as exc:
        raise ConfigProblem(f"{name}: {exc.json_path}: {exc.message}") from exc
