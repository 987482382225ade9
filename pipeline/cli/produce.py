"""`headrace produce`: events from an NDJSON file or a pipe."""

import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import BinaryIO

import click
import orjson

from pipeline.cli.answers import printable
from pipeline.cli.arriving import Arriving
from pipeline.cli.collecting import fact_sink
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.errors import ConfigProblem
from pipeline.core.event import Refusal

SHOWN_REFUSALS = 20
MIN_PATIENCE_SECONDS = 0.05


@click.command("produce")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@home_option
def command(file: Path, *, as_json: bool, home: Path | None) -> int:
    """Send FILE (`-` for standard input) to the stream: one event as JSON per line.

    Every line is judged by the loader's own rules before it is sent. A line that is refused is named with its number
    and the reason; the rest goes on. Exit code 1 when a line was refused.

    \b
    headrace produce examples/flights.ndjson
    my-program | headrace produce -
    """  # noqa: D301 - click's mark against re-wrapping
    settings = settings_with_stack(home)
    with _open(file) as lines:
        from pipeline import wiring
        from pipeline.cli.progress import Progress
        from pipeline.flows.ingest import IngestReport, ingest
        from pipeline.laptop.interrupts import Interrupts
        from pipeline.ports.clock import SystemClock

        rules, stores, clock = wiring.rules(settings), wiring.archive(settings), SystemClock()
        producer = wiring.producer(settings, stores, clock)
        patience = max(settings.producer.linger_ms / 1000, MIN_PATIENCE_SECONDS)
        source = Arriving(lines, rules.limits.max_event_bytes + 2, patience) if str(file) == "-" else lines
        shown = 0

        def refused(number: int, refusal: Refusal) -> None:
            nonlocal shown
            shown += 1
            if shown <= SHOWN_REFUSALS:
                click.echo(refused_line(number, refusal, rules.limits.max_event_bytes), err=True)
            elif shown == SHOWN_REFUSALS + 1:
                click.echo("further refused lines are only counted", err=True)

        report = IngestReport()
        with Progress("produce", unit="events") as progress:

            def noted(now: IngestReport) -> None:
                nonlocal report
                report = now
                progress.update(now.accepted)

            interrupts = Interrupts()
            with interrupts.installed():
                try:
                    report = ingest(
                        source,
                        rules,
                        producer,
                        clock,
                        refused,
                        noted,
                        interrupts.held,
                        fact_sink(settings, "produce"),
                    )
                except KeyboardInterrupt:
                    interrupts.hold()
                    producer.close()
                    click.echo(
                        f"{producer.events_acknowledged:,} events are acknowledged; "
                        f"all lines up to {report.last_line:,} are done",
                        err=True,
                    )
                    raise
                interrupts.hold()
                producer.close()
    if as_json:
        click.echo(
            orjson.dumps({"lines": report.lines, "accepted": report.accepted, "refused": report.refused})
        )
    else:
        soon = "; readable in about a second" if settings.aws.endpoint_url and report.accepted else ""
        click.echo(f"acknowledged: {report.accepted:,}, refused: {report.refused:,}{soon}")
    return 1 if report.refused else 0


def refused_line(number: int, refusal: Refusal, max_bytes: int) -> str:
    """Return what is said of a refused line; it may quote the line, and a terminal obeys nothing of it."""
    from pipeline.flows.ingest import explain

    return printable(f"line {number}: {explain(refusal, max_bytes)}")


def _open(file: Path) -> AbstractContextManager[BinaryIO]:
    if str(file) == "-":
        # Never closed, and not Python's own object: a thread may be waiting in it when the program ends.
        return nullcontext(open(sys.stdin.fileno(), "rb", closefd=False))
    try:
        return file.open("rb")
    except OSError as exc:
        raise ConfigProblem(
            f"{file}: {exc.strerror}; name an NDJSON file, or `-` for standard input"
        ) from exc
