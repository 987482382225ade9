"""`headrace acts`: who changed what, and when."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from pipeline.cli.administer import desk, looking, moment, table


@click.command("acts")
@click.option(
    "--subject",
    metavar="KIND:NAME",
    help="Of one thing: tenant:acme, plan:basic, key:ID, client:ID, schema:TYPE/VERSION, policy:TENANT/NAME.",
)
@click.option(
    "--limit", type=click.IntRange(1, 100_000), default=50, show_default=True, help="How many at most."
)
@looking
def command(*, subject: str | None, limit: int, home: Path | None, as_json: bool) -> None:
    """Show administrative acts, newest first: who, when, what. With --json times of the details are microseconds.

    \b
    headrace acts --subject tenant:acme
    """  # noqa: D301 - click's mark of lines to be kept
    with desk(home) as at:
        rows = [
            {
                "at": moment(act.at_us),
                "actor": act.actor,
                "action": act.action,
                "subject": act.subject,
                "details": act.details
                if as_json
                else json.dumps(_readable(act.details), ensure_ascii=False, sort_keys=True),
            }
            for act in at.control.acts(subject, limit)
        ]
    table(rows, ("at", "actor", "action", "subject", "details"), "no acts", as_json=as_json)


def _readable(details: Mapping[str, Any]) -> dict[str, Any]:
    """Return details with times that a person can read, under names without their unit."""
    return {
        name.removesuffix("_us"): moment(value) if name.endswith("_us") and isinstance(value, int) else value
        for name, value in details.items()
    }
