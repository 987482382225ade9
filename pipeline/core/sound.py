"""Which published schemas may be part of the rules: each by itself, and beside the files and all others.

A schema is checked before it is published. It is checked again whenever rules are made: it may have been stored by a release
that knew less, or by hand, and a schema file that came since may contradict it. One that fails is left out, by name: its events
are refused as unknown and kept in quarantine, and all other types go on. Judging by it could take a worker hours.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pipeline.core.catalogue import catalogue
from pipeline.core.errors import ConfigProblem
from pipeline.core.rules import Rules, Version, with_stored
from pipeline.core.schema import parse_schema
from pipeline.core.schema_document import check_document
from pipeline.core.tenant import Publication


class LeftOut(NamedTuple):
    """A published version that is no part of the rules, and why."""

    event_type: str
    version: int
    why: str


def fault_of(one: Publication) -> str:
    """Return what is wrong with a schema by itself; "": nothing. Costs milliseconds, and is the same each time."""
    try:
        check_document(one.document)
        Version(parse_schema(one.event_type, one.version, one.document))
    except ConfigProblem as exc:
        return str(exc)
    return ""


def fitting(
    base: Rules, tenants: Iterable[str], publications: Sequence[Publication]
) -> tuple[Rules, list[LeftOut]]:
    """Return rules with tenants and published schemas added, and what does not fit; each of them is sound by itself.

    What was published first stays, as do files.

    Raises:
        ConfigProblem: a file has another document than the version of that number that is published.
    """
    filed = [one for one in publications if base.schema(one.event_type, one.version) is not None]
    base = with_stored(base, tenants, filed)
    try:
        whole = with_stored(base, (), publications)
        catalogue(whole.schemas)
    except ConfigProblem:
        return _one_by_one(base, publications)
    return whole, []


def _one_by_one(rules: Rules, publications: Sequence[Publication]) -> tuple[Rules, list[LeftOut]]:
    left_out = []
    for one in sorted(publications, key=lambda one: (one.published_us, one.event_type, one.version)):
        try:
            wider = with_stored(rules, (), [one])
            if one.event_type not in rules.schemas:  # a further version adds columns, and no name of a table
                catalogue(wider.schemas)
        except ConfigProblem as exc:
            left_out.append(LeftOut(one.event_type, one.version, str(exc)))
        else:
            rules = wider
    return rules, left_out
