"""The demo's last page: what happened, what it cost, what the archive says."""

import time
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from pipeline.cli.audit import show
from pipeline.cli.demo_aircraft import ENTITY, FIRST_DAY, LAST_DAY, TENANT, Aircraft
from pipeline.cli.demo_run import Answer, DemoResult
from pipeline.cli.loader_state import RUNNING

SHOWN_ROWS = 8
_LAYOUT: dict[str, Any] = {"title_justify": "left", "box": None, "pad_edge": False, "header_style": "bold"}
MIB = 2**20


def print_summary(result: DemoResult) -> None:
    """Print the page on standard output."""
    console = Console()
    for answer in result.answers[1:]:
        console.print(_answer(answer))
        console.print()
    counts = result.answers[0].rows[0]
    console.print(
        f"SQL counts {counts[0]:,} events in the default view and {counts[1]:,} with duplicates; "
        f"{counts[2]:,} are in quarantine."
    )
    console.print()
    _print_aircraft(result.aircraft, console)
    show(result.report, console, RUNNING, time.time())
    console.print()
    console.print(_figures(result))


def _print_aircraft(found: Aircraft, console: Console) -> None:
    """Print one aircraft's history, its tenant's counts, and what replaying its month gave."""
    title = f"{ENTITY} of {TENANT}, {FIRST_DAY} to {LAST_DAY}"
    history = Table(
        title=f"{title}  [dim]{len(found.history)} events, {found.look_up_seconds * 1000:.0f} ms[/]",
        **_LAYOUT,
    )
    for name in ("time", "type", "source", "event_id"):
        history.add_column(name)
    for one in found.history[:SHOWN_ROWS]:
        columns = one.columns
        time = f"{columns['event_time']:%Y-%m-%d %H:%M}"
        history.add_row(time, one.event_type, columns["source"], columns["event_id"])
    if len(found.history) > SHOWN_ROWS:
        history.caption = f"... {len(found.history) - SHOWN_ROWS} more events"
    console.print(history)
    console.print()
    counts = ", ".join(f"{line.events:,} {line.group}" for line in found.counts if line.events)
    console.print(f"The aggregates count for {TENANT} in the same month: {counts}.")
    days = ", ".join(f"{one.dt[8:]}: {one.events}" for one in found.days)
    console.print(
        f"Replayed: {found.messages} messages, {found.processed} events, {len(found.days)} rows of entity and day "
        f"({days}); "
        + (
            "the same events as in the history."
            if found.agrees
            else "[bold red]NOT the events of the history[/]."
        )
    )
    console.print()


def _answer(answer: Answer) -> Table:
    title = f"{answer.name}  [dim]{answer.files_read:,} files, {answer.seconds:.1f} s[/]"
    table = Table(title=title, **_LAYOUT)
    for index, name in enumerate(answer.columns):
        numeric = bool(answer.rows) and isinstance(answer.rows[0][index], (int, float))
        table.add_column(name, justify="right" if numeric else "left")
    for row in answer.rows[:SHOWN_ROWS]:
        table.add_row(*(_cell(value) for value in row))
    if len(answer.rows) > SHOWN_ROWS:
        table.caption = f"... {len(answer.rows) - SHOWN_ROWS} more rows"
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value)


def _figures(result: DemoResult) -> Panel:
    total, loader = result.report.total(), result.loader
    stages = "  ".join(f"{name} {seconds:.1f} s" for name, seconds in result.stages.items())
    loaded = total.archived + total.duplicates + total.quarantined
    balance = (
        f"received {total.received:,} = {total.archived:,} archived + {total.duplicates:,} duplicates + "
        f"{total.quarantined:,} quarantined"
    )
    if loaded != total.received:
        balance += f" + {total.received - loaded:,} MISSING"
    cost = (
        f"{result.wall_seconds:.1f} s in all, {result.cpu_seconds:.0f} s of CPU, "
        f"{result.peak_memory_bytes / MIB:,.0f} MiB of memory over all processes"
    )
    lines = (
        f"{result.produced:,} events produced ({result.bytes_sent / MIB:,.0f} MiB to Kinesis), {result.resent:,} sent again",
        balance,
        f"{int(loader['files']):,} files in {int(loader['segments'])} segments, {loader['bytes'] / MIB:,.0f} MiB of Parquet",
        f"{int(loader['s3_puts']):,} S3 puts, {result.dynamodb_write_units:,.0f} DynamoDB write units",
        stages,
        "(produce and load run side by side)",
        cost,
    )
    colour = "green" if result.balanced else "red"
    return Panel("\n".join(lines), title="headrace demo", border_style=colour, expand=False)
