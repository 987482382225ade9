"""Publishing a schema version: who may, how many there may be, checked as a file is and against all that is published.

Who publishes a type first owns it. Types of the schema files, and what an operator publishes, are the deployment's: a tenant
adds no version to them. An operator may add versions to any type, which stays whose it was.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import msgspec

from pipeline.core.catalogue import catalogue
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.rules import Rules, with_stored
from pipeline.core.schema_document import check_document
from pipeline.core.sound import fault_of, fitting
from pipeline.core.tenant import Act, Publication
from pipeline.ports.control import Control, Overtaken

_TRIES = 8  # against others who write to the control store meanwhile; a look takes milliseconds


class Published(ConfigProblem):
    """The version exists with another document; a version never changes."""


class NotOwned(ConfigProblem):
    """The type is another's: only its owner, or an operator, publishes versions of it."""


class TooMany(ConfigProblem):
    """As many are published as may be."""


class TooLarge(ConfigProblem):
    """The document is larger than a schema may be."""


@dataclass(frozen=True)
class PublishLimits:
    """How much may be published; see the section `schemas` of the settings."""

    max_published: int = 5_000
    max_versions: int = 50
    max_types_per_tenant: int = 20
    max_document_bytes: int = 65_536


def publish(
    control: Control, base: Rules, wanted: Publication, act: Act, limits: PublishLimits | None = None
) -> Publication | None:
    """Publish one version; return it as it is stored, or None when it is published already, with the very same document.

    Args:
        control: the store.
        base: what settings and schema files say, at least.
        wanted: the version; its owner is the tenant that publishes it, "" an operator.
        act: that this is.
        limits: how much may be published.

    Raises:
        Published: with another document.
        NotOwned: by another tenant's or the deployment's type.
        TooMany, TooLarge: by a limit, which the message names.
        ConfigProblem: it is no schema, or contradicts one that is published, or another type's table: the message says where.
        Transient: the control store does not answer, or others always wrote to it first.
    """
    for _ in range(_TRIES):
        with suppress(Overtaken):  # decided again by what is there now
            return _published(control, base, wanted, act, limits or PublishLimits())
    raise Transient("the control store is changed by others all the time: try again")


def _published(
    control: Control, base: Rules, wanted: Publication, act: Act, limits: PublishLimits
) -> Publication | None:
    name = f"{wanted.event_type}/{wanted.version}"
    seen, _, publications = control.judged()
    if _is_there(base, publications, wanted):
        return None
    made = replace(wanted, owner=_owner(base, publications, wanted))
    _check_limits(publications, made, limits)
    try:
        check_document(wanted.document)
    except ConfigProblem as exc:
        raise ConfigProblem(f"schema {name}: {exc}") from exc
    stored, _ = fitting(base, (), [one for one in publications if _is_sound(base, one)])
    rules = with_stored(stored, (), [made])
    catalogue(rules.schemas)
    _ = rules.types[made.event_type][made.version].validator  # its patterns and references lead somewhere
    control.publish(made, act, seen=seen)
    return made


def _is_sound(base: Rules, one: Publication) -> bool:
    """True for what may be judged by; what the rules have already was checked when they were made."""
    known = base.schema(one.event_type, one.version)
    return (known is not None and known.document == one.document) or not fault_of(one)


def _is_there(base: Rules, publications: Sequence[Publication], wanted: Publication) -> bool:
    """True when that version is there with the same document, in a file or published."""
    filed = base.schema(wanted.event_type, wanted.version)
    known = [filed.document] if filed is not None else []
    known += [
        one.document
        for one in publications
        if (one.event_type, one.version) == (wanted.event_type, wanted.version)
    ]
    if known and known[0] != wanted.document:
        name = f"{wanted.event_type}/{wanted.version}"
        raise Published(f"schema {name} is published with another document: publish a further version")
    return bool(known)


def _owner(base: Rules, publications: Sequence[Publication], wanted: Publication) -> str:
    """Return whose the type is, or becomes."""
    of_type = [one for one in publications if one.event_type == wanted.event_type]
    if of_type:
        owner = min(of_type, key=lambda one: (one.published_us, one.version)).owner
    else:
        owner = "" if wanted.event_type in base.schemas else wanted.owner
    if wanted.owner not in ("", owner):
        whose = "another tenant's" if owner else "the deployment's"
        raise NotOwned(
            f"event type {wanted.event_type} is {whose}: publish a type of your own, or ask an operator, who has "
            "`headrace schema publish`"
        )
    return owner


def _check_limits(publications: Sequence[Publication], made: Publication, limits: PublishLimits) -> None:
    size = len(msgspec.json.encode(made.document))
    if size > limits.max_document_bytes:
        raise TooLarge(
            f"the schema has {size:,} bytes as compact JSON, {limits.max_document_bytes:,} are allowed (schemas.max_document_bytes)"
        )
    types = {one.event_type for one in publications if made.owner and one.owner == made.owner}
    versions = sum(one.event_type == made.event_type for one in publications)
    for what, count, most, setting in (
        (f"versions of {made.event_type}", versions, limits.max_versions, "max_versions"),
        (
            f"event types of tenant {made.owner}",
            len(types - {made.event_type}),
            limits.max_types_per_tenant,
            "max_types_per_tenant",
        ),
        ("published schemas", len(publications), limits.max_published, "max_published"),
    ):
        if count >= most:
            raise TooMany(
                f"{what}: {count:,} are published, which is as many as may be (schemas.{setting}); nothing published is ever removed"
            )
