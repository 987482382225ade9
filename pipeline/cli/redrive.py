"""`headrace redrive`: refused events go through again, once the reason is mended."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.answers import RESTART_LOADERS, counted, indented, say
from pipeline.cli.collecting import fact_sink
from pipeline.cli.progress import Progress
from pipeline.cli.refused import by_code, refused_options, wanted_of
from pipeline.cli.settings import home_option, settings_with_stack

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.config import Settings
    from pipeline.core.redriven import Wanted
    from pipeline.flows.redrive import Outcome


@click.command("redrive")
@refused_options
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Everything in quarantine but kills_worker; excludes the options that say less.",
)
@click.option("--dry-run", is_flag=True, help="Say what would go through, and write nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@home_option
def command(*, everything: bool, dry_run: bool, as_json: bool, home: Path | None, **chosen: Any) -> None:
    """Send refused events through again, once the reason is mended: a schema, a tenant, a limit.

    Each is judged by today's settings and schemas. What is accepted now is archived once, with its own event and arrival
    times; what is refused still stays where it is. Redriven events stay in quarantine too, marked. To do it again does
    nothing, and a redrive that was interrupted goes on. It cannot be undone: look with --dry-run first.

    What was refused as kills_worker ends the process that judges it, this one too: it goes through only with
    --reason kills_worker, once the defect is mended.

    \b
    headrace redrive --reason schema_mismatch --type flight.departed --dry-run
    headrace redrive --reason schema_mismatch --type flight.departed
    headrace redrive --all
    """  # noqa: D301 - click's mark against re-wrapping
    narrowed = any(value is not None for value in chosen.values())
    if everything and narrowed:
        raise click.UsageError(
            "--all excludes --reason, --type, --tenant, --from and --to: give one or the other"
        )
    if not everything and not narrowed:
        raise click.UsageError(
            "say which refused units: --reason, --type, --tenant, --from or --to; or --all for everything in quarantine"
        )
    wanted = wanted_of(**chosen)
    settings = settings_with_stack(home)
    outcome = _redriven(settings, wanted, dry_run=dry_run)
    if as_json:
        click.echo(indented(as_document(outcome, dry_run=dry_run)))
        return
    for line in text_lines(outcome, dry_run=dry_run):
        click.echo(line)
    mended = outcome.redriven.keys() - {"kills_worker"}  # so a rule was mended
    if mended and not dry_run and not _is_known(settings):
        say(RESTART_LOADERS)
    if everything and not outcome.looked_at:
        say("--all leaves kills_worker out: only --reason kills_worker takes it in")


def _is_known(settings: "Settings") -> bool:
    """True when the loaders judge by today's rules already, as far as it can be seen from here."""
    from pipeline import wiring
    from pipeline.cli.loader_state import knows_rules

    return knows_rules(settings, wiring.rules(settings).digest, time.time())


def _redriven(settings: "Settings", wanted: "Wanted", *, dry_run: bool) -> "Outcome":
    from pipeline import wiring
    from pipeline.flows.redrive import redrive, try_redrive

    rules = wiring.rules(settings)
    with Progress("redrive", unit="units") as progress:
        ports = wiring.redriving(settings, fact_sink(settings, "redrive"), progress.add)
        if dry_run:
            return try_redrive(wanted, rules, ports)
        try:
            return redrive(wanted, rules, wiring.load_limits(settings), ports)
        except KeyboardInterrupt:
            say("what was redriven so far stays so: the same command goes on with the rest")
            raise


def as_document(one: "Outcome", *, dry_run: bool) -> dict[str, Any]:
    """Return an outcome as JSON-ready values."""
    return {
        "dry_run": dry_run,
        "looked_at": one.looked_at,
        "redriven_before": one.already,
        "redriven": one.redriven.total(),
        "redriven_by_code": dict(sorted(one.redriven.items())),
        "refused_still": one.refused.total(),
        "refused_still_by_code": dict(sorted(one.refused.items())),
        "archived": one.rows,
        "duplicates": None if dry_run else one.duplicates,
        "segments": None if dry_run else one.segments,
    }


def text_lines(one: "Outcome", *, dry_run: bool) -> Iterator[str]:
    """Yield what a redrive did, or would do, a line each."""
    if not one.looked_at:
        yield "nothing was refused that is like this"
        return
    yield f"looked at        {counted(one.looked_at, 'refused unit')}"
    if one.already:
        yield f"redriven before  {one.already:,}"
    codes = f"  ({by_code(one.redriven)})" if one.redriven else ""
    yield f"{'would redrive' if dry_run else 'redriven now':15}  {one.redriven.total():,}{codes}"
    if one.rows and not dry_run:
        yield f"archived         {counted(one.rows, 'event')}, {one.duplicates:,} of them duplicates"
    if one.refused:
        yield f"refused still    {one.refused.total():,}  ({by_code(one.refused)}), by today's rules"
