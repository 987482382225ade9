"""`headrace replay results`: what replay jobs came to, for one entity."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.answers import aligned, indented, printable, say
from pipeline.cli.asking import SPAN_OPTIONS, check_names, span_options, tenant_option
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.span import parse_span

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.config import Settings
    from pipeline.core.entity_day import EntityDay
    from pipeline.core.rules import Rules
    from pipeline.ports.entity_days import EntityDays

_NAMES = ["day", "scope", "events", "duplicates", "inputs_hash", "sample_ids", "basis", "job"]
_NUMBERS = [name in ("events", "duplicates", "basis") for name in _NAMES]


@click.command("results")
@tenant_option
@click.option("--entity", required=True, help="Whose days.")
@span_options
@click.option("--json", "as_json", is_flag=True, help="An array of objects, for programs.")
@home_option
def command(
    *, tenant: str, entity: str, first: str | None, last: str | None, as_json: bool, home: Path | None
) -> None:
    """Show what replay jobs came to: the rows of an entity in table `entity_days`, whole days, by day and scope.

    `events` counts what the job took: flagged repeats are among them where the scope says `duplicates`, and only there;
    `duplicates` says how many they are. `headrace counts` counts them apart. Each row is as of its own job and basis; events that
    landed later are not in it.

    \b
    headrace replay results --tenant ua --entity N14228
    headrace replay results --tenant ua --entity N14228 --from 2013-01-01 --to 2013-01-07 --json
    """  # noqa: D301 - click's mark against re-wrapping
    span = parse_span(first, last, SPAN_OPTIONS)
    settings = settings_with_stack(home)
    check_names(_rules(settings), tenant, None)
    rows = _days(settings).find(tenant, entity, span.first_dt, span.last_dt)
    if as_json:
        click.echo(indented([as_document(row) for row in rows]))
        return
    for line in aligned(_NAMES, _NUMBERS, [_cells(row) for row in rows]) if rows else ():
        click.echo(line)
    if not rows:
        say("no results of this entity and these days: `headrace replay start` makes some")


def _rules(settings: "Settings") -> "Rules":
    from pipeline import wiring

    return wiring.rules(settings)


def _days(settings: "Settings") -> "EntityDays":
    from pipeline import wiring
    from pipeline.ports.clock import SystemClock

    return wiring.replay_parts(settings, SystemClock(), lambda _fact: None).days


def as_document(row: "EntityDay") -> dict[str, Any]:
    """Return a result as JSON-ready values."""
    from pipeline.core.span import instant_of

    return {
        "tenant_id": row.tenant_id,
        "entity_id": row.entity_id,
        "day": row.dt,
        "scope": row.scope,
        "events": row.events,
        "duplicates": row.duplicates,
        "inputs_hash": row.inputs_hash,
        "sample_ids": list(row.sample_ids),
        "first_event_time": instant_of(row.first_event_time_us),
        "last_event_time": instant_of(row.last_event_time_us),
        "basis": row.basis,
        "job": row.job,
    }


def _cells(row: "EntityDay") -> list[str]:
    numbers = f"{row.events:,}", f"{row.duplicates:,}"
    words = row.inputs_hash, " ".join(row.sample_ids)
    return [printable(one) for one in (row.dt, row.scope, *numbers, *words, f"{row.basis:,}", row.job)]
