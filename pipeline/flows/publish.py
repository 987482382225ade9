"""Publishing a schema version: checked as a file is, and against all that is published; stored once, with its act."""

from pipeline.core.catalogue import catalogue
from pipeline.core.errors import ConfigProblem
from pipeline.core.rules import Rules, with_stored
from pipeline.core.schema_document import check_document
from pipeline.core.tenant import Act, Publication
from pipeline.ports.control import Control


class Published(ConfigProblem):
    """The version exists with another document; a version never changes."""


def publish(control: Control, base: Rules, wanted: Publication, act: Act) -> bool:
    """Publish one version; False when it is published already, with the very same document.

    Args:
        control: the store.
        base: what settings and schema files say, at least.
        wanted: the version.
        act: that this is.

    Raises:
        Published: with another one.
        ConfigProblem: it is no schema, or contradicts one that is published, or another type's table: the message says where.
        Transient: the control store does not answer.
    """
    name = f"{wanted.event_type}/{wanted.version}"
    try:
        check_document(wanted.document)
    except ConfigProblem as exc:
        raise ConfigProblem(f"schema {name}: {exc}") from exc
    seen = control.revision()
    stored = with_stored(base, (), control.publications())
    group = stored.schemas.get(wanted.event_type)
    known = group.versions.get(wanted.version) if group is not None else None
    if known is not None:
        if known.document == wanted.document:
            return False
        raise Published(f"schema {name} is published with another document: publish a further version")
    rules = with_stored(stored, (), [wanted])
    catalogue(rules.schemas)
    _ = rules.types[wanted.event_type][wanted.version].validator  # its patterns and references lead somewhere
    control.publish(wanted, act, seen=seen)
    return True
