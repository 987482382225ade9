"""`headrace counts`: how many events a tenant has, exactly."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.answers import aligned, indented, printable, say
from pipeline.cli.asking import SPAN_OPTIONS, UNKNOWN, check_names, not_empty, span_options, tenant_option
from pipeline.cli.progress import Progress
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.span import Span, parse_span

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.count import Answer, By, Line, Question

_FIGURES = ("events", "duplicates", "quarantined")
_FROM = {"aggregates": "the aggregates", "index": "the index", "rows": "rows that were read"}


@click.command("counts")
@tenant_option
@click.option(
    "--type", "event_type", help="Of this event type; `_unknown` for units of a type that was unknown."
)
@click.option("--source", callback=not_empty, help="From this source.")
@click.option("--entity", callback=not_empty, help="Of this entity.")
@click.option("--by", type=click.Choice(["hour", "day", "type", "source"]), help="Count these apart.")
@span_options
@click.option(
    "--json", "as_json", is_flag=True, help="One JSON object, with what was counted from (`basis`)."
)
@home_option
def command(
    *,
    tenant: str,
    event_type: str | None,
    source: str | None,
    entity: str | None,
    by: "By | None",
    first: str | None,
    last: str | None,
    as_json: bool,
    home: Path | None,
) -> None:
    """Count a tenant's events exactly: events without duplicates, duplicates, and quarantined units.

    Events and duplicates count by event time. Quarantined units count by arrival day, whole days only, and not by hour,
    nor where an entity or a source is asked for: they may have had none. Aggregates and the index answer where they can; else the
    rows are read, of which they take only the columns they need.

    \b
    headrace counts --tenant ua
    headrace counts --tenant ua --type flight.departed --by day --from 2013-07-01 --to 2013-07-07
    headrace counts --tenant ua --entity N14228 --by type
    """  # noqa: D301 - click's mark against re-wrapping
    span = parse_span(first, last, SPAN_OPTIONS)
    from pipeline import wiring
    from pipeline.core.count import Question
    from pipeline.flows.counts import count_events, stored_types

    settings = settings_with_stack(home)
    rules = wiring.rules(settings)
    question = Question(span, event_type, source, entity, by)
    with Progress("counts", unit="runs of rows") as progress, wiring.finding(settings, progress.add) as ports:
        check_names(rules, tenant, event_type, (UNKNOWN,), lambda: stored_types(ports.find))
        answer = count_events(tenant, question, [*sorted(rules.schemas), UNKNOWN], ports.find)
    if as_json:
        click.echo(indented(as_document(tenant, question, answer)))
    else:
        show(question, answer)


def as_document(tenant: str, question: "Question", answer: "Answer") -> dict[str, Any]:
    """Return the answer as JSON-ready values."""
    document: dict[str, Any] = {"tenant_id": tenant, "total": _figures(answer.total)}
    if question.by:
        document["groups"] = [{question.by: line.group, **_figures(line)} for line in answer.lines]
    return document | {"basis": list(answer.basis), "quarantined_by": "arrival day"}


def _figures(line: "Line") -> dict[str, int | None]:
    return {name: getattr(line, name) for name in _FIGURES}


def show(question: "Question", answer: "Answer") -> None:
    """Print a line per group and the sum, and on standard error what they were counted from."""
    rows = [_cells(line) for line in [*answer.lines, answer.total]]
    for line in aligned([question.by or "", *_FIGURES], [False, True, True, True], rows):
        click.echo(line)
    say("counted from " + " and ".join(_FROM[one] for one in answer.basis))
    if answer.total.quarantined is None:
        say("quarantined units count by the day they arrived: by hour, source or entity they are not known")
    elif answer.total.quarantined or question.span != Span():
        say("quarantined units count by the day they arrived, not by event time")


def _cells(line: "Line") -> list[str]:
    figures = [getattr(line, name) for name in _FIGURES]
    return [printable(line.group), *("-" if value is None else f"{value:,}" for value in figures)]
