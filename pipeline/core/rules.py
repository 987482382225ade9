"""What a segment is judged by: schemas, tenants, limits. Immutable, and named by its digest.

The digest is stored with every segment and the document under `rules/<digest>.json`, so that anyone can say
later why a unit was accepted or refused.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema_rs
import orjson

from pipeline.core.errors import ConfigProblem
from pipeline.core.event import Limits
from pipeline.core.names import is_name
from pipeline.core.schema import EventSchema, TypeSchema, group_types, parse_schema
from pipeline.core.shapes import Shape
from pipeline.core.tenant import Publication

LAYOUT_VERSION = 2  # of data files, ids files and staging objects; a change bumps it and the changelog


class Version:
    """One schema version, ready to judge: validator and shape.

    Raises:
        ConfigProblem: the document is no JSON Schema, a pattern no pattern, or a reference leads nowhere.
    """

    def __init__(self, schema: EventSchema) -> None:
        self.schema = schema
        try:
            self.validator = jsonschema_rs.Draft202012Validator(dict(schema.document), validate_formats=True)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as exc:
            raise ConfigProblem(
                f"schema {schema.event_type}/{schema.version}: {exc}".splitlines()[0]
            ) from exc
        self.shape = Shape(schema)


@dataclass(frozen=True)
class Rules:
    """Schemas, tenants and limits of one deployment.

    Attributes:
        schemas: every type with all its versions.
        tenants: the registered tenants.
        envelope_document: the JSON Schema of the envelope.
    """

    schemas: Mapping[str, TypeSchema]
    tenants: frozenset[str]
    limits: Limits
    envelope_document: Mapping[str, Any]

    def schema(self, event_type: str, version: int) -> EventSchema | None:
        """Return one schema version; None: there is none."""
        group = self.schemas.get(event_type)
        return None if group is None else group.versions.get(version)

    @cached_property
    def types(self) -> dict[str, dict[int, Version]]:
        """Return event type -> version -> what judges it."""
        return {
            name: {number: Version(schema) for number, schema in one.versions.items()}
            for name, one in self.schemas.items()
        }

    @cached_property
    def envelope(self) -> jsonschema_rs.Draft202012Validator:
        """Return the envelope's validator."""
        return jsonschema_rs.Draft202012Validator(dict(self.envelope_document), validate_formats=True)

    @cached_property
    def document(self) -> bytes:
        """Return the canonical bytes stored under `rules/<digest>.json`."""
        body = {
            "layout_version": LAYOUT_VERSION,
            "tenants": sorted(self.tenants),
            "limits": {name: getattr(self.limits, name) for name in Limits.__struct_fields__},
            "envelope": self.envelope_document,
            "schemas": {
                name: {str(number): schema.document for number, schema in one.versions.items()}
                for name, one in self.schemas.items()
            },
        }
        return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)

    @cached_property
    def digest(self) -> str:
        """Return the name of these rules: 16 hex digits of the document's SHA-256."""
        return rules_digest(self.document)


def rules_digest(document: bytes) -> str:
    """Return the name of rules by the bytes of their document."""
    return hashlib.sha256(document).hexdigest()[:16]


def make_rules(
    schemas: Iterable[EventSchema], tenants: Iterable[str], limits: Limits, envelope: Mapping[str, Any]
) -> Rules:
    """Build rules.

    Raises:
        ConfigProblem: a tenant's name cannot be part of a key, or the schemas contradict each other.
    """
    names = frozenset(tenants)
    for name in sorted(names):
        if not is_name(name):
            raise ConfigProblem(f"tenant {name!r}: must match ^[a-z0-9][a-z0-9._-]{{0,62}}$")
    return Rules(group_types(list(schemas)), names, limits, envelope)


def with_stored(base: Rules, tenants: Iterable[str], publications: Iterable[Publication]) -> Rules:
    """Return rules with tenants and published schemas added; `base` itself where nothing is new.

    Raises:
        ConfigProblem: a published version is in the files too, as another document, or contradicts other schemas.
    """
    schemas = {
        (one.event_type, one.version): one for of in base.schemas.values() for one in of.versions.values()
    }
    known = len(schemas)
    for one in publications:
        filed = schemas.get((one.event_type, one.version))
        if filed is None:
            schemas[one.event_type, one.version] = parse_schema(one.event_type, one.version, one.document)
        elif filed.document != one.document:
            raise ConfigProblem(
                f"schema {one.event_type}/{one.version} is published with another document than the file in paths.schemas has: "
                "a version stays as it is; give the file the next version"
            )
    names = base.tenants | frozenset(tenants)
    if len(schemas) == known and names == base.tenants:
        return base
    return make_rules(schemas.values(), names, base.limits, base.envelope_document)


def rules_of(document: bytes) -> Rules:
    """Read rules back from the document stored under `rules/<digest>.json`.

    Raises:
        ConfigProblem: a schema is none.
    """
    body = orjson.loads(document)
    schemas = [
        parse_schema(name, int(number), schema)
        for name, versions in body["schemas"].items()
        for number, schema in versions.items()
    ]
    return make_rules(schemas, body["tenants"], Limits(**body["limits"]), body["envelope"])
