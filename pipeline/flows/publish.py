"""Publishing a schema version: checked as a file is, and against all that is published; stored once, with its act."""

from collections.abc import Mapping
from typing import Any

from pipeline.core.caller import Caller
from pipeline.core.errors import ConfigProblem
from pipeline.core.rules import Rules, Version
from pipeline.core.schema import group_types, parse_schema
from pipeline.core.schema_document import check_document
from pipeline.core.tenant import Act, Publication
from pipeline.ports.control import Control


class Published(ConfigProblem):
    """The version exists with another document; a version never changes."""


def publish(
    event_type: str,
    version: int,
    document: Mapping[str, Any],
    caller: Caller,
    rules: Rules,
    control: Control,
    now_us: int,
) -> bool:
    """Publish one version; False when it is published already, with the very same document.

    Raises:
        Published: with another one.
        ConfigProblem: it is no schema, or contradicts one that is published: the message says where.
        Transient: the control store does not answer.
    """
    check_document(document)
    schema = parse_schema(event_type, version, document)
    known = [one for group in rules.schemas.values() for one in group.versions.values()]
    known += [
        parse_schema(one.event_type, one.version, one.document)
        for one in control.publications()
        if one.event_type not in rules.schemas or one.version not in rules.schemas[one.event_type].versions
    ]
    for one in known:
        if (one.event_type, one.version) == (event_type, version):
            if dict(one.document) == dict(document):
                return False
            raise Published(
                f"{event_type}/{version} is published with another document: publish a further version"
            )
    group_types([*known, schema])
    Version(schema)
    act = Act(
        now_us, caller.credential, "schema.publish", f"{event_type}/{version}", {"tenant": caller.tenant_id}
    )
    publication = Publication(event_type, version, document, caller.credential, now_us)
    control.publish(publication, act)
    return True
