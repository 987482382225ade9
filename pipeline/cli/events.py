"""`headrace events`: what happened to one entity, or the events of a type."""

import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
import orjson

from pipeline.cli.answers import GAP, printable, say
from pipeline.cli.asking import SPAN_OPTIONS, check_names, not_empty, span_options, tenant_option
from pipeline.cli.progress import Progress
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.span import Span, instant_of, parse_span

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.count import Question
    from pipeline.flows.events import Event

_HEAD = 1_000  # events that are gathered before the first is printed: they tell how wide columns are
_NAMES = ("time", "type", "source", "event_id", "")
_DUPLICATE = "dup"
_SPACES = bytes.maketrans(b"\r\n", b"  ")  # between tokens; inside a string JSON has none


@click.command("events")
@tenant_option
@click.option("--entity", callback=not_empty, help="Of this entity.")
@click.option("--type", "event_type", help="Of this event type; needed where no entity is named.")
@click.option("--source", callback=not_empty, help="From this source.")
@span_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    metavar="N",
    help="Show the first N.",
)
@click.option("--all", "show_all", is_flag=True, help="Show every one.")
@click.option("--include-duplicates", "duplicates", is_flag=True, help="Show flagged copies too.")
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object a line: the whole envelope, and `data`."
)
@home_option
def command(
    *,
    tenant: str,
    entity: str | None,
    event_type: str | None,
    source: str | None,
    first: str | None,
    last: str | None,
    limit: int,
    show_all: bool,
    duplicates: bool,
    as_json: bool,
    home: Path | None,
) -> None:
    """Show what happened to one entity, or the events of a type, in the order of event time.

    With --entity the index says where the rows are, and only they are read. Without it give --type, --from and --to.

    \b
    headrace events --tenant ua --entity N14228
    headrace events --tenant ua --entity N14228 --from 2013-01-01 --to 2013-01-03 --json
    headrace events --tenant ua --type flight.cancelled --source EWR --from 2013-01-01 --to 2013-01-31 --all
    """  # noqa: D301 - click's mark against re-wrapping
    if entity is None and None in {event_type, first, last}:
        raise click.UsageError("give --entity, or else all of --type, --from and --to")
    span = parse_span(first, last, SPAN_OPTIONS)
    from pipeline import wiring
    from pipeline.core.count import Question
    from pipeline.flows.counts import stored_types
    from pipeline.flows.events import EventSearch

    settings = settings_with_stack(home)
    question = Question(span, event_type, source, entity)
    with Progress("events", unit="runs of rows") as progress, wiring.finding(settings, progress.add) as ports:
        check_names(wiring.rules(settings), tenant, event_type, stored=lambda: stored_types(ports.find))
        search = EventSearch(tenant, question, None if show_all else limit, ports.find, duplicates=duplicates)
        events = search.events()
        head = list(islice(events, _HEAD))
        progress.stop()
        _show(head, events, nothing(tenant, question), as_json=as_json)
    if not search.exact or search.shown < search.total:
        say(left_out(search.shown, search.total, exact=search.exact))


def _show(head: "list[Event]", rest: "Iterator[Event]", otherwise: str, *, as_json: bool) -> None:
    """Print events as they are found; `otherwise` where there is none."""
    if not head:
        say(otherwise)
    elif as_json:
        sys.stdout.buffer.writelines(json_lines(chain(head, rest)))
    else:
        sys.stdout.writelines(table_lines(head, rest, sys.stdout))
    sys.stdout.flush()


def left_out(shown: int, total: int, *, exact: bool) -> str:
    """Say how many there are beside those that were shown, as far as it is known."""
    if not exact and shown == total:
        return f"the first {shown:,} shown; there may be more: --all shows every one"
    return f"{shown:,} of {'' if exact else 'at least '}{total:,} shown; --all shows every one"


def json_lines(events: "Iterable[Event]") -> Iterator[bytes]:
    """Yield events as NDJSON; `data` is what the producer wrote, on one line."""
    for one in events:
        columns = dict(one.columns)
        data = orjson.Fragment(columns.pop("data_json").encode().translate(_SPACES))
        envelope: dict[str, object] = {}
        for name, value in columns.items():
            envelope[name] = value
            if name == "entity_id":
                envelope["event_type"] = one.event_type
        yield orjson.dumps(envelope | {"data": data}, option=orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE)


def table_lines(head: "list[Event]", rest: "Iterable[Event]", out: TextIO) -> Iterator[str]:
    """Yield a header and a line per event; on a terminal the data, and nothing before it, is cut where the line ends."""
    rows = [_cells(one) for one in head]
    widths = [max(map(len, column)) for column in zip(_NAMES, *rows, strict=True)]
    room = shutil.get_terminal_size().columns if out.isatty() else None

    def line(cells: Iterable[str], data: str) -> str:
        text = GAP.join([*(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)), ""])
        left = None if room is None else max(room - len(text), 1)
        cut = data if left is None or len(data) <= left else data[: left - 1] + "…"
        return (text + cut).rstrip() + "\n"

    yield line(_NAMES, "data")
    for one in chain(head, rest):
        yield line(_cells(one), printable(one.columns["data_json"].translate({10: " ", 13: " "})))


def _cells(one: "Event") -> tuple[str, ...]:
    columns = one.columns
    mark = _DUPLICATE if columns["is_duplicate"] else ""
    return (
        instant_of(one.time_us),
        one.event_type,
        printable(columns["source"]),
        printable(columns["event_id"]),
        mark,
    )


def nothing(tenant: str, question: "Question") -> str:
    """Say that nothing was found, and what was asked for."""
    of = f" of entity {question.entity_id!r}" if question.entity_id is not None else ""
    kind = f" of type {question.event_type}" if question.event_type is not None else ""
    source = f" from source {question.source!r}" if question.source is not None else ""
    when = str(question.span) if question.span != Span() else ""
    return f"tenant {tenant} has no events{of}{kind}{source}{when}"
