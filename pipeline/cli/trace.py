"""`headrace trace`: one event, from its arrival to what it counts in."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.answers import indented, printable, say
from pipeline.cli.asking import not_empty, tenant_option, warn_of_tenant
from pipeline.cli.progress import Progress
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.span import instant_of, parse_day

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.sighting import CountedIn, Found, Hint, IndexPlace, Trace

NOT_FOUND = 1
_OTHERS = "the same id may also be under other entities: leave --entity out to look everywhere"


@click.command("trace")
@click.argument("event_id", callback=not_empty)
@tenant_option
@click.option("--entity", callback=not_empty, help="Look at this entity first.")
@click.option("--at", metavar="WHEN", help="Look at this event day (2013-07-04, or a time on it) first.")
@click.option("--receipt", metavar="PRODUCER#NUMBER", help="Look at what this receipt acknowledged first.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@home_option
@click.pass_context
def command(
    ctx: click.Context,
    *,
    event_id: str,
    tenant: str,
    entity: str | None,
    at: str | None,
    receipt: str | None,
    as_json: bool,
    home: Path | None,
) -> None:
    """Follow one event: arrived, archived or refused, its segment, its index entry, the aggregate it counts in.

    Without a hint, or when it leads nowhere, the ids of all segments are searched, and the quarantine. What is still
    on its way to the archive is not found. Exit code 1 when there is no such event.

    \b
    headrace trace flight-000001-departed --tenant ua --entity N14228
    headrace trace flight-000001-departed --tenant ua --at 2013-01-01
    headrace trace flight-000001-departed --tenant ua --json
    """  # noqa: D301 - click's mark against re-wrapping
    if sum(one is not None for one in (entity, at, receipt)) > 1:
        raise click.UsageError("give one of --entity, --at and --receipt")
    from pipeline import wiring
    from pipeline.flows.trace import trace

    hint = _hint(entity, at, receipt)
    settings = settings_with_stack(home)
    warn_of_tenant(wiring.rules(settings), tenant)  # what was refused names tenants that nobody registered
    with Progress("trace", unit="reads") as progress, wiring.finding(settings, progress.add) as ports:
        found = trace(tenant, event_id, hint, ports)
    if as_json:
        click.echo(indented(as_document(tenant, event_id, found)))
    else:
        _show(found)
    ctx.exit(0 if found.found else NOT_FOUND)


def _hint(entity: str | None, at: str | None, receipt: str | None) -> "Hint":
    from pipeline.core.sighting import Hint, parse_receipt

    day = None if at is None else parse_day("--at", at)
    return Hint(entity, day, None if receipt is None else parse_receipt("--receipt", receipt))


def _show(found: "Trace") -> None:
    for line in text_lines(found):
        click.echo(line)
    for note in _notes(found):
        say(f"note: {note}")


def _notes(found: "Trace") -> tuple[str, ...]:
    """Return what limits an answer: an entity's rows are not all rows, and not all ids can be searched."""
    if found.found:
        return (_OTHERS,) if found.by == "entity" else ()
    return found.searched.notes


def as_document(tenant: str, event_id: str, found: "Trace") -> dict[str, Any]:
    """Return a trace as JSON-ready values."""
    searched = found.searched
    document: dict[str, Any] = {
        "tenant_id": tenant,
        "event_id": event_id,
        "found": [_document(one) for one in found.found],
        "by": found.by,
        "may_be_elsewhere": found.by
        == "entity",  # the same id under other entities, which were not looked at
    }
    if found.by == "ids":
        document["searched"] = {
            "from": None if searched.from_us is None else instant_of(searched.from_us),
            "until": None if searched.until_us is None else instant_of(searched.until_us),
            "segments": searched.segments,
            "notes": searched.notes,
        }
    return document if found.found else document | {"message": searched.sentence}


def _document(one: "Found") -> dict[str, Any]:
    unit, place = one.sighting, one.sighting.place
    refused = dict(zip(("code", "pointer", "message"), unit.refusal, strict=True)) if unit.refusal else None
    return {
        "outcome": unit.outcome,
        "event_type": unit.event_type,
        "entity_id": unit.entity_id,
        "source": unit.source,
        "event_time": None if unit.event_time_us is None else instant_of(unit.event_time_us),
        "arrived": _arrived(one),
        "file": {"key": place.key, "tier": unit.tier, "row_group": unit.row_group, "row": place.row},
        "refused": refused,
        "repeats": one.first._asdict() if one.first else None,
        "segment": {
            "lineage": unit.lineage,
            "name": one.lineage.name if one.lineage else None,
            "ordinal": unit.ordinal,
            "state": one.segment.state if one.segment else None,
        },
        "redriven": _redriven(one),
        "index": _index(one.index),
        "counted": _counted(one.counted),
    }


def _redriven(one: "Found") -> dict[str, Any] | None:
    mark = one.redriven
    if mark is None:
        return None
    place = {"key": mark.place.key, "row": mark.place.row}
    return {
        "time": instant_of(mark.redriven_us),
        "as": mark.redriven_as,
        "code": mark.code,
        "quarantine": place,
        "units": mark.units,
    }


def _arrived(one: "Found") -> dict[str, Any]:
    unit = one.sighting
    return {
        "time": instant_of(unit.arrived_us),
        "shard_id": unit.shard_id,
        "sequence_number": unit.position.sequence_number,
        "subsequence_number": unit.position.subsequence_number,
        "receipt": one.receipt._asdict() if one.receipt else None,
    }


def _index(one: "IndexPlace | None") -> dict[str, Any] | None:
    if one is None:
        return None
    key, first_row, rows = one.pointer.key, one.pointer.first_row, one.pointer.rows
    return {"partition": one.partition, "name": one.name, "key": key, "first_row": first_row, "rows": rows}


def _counted(one: "CountedIn | None") -> dict[str, Any] | None:
    if one is None:
        return None
    return {
        **one.key._asdict(),
        "as": one.figure,
        "hour": one.hour,
        "source": one.source,
        "included": one.included,
    }


def text_lines(found: "Trace") -> Iterator[str]:
    """Yield a paragraph per stored unit, or the sentence that there is none."""
    if not found.found:
        yield found.searched.sentence
    for number, one in enumerate(found.found):
        if number:
            yield ""
        yield from (printable(line) for line in _paragraph(one, found))


def _paragraph(one: "Found", found: "Trace") -> Iterator[str]:
    unit, position = one.sighting, one.sighting.position
    place = f"{position.sequence_number}/{position.subsequence_number}"
    yield f"arrived    {instant_of(unit.arrived_us)}  {unit.shard_id}  {place}"
    if one.receipt:
        yield f"           acknowledged in receipt {one.receipt.producer}#{one.receipt.number}"
    else:
        yield "           no receipt: of a plain producer, or of one that has not written it yet"
    where = f"{unit.place.key}  row group {unit.row_group}, row {unit.place.row}"
    if unit.refusal:
        code, pointer, message = unit.refusal
        yield f"refused    {code}{f' at {pointer}' if pointer else ''}: {message}"
        yield f"           {where}"
    else:
        yield f"archived   {where}"
        yield f"           {unit.outcome}{_repeats(one, found)}"
    state = one.segment.state if one.segment else "unknown to the ledger: run `headrace audit`"
    if one.redriven:
        yield f"redriven   {_redriven_line(one)}"
    yield f"segment    {unit.lineage} #{unit.ordinal}, {state}"
    yield f"index      {_index_line(one)}"
    yield f"counted    {_counted_line(one)}"


def _redriven_line(one: "Found") -> str:
    mark = one.redriven
    if mark is None:
        return ""
    if one.sighting.refusal:
        return f"{instant_of(mark.redriven_us)}  as segment {mark.redriven_as}"
    return f"{instant_of(mark.redriven_us)}  had been refused ({mark.code}): {mark.place.key} row {mark.place.row}"


def _index_line(one: "Found") -> str:
    if one.sighting.refusal:
        return "none: refused units are in no index"
    if one.index is None:
        return f"none{_missing(one)}"
    first, rows = one.index.pointer.first_row, one.index.pointer.rows
    run = f"row {first}" if rows == 1 else f"rows {first} to {first + rows - 1}"
    return f"{one.index.partition}  {one.index.name}  {run}"


def _missing(one: "Found") -> str:
    """Say why something is not there: it will come, or it is damage."""
    if one.committed:
        return "; the segment is committed, so it must be there: run `headrace audit`"
    return "; not yet: the segment is not committed"


def _repeats(one: "Found", found: "Trace") -> str:
    if one.sighting.outcome != "duplicate":
        return ""
    if one.first:
        return f" of {one.first.key} row {one.first.row}"
    return "; the row it repeats is not here" + ("" if found.by == "ids" else ": trace it without a hint")


def _counted_line(one: "Found") -> str:
    found = one.counted
    if found is None:
        return "unknown: the segment or its rules are gone: run `headrace audit`"
    hour = "" if found.hour is None else f", hour {found.hour}"
    source = "" if found.source is None else f", source {found.source}"
    state = "" if found.included else _missing(one)
    return f"{found.key.partition}  {found.key.name}  as {found.figure}{hour}{source}{state}"
