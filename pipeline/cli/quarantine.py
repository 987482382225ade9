"""`headrace quarantine`: what was refused, counted or shown."""

import base64
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson

from pipeline.cli.answers import aligned, indented, printable, say
from pipeline.cli.progress import Progress
from pipeline.cli.refused import refused_options, wanted_of
from pipeline.cli.settings import home_option, settings_with_stack
from pipeline.core.span import instant_of

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.redriven import Mark, RefusedUnit
    from pipeline.flows.quarantine import Group, Tally

_COLUMNS = ("day", "code", "type", "tenant", "units", "redriven", "first arrival", "last arrival")
_NUMBERS = {"units", "redriven"}
_NAME_CHARACTERS = 40  # of a type or tenant in a table: a refused unit may say anything


@click.group("quarantine")
def command() -> None:
    """Show what was refused, and why.

    What a refused unit says of itself, its tenant and type among it, is shown as it was sent and never trusted. Days
    and times are those of arrival. `headrace redrive` sends units through again.
    """


@command.command("list")
@refused_options
@click.option(
    "--limit", type=click.IntRange(min=1), default=100, show_default=True, metavar="N", help="Show N lines."
)
@click.option("--json", "as_json", is_flag=True, help="One array, of every line.")
@home_option
def list_command(*, limit: int, as_json: bool, home: Path | None, **chosen: Any) -> None:
    """Count refused units by day, code, type and tenant, and how many of them were redriven.

    \b
    headrace quarantine list
    headrace quarantine list --reason schema_mismatch --from 2013-07-01 --to 2013-07-31
    """  # noqa: D301 - click's mark against re-wrapping
    wanted = wanted_of(**_named(chosen))
    from pipeline import wiring
    from pipeline.flows.quarantine import tally

    settings = settings_with_stack(home)
    with Progress("quarantine", unit="files") as progress:
        found = tally(wanted, wiring.quarantine(settings, progress.add))
    ordered = sorted(found.items(), key=lambda one: (one[0].dt, -one[1].units, *map(str, one[0])))
    if as_json:
        click.echo(indented([_document(*one) for one in ordered]))
        return
    if not ordered:
        say("nothing was refused that is like this")
        return
    rows = [_cells(*one) for one in ordered[:limit]]
    for line in aligned(list(_COLUMNS), [name in _NUMBERS for name in _COLUMNS], rows):
        click.echo(line)
    units, redriven = (sum(getattr(one, name) for one in found.values()) for name in ("units", "redriven"))
    more = f"; {len(ordered) - limit:,} lines more: --limit N shows them" if len(ordered) > limit else ""
    say(f"{units:,} refused units, {redriven:,} of them redriven{more}")


def _named(chosen: dict[str, Any]) -> dict[str, Any]:
    return {name: chosen[name] for name in ("reason", "event_type", "tenant", "first", "last")}


def _cells(group: "Group", one: "Tally") -> list[str]:
    names = [_short(name) for name in (group.code, group.event_type, group.tenant_id)]
    return [
        group.dt,
        *names,
        f"{one.units:,}",
        f"{one.redriven:,}",
        instant_of(one.first_us),
        instant_of(one.last_us),
    ]


def _short(name: str | None) -> str:
    if name is None:
        return "-"
    text = printable(name)
    return text if len(text) <= _NAME_CHARACTERS else text[: _NAME_CHARACTERS - 1] + "…"


def _document(group: "Group", one: "Tally") -> dict[str, Any]:
    return {
        "day": group.dt,
        "code": group.code,
        "event_type": group.event_type,
        "tenant_id": group.tenant_id,
        "units": one.units,
        "redriven": one.redriven,
        "first_arrival": instant_of(one.first_us),
        "last_arrival": instant_of(one.last_us),
    }


@command.command("show")
@click.argument("unit", required=False)
@refused_options
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    metavar="N",
    help="Show the first N.",
)
@click.option(
    "--bytes",
    "cut",
    type=click.IntRange(min=0),
    default=2_000,
    show_default=True,
    metavar="N",
    help="Show N bytes of each.",
)
@click.option(
    "--raw", is_flag=True, help="Write the bytes of the one UNIT as they came, to a pipe or a file."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, the bytes whole.")
@home_option
def show_command(
    *, unit: str | None, limit: int, cut: int, raw: bool, as_json: bool, home: Path | None, **chosen: Any
) -> None:
    """Show refused units: reason, where they came from, and their bytes, with control characters escaped.

    UNIT is the name of one, as this command shows it.

    \b
    headrace quarantine show --reason schema_mismatch --limit 3
    headrace quarantine show 2013-07-04/0001-12/3
    headrace quarantine show 2013-07-04/0001-12/3 --raw > unit.bin
    """  # noqa: D301 - click's mark against re-wrapping
    _check_usage(unit, chosen, raw=raw)
    wanted = wanted_of(**_named(chosen))
    from pipeline import wiring
    from pipeline.flows.quarantine import parse_unit, refused, refused_at

    place = None if unit is None else parse_unit("UNIT", unit)
    settings = settings_with_stack(home)
    with Progress("quarantine", unit="files") as progress:
        ports = wiring.quarantine(settings, progress.add)
        if place is not None:
            found = [refused_at(place, ports)]
        else:
            found = list(islice(refused(wanted, ports), limit + 1))
    if raw:
        sys.stdout.buffer.write(found[0][0].raw)
        sys.stdout.buffer.flush()
        return
    _show(found[:limit], cut, as_json=as_json)
    if not found:
        say("nothing was refused that is like this")
    elif len(found) > limit:
        say(f"the first {limit:,} shown; there are more: --limit N shows them")


def _show(found: "list[tuple[RefusedUnit, Mark | None]]", cut: int, *, as_json: bool) -> None:
    for number, (one, mark) in enumerate(found):
        if as_json:
            click.echo(orjson.dumps(_unit_document(one, mark)))
            continue
        for line in [""] * bool(number) + list(_lines(one, mark, cut)):
            click.echo(line)


def _check_usage(unit: str | None, chosen: dict[str, Any], *, raw: bool) -> None:
    if unit is not None and any(value is not None for value in chosen.values()):
        raise click.UsageError("give UNIT, or else options that say which units")
    if raw and unit is None:
        raise click.UsageError("--raw writes the bytes of one unit: give its name as UNIT")
    if raw and sys.stdout.isatty():
        raise click.UsageError(
            "--raw writes bytes as they came, which a terminal may obey: send them to a file"
        )


def _lines(one: "RefusedUnit", mark: "Mark | None", cut: int) -> Iterator[str]:
    from pipeline.flows.quarantine import unit_name

    at = f" at {one.pointer}" if one.pointer else ""
    named = {"tenant": one.tenant_id, "type": one.event_type, "event": one.event_id}
    says = ", ".join(f"{what} {name}" for what, name in named.items() if name is not None)
    where = f"{one.shard_id}  {one.sequence_number}/{one.subsequence_number}  key {one.partition_key}"
    yield f"unit      {unit_name(one.place)}"
    yield printable(f"refused   {one.code}{at}: {one.message}")
    yield printable(f"says      {says or 'nothing of itself'}")
    yield printable(f"arrived   {instant_of(one.arrived_us)}  {where}")
    yield f"redriven  {f'{instant_of(mark.redriven_us)}  as segment {mark.redriven_as}' if mark else 'no'}"
    more = f" … {len(one.raw) - cut:,} bytes more: --raw writes them all" if len(one.raw) > cut else ""
    text = printable(one.raw[:cut].decode(errors="backslashreplace"))
    yield f"bytes     {len(one.raw):,}: {text}{more}"


def _unit_document(one: "RefusedUnit", mark: "Mark | None") -> dict[str, Any]:
    from pipeline.flows.quarantine import unit_name

    names = ("code", "pointer", "message", "tenant_id", "event_type", "event_id")
    try:
        text: str | None = one.raw.decode()
    except UnicodeDecodeError:
        text = None
    return {
        "unit": unit_name(one.place),
        **{name: getattr(one, name) for name in names},
        "arrived": instant_of(one.arrived_us),
        "partition_key": one.partition_key,
        "shard_id": one.shard_id,
        "sequence_number": one.sequence_number,
        "subsequence_number": one.subsequence_number,
        "redriven": {"time": instant_of(mark.redriven_us), "as": mark.redriven_as} if mark else None,
        "raw": text,
        "raw_base64": base64.b64encode(one.raw).decode() if text is None else None,
    }
