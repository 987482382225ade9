"""`headrace produce`: events from an NDJSON file or a pipe."""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import orjson

from pipeline.cli.answers import printable
from pipeline.cli.arriving import Arriving
from pipeline.cli.collecting import fact_sink
from pipeline.cli.destination import destination_of, http_options
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.errors import ConfigProblem
from pipeline.core.event import Refusal

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.config import Settings
    from pipeline.flows.ingest import IngestReport

SHOWN_REFUSALS = 20
MIN_PATIENCE_SECONDS = 0.05


@click.command("produce")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")
@http_options
@home_option
def command(file: Path, *, as_json: bool, home: Path | None, **http: Any) -> int:
    """Send FILE (`-` for standard input) to the stream: one event as JSON per line.

    Every line is judged by the loader's own rules before it is sent. A line that is refused is named with its number
    and the reason; the rest goes on. Exit code 1 when a line was refused.

    With --to, lines go to the HTTP API at URL, which judges them. The credential comes from an environment
    variable or a file, never from the command line, which other users of the machine can read.

    \b
    headrace produce examples/flights.ndjson
    my-program | headrace produce -
    headrace produce FILE --to https://events.example.com --key-env API_KEY
    """  # noqa: D301 - click's mark against re-wrapping
    destination = destination_of(**http)
    if destination is not None:
        from pipeline.cli.produce_http import send_http

        with _open(file) as lines:
            sent = send_http(lines, destination, _said(), arriving=str(file) == "-")
        return _tell(sent, "", as_json=as_json)
    settings = settings_with_stack(home)
    with _open(file) as lines:
        report = _send(lines, settings, arriving=str(file) == "-")
    soon = "; readable in about a second" if settings.aws.endpoint_url and report.accepted else ""
    return _tell(report, soon, as_json=as_json)


def _tell(report: "IngestReport", soon: str, *, as_json: bool) -> int:
    if as_json:
        click.echo(
            orjson.dumps({"lines": report.lines, "accepted": report.accepted, "refused": report.refused})
        )
    else:
        click.echo(f"acknowledged: {report.accepted:,}, refused: {report.refused:,}{soon}")
    return 1 if report.refused else 0


def _send(lines: BinaryIO, settings: "Settings", *, arriving: bool) -> "IngestReport":
    """Send lines, showing how far it is; `arriving` when they come as somebody writes them."""
    from pipeline import wiring
    from pipeline.cli.progress import Progress
    from pipeline.flows.ingest import IngestReport, ingest
    from pipeline.machine.interrupts import Interrupts
    from pipeline.ports.clock import SystemClock

    rules, stores, clock = wiring.rules(settings), wiring.archive(settings), SystemClock()
    producer = wiring.producer(settings, stores, clock)
    patience = max(settings.producer.linger_ms / 1000, MIN_PATIENCE_SECONDS)
    source = Arriving(lines, rules.limits.max_event_bytes + 2, patience) if arriving else lines
    refused, facts = _refusals(rules.limits.max_event_bytes), fact_sink(settings, "produce")
    report, interrupts = IngestReport(), Interrupts()
    with Progress("produce", unit="events") as progress, interrupts.installed():

        def noted(now: IngestReport) -> None:
            nonlocal report
            report = now
            progress.update(now.accepted)

        try:
            report = ingest(source, rules, producer, clock, refused, noted, interrupts.held, facts)
        except KeyboardInterrupt:
            interrupts.hold()
            producer.close()
            done = f"{producer.events_acknowledged:,} events are acknowledged"
            click.echo(f"{done}; all lines up to {report.last_line:,} are done", err=True)
            raise
        interrupts.hold()
        producer.close()
    return report


def _refusals(max_event_bytes: int) -> Callable[[int, Refusal], None]:
    """Return what names refused lines, the first of them, on standard error."""
    say = _said()

    def refused(line: int, refusal: Refusal) -> None:
        say(refused_line(line, refusal, max_event_bytes))

    return refused


def _said() -> Callable[[str], None]:
    """Return what says the first lines it is given, and then only that there are more."""
    numbers = count(1)

    def say(text: str) -> None:
        number = next(numbers)
        if number <= SHOWN_REFUSALS:
            click.echo(text, err=True)
        elif number == SHOWN_REFUSALS + 1:
            click.echo("further refused lines are only counted", err=True)

    return say


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
