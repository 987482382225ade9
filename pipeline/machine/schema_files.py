"""Reads `schemas/`: `<event_type>/<version>.json`, each a JSON Schema of `data`, and `envelope.json`."""

import json
from pathlib import Path
from typing import Any

from pipeline.core.errors import ConfigProblem
from pipeline.core.schema import EventSchema, parse_schema
from pipeline.core.schema_document import check_document

ENVELOPE_FILE = "envelope.json"


def load_schemas(directory: Path) -> list[EventSchema]:
    """Read every version of every event type, by type and version.

    Raises:
        ConfigProblem: the folder is missing or holds no schema; a file is misnamed, is no JSON, is no JSON
            Schema (Draft 2020-12), or cannot become columns. The message names the file and the fault.
    """
    found = []
    for folder in _entries(directory):
        if folder.name == ENVELOPE_FILE:
            continue
        if not folder.is_dir():
            raise ConfigProblem(
                f"{folder}: not expected here; a schema lies at {directory}/<event_type>/<version>.json"
            )
        for path in _entries(folder):
            if path.suffix != ".json" or not path.stem.isdecimal() or path.stem != str(int(path.stem)):
                raise ConfigProblem(f"{path}: a schema file is named <version>.json, such as 1.json")
            found.append(_parse(path))
    if not found:
        raise ConfigProblem(f"{directory}: no schemas; put one at {directory}/<event_type>/1.json")
    return sorted(found, key=lambda schema: (schema.event_type, schema.version))


def load_document(path: Path) -> dict[str, Any]:
    """Read one JSON Schema, wherever it lies.

    Raises:
        ConfigProblem: it is missing, no JSON, or no JSON Schema.
    """
    return _read(path, "give the file of one schema")


def load_envelope(directory: Path) -> dict[str, Any]:
    """Read the envelope's JSON Schema.

    Raises:
        ConfigProblem: it is missing, no JSON, or no JSON Schema.
    """
    return _read(directory / ENVELOPE_FILE)


def _entries(directory: Path) -> list[Path]:
    try:
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    except OSError as exc:
        raise ConfigProblem(
            f"{directory}: cannot read the schemas: {exc.strerror}; see `paths.schemas`"
        ) from exc


def _parse(path: Path) -> EventSchema:
    try:
        return parse_schema(path.parent.name, int(path.stem), _read(path))
    except ConfigProblem as exc:
        if str(exc).startswith(str(path)):
            raise
        raise ConfigProblem(f"{path}: {exc}") from exc


def _read(path: Path, next_step: str = "see `paths.schemas`") -> dict[str, Any]:
    try:
        document = json.loads(path.read_bytes())
    except OSError as exc:
        raise ConfigProblem(f"{path}: cannot be read: {exc.strerror}; {next_step}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigProblem(f"{path}: is not UTF-8 text") from exc
    except json.JSONDecodeError as exc:
        raise ConfigProblem(f"{path}: line {exc.lineno}, column {exc.colno}: {exc.msg}") from exc
    if not isinstance(document, dict):
        raise ConfigProblem(f"{path}: a schema is a JSON object")
    try:
        check_document(document)
    except ConfigProblem as exc:
        raise ConfigProblem(f"{path}: {exc}") from exc
    return document
