"""`headrace audit`: received = archived + duplicates + quarantined, or what differs."""

import time
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from pipeline.cli.answers import indented
from pipeline.cli.loader_state import LoaderState, loader_state
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.config import Settings
from pipeline.core.audit import Report, count_by_kind
from pipeline.core.audit_gaps import GapLine
from pipeline.core.days import second_of

SHOWN_DIFFERENCES = 50
LOOK_AGAIN_SECONDS = 1.0
_UNREAD = "; [bold yellow]nobody reads the stream[/]: records without a receipt that are still in it count nowhere; "


@click.command("audit")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 3600),
    default=0.0,
    metavar="SECONDS",
    help="Wait for events on their way.",
)
@home_option
def command(*, as_json: bool, wait: float, home: Path | None) -> int:
    """Prove that nothing is missing: received = archived + duplicates + quarantined.

    What was received comes from the producers' receipts, what is archived is counted again from the objects, and
    the ledger must agree with both. Exit code 0 only when everything balances and
    the ledger has no gap.

    \b
    headrace audit                what does not agree is listed by name
    headrace audit --wait 60      wait for events that are still on their way
    headrace audit --json         the same for a program, every difference included
    """  # noqa: D301 - click's mark against re-wrapping
    settings = settings_with_stack(home)
    deadline = time.monotonic() + wait
    report = audit_with_progress(settings, told=wait > 0)
    if not report.differences and report.in_flight and time.monotonic() < deadline:
        report = _waited(settings, report, deadline)
    now = time.time()
    loader = loader_state(settings, now)
    if as_json:
        document = as_document(report) | {"waiting": waiting_document(report, loader, now)}
        click.echo(indented(document))
    else:
        show(report, Console(), loader, now)
    return 0 if report.complete else 1


def _waited(settings: Settings, report: Report, deadline: float) -> Report:
    """Audit again until nothing is on its way any more, or until the deadline; show how much still is."""
    from pipeline import wiring
    from pipeline.cli.progress import Progress

    with Progress("wait", unit="events on their way", told=True) as progress:
        while not report.differences and report.in_flight and time.monotonic() < deadline:
            progress.update(report.in_flight)
            time.sleep(LOOK_AGAIN_SECONDS)
            report = wiring.audit(settings, lambda _objects: None)
    return report


def audit_with_progress(settings: Settings, *, told: bool = False) -> Report:
    """Run the audit, showing how many objects were read, and redriven units held against what was refused."""
    from pipeline import wiring
    from pipeline.cli.progress import Progress

    with Progress("audit", unit="objects and redriven units", told=told) as progress:
        return wiring.audit(settings, progress.add)


def as_document(report: Report) -> dict[str, Any]:
    """Return the report as JSON-ready values."""
    total = report.total()
    return {
        "balanced": report.balanced,
        "complete": report.complete,
        "received": total.received,
        "archived": total.archived,
        "duplicates": total.duplicates,
        "quarantined": total.quarantined,
        "in_gap": total.in_gap,
        "in_flight": report.in_flight,
        "sent_twice": report.sent_twice,
        "unreceipted": report.unreceipted,
        "plain": report.plain,
        "redriven": report.redriven,
        "index_items": report.index_items,
        "aggregate_rows": report.aggregate_rows,
        "shards": [
            {"shard_id": shard, "day": day, **vars(line), "difference": line.difference}
            for (shard, day), line in sorted(report.lines.items())
        ],
        "gaps": [
            {
                "lineage": gap.lineage,
                "shard_id": gap.shard_id,
                "ordinal": gap.ordinal,
                "from": second_of(gap.from_us),
                "until": second_of(gap.until_us),
                "events": gap.events,
            }
            for gap in report.gaps
        ],
        "differences": [vars(one) for one in report.differences],
    }


def waiting_document(report: Report, loader: LoaderState, now: float) -> dict[str, Any]:
    """Return how far the archive is behind the receipts, and whether anybody is at it."""
    behind = _behind_seconds(report, now)
    return {
        "events": report.in_flight,
        "behind_seconds": None if behind is None else round(behind, 1),
        "loader": loader.word,
        "heartbeat_age_seconds": loader.heartbeat_age_seconds,
        "next_step": loader.next_step if report.in_flight or loader.word == "not running" else None,
    }


def _behind_seconds(report: Report, now: float) -> float | None:
    """Return the age of the first acknowledged event that is not loaded; None where all are."""
    since_us = report.in_flight_since_us
    return None if since_us is None else max(now - since_us / 1_000_000, 0.0)


def _waiting_line(report: Report, loader: LoaderState, now: float) -> str:
    behind = _behind_seconds(report, now) or 0.0
    return f"{report.in_flight:,} acknowledged events wait to be loaded: the archive is {behind:,.0f} s behind; {loader.next_step}"


def show(report: Report, console: Console, loader: LoaderState, now: float) -> None:
    """Print the balance, and below it what differs and what waits; `now` in Unix seconds."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("shard", "arrival day"):
        table.add_column(name)
    for name in ("received", "archived", "duplicates", "quarantined", "difference"):
        table.add_column(name, justify="right")
    for (shard, day), line in sorted(report.lines.items()):
        table.add_row(shard.removeprefix("shardId-").lstrip("0") or "0", day, *_cells(line))
    table.add_row("all", "", *_cells(report.total()), style="bold")
    console.print(table)
    for one in report.differences[:SHOWN_DIFFERENCES]:
        console.print(f"{one.kind}  {one.subject}: {one.message}", style="red", highlight=False, markup=False)
    if len(report.differences) > SHOWN_DIFFERENCES:
        kinds = ", ".join(f"{number} {kind}" for kind, number in count_by_kind(report.differences).items())
        console.print(f"... in all {len(report.differences)} differences: {kinds}; --json lists them")
    for gap in report.gaps:
        console.print(_gap_line(gap), style="red", highlight=False, markup=False)
    for note in _notes(report):
        console.print(note)
    if report.in_flight:
        console.print(_waiting_line(report, loader, now), style="yellow", highlight=False, markup=False)
    dead = loader.word == "not running" and not report.in_flight  # else it stands above
    console.print(_verdict(report) + (_UNREAD + loader.next_step if dead else ""))


def _notes(report: Report) -> list[str]:
    """Return what a reader should know beside the balance."""
    notes = {
        f"{report.index_items:,} index items and {report.aggregate_rows:,} counts were held against the data files": report.index_items
        + report.aggregate_rows,
        f"{report.sent_twice} batches were sent twice; their copies are flagged as duplicates": report.sent_twice,
        f"{report.plain:,} units came from plain producers, which give no receipts": report.plain,
        f"{report.redriven:,} refused units were redriven: they count as archived or duplicates": report.redriven,
        f"{report.unreceipted:,} units are of batches without a receipt: sent twice, their producer was killed, or it has yet to write one": report.unreceipted,
    }
    return [note for note, count in notes.items() if count > 0]


def _gap_line(gap: GapLine) -> str:
    return (
        f"gap  {gap.shard_id} (lineage {gap.lineage}, segment {gap.ordinal}): the stream may have dropped what arrived "
        f"from {second_of(gap.from_us)} until {second_of(gap.until_us)} before it was read; {gap.events:,} acknowledged events "
        "are lost in it"
    )


def _verdict(report: Report) -> str:
    if report.differences:
        return "[bold red]NOT balanced[/]"
    if report.in_flight:
        return "[bold red]NOT balanced[/] yet: what is loaded agrees, and events wait"
    if report.gaps:
        lost = report.total().in_gap
        return f"[bold red]NOT complete[/]: balanced but for {len(report.gaps)} gaps, in which {lost:,} acknowledged events are lost"
    if not report.lines:
        return "nothing has been received yet: there is nothing to prove"
    if report.plain or report.unreceipted:
        return "[bold green]balanced[/]; for units without a receipt only the loader's own count speaks"
    return "[bold green]balanced: nothing is missing, nothing is twice[/]"


def _cells(line: Any) -> list[str]:
    return [
        f"{value:,}"
        for value in (line.received, line.archived, line.duplicates, line.quarantined, line.difference)
    ]
