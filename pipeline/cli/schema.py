"""`headrace schema`: the event types there are, and the tables made from them."""

import json
from collections.abc import Mapping
from pathlib import Path

import click

from pipeline.cli.administer import acting
from pipeline.cli.answers import RESTART_LOADERS, say
from pipeline.cli.settings import home_option
from pipeline.config import Settings, load_settings
from pipeline.core.ddl import HEADER, ddl_files
from pipeline.core.errors import ConfigProblem
from pipeline.core.names import table_name
from pipeline.core.schema import TypeSchema, group_types
from pipeline.machine.schema_files import load_document, load_schemas

STALE = 1


@click.group("schema")
def command() -> None:
    """Schemas of the events, and the tables made from them."""


@command.command("ddl")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 and name the files that differ.")
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the files go [default: athena/tables].",
)
@home_option
@click.pass_context
def ddl(ctx: click.Context, *, check: bool, out: Path | None, home: Path | None) -> None:
    """Write Athena's tables and views from the schemas, one file each; files of types that are gone are removed."""
    settings = load_settings({"paths": {"home": home}})
    folder = out or settings.paths.athena / "tables"
    wanted = ddl_files(_types(settings))
    try:
        differing = _differing(folder, wanted)
        if not check:
            _write(folder, wanted, differing)
    except OSError as exc:
        raise ConfigProblem(
            f"{exc.filename or folder}: {exc.strerror}; name another folder with --out"
        ) from exc
    for name, what in differing.items():
        click.echo(f"{folder / name}: {what}" if check else f"{folder / name}: {_DONE[what]}")
    if check and differing:
        click.echo("run `headrace schema ddl` and check the result in", err=True)
        ctx.exit(STALE)
    if not check and _by_files(settings, wanted, differing):
        say(RESTART_LOADERS)
    if not differing:
        click.echo(f"{len(wanted)} files in {folder} are as the schemas say")


@command.command("list")
@click.option("--json", "as_json", is_flag=True, help="One array, for programs.")
@home_option
def list_types(*, as_json: bool, home: Path | None) -> None:
    """List the event types with their versions and tables."""
    rows = [
        {
            "event_type": name,
            "versions": sorted(one.versions),
            "table": table_name(name),
            "columns": [column.name for column in one.columns],
        }
        for name, one in _types(load_settings({"paths": {"home": home}})).items()
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    texts = [("event type", "versions", "table", "columns")]
    for row in rows:
        versions = ", ".join(map(str, row["versions"]))
        texts.append((str(row["event_type"]), versions, str(row["table"]), str(len(row["columns"]))))
    widths = [max(len(text[column]) for text in texts) for column in range(3)]
    for text in texts:
        click.echo(
            "  ".join([*(word.ljust(width) for word, width in zip(text, widths, strict=False)), text[3]])
        )


@command.command("publish")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--type", "event_type", help="Event type [default: the folder of FILE].")
@click.option("--version", type=int, help="Version [default: the name of FILE, as 2.json].")
@acting
def publish(
    *,
    file: Path,
    event_type: str | None,
    version: int | None,
    home: Path | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Publish a schema version while everything runs: its events are taken within half a minute.

    A published version stays as it is for ever; the next shape is the next version. A new event type is the deployment's:
    no tenant publishes versions of it. One that a tenant published first stays that tenant's. Where the very same is there
    already, what is there is shown (`new` is false) and nothing is done.

    \b
    headrace schema publish door.opened/2.json
    """  # noqa: D301 - click's mark of lines to be kept
    from pipeline.cli.administer import desk, moment, show
    from pipeline.wiring.loading import filed_rules
    from pipeline.wiring.publishing import publish_limits

    name = event_type or file.absolute().parent.name
    document = load_document(file)
    if version is None and not file.stem.isdecimal():
        raise ConfigProblem(f"{file}: which version? Give --version, or name the file 2.json")
    number = int(file.stem) if version is None else version
    with desk(home, actor) as at:
        limits = publish_limits(at.settings)
        made, new = at.admin.publish(filed_rules(at.settings), name, number, document, limits)
    row: dict[str, object] = {"event_type": name, "version": number, "table": table_name(name), "new": new}
    if made is not None:  # None: a schema file has it
        row["owner"] = made.owner or None  # None: the deployment
        row |= {"published_by": made.published_by, "published": moment(made.published_us)}
    show(row, as_json=as_json)
    if not new:
        say(f"{name}/{number} was there already, with the very same document: nothing was done")


_DONE = {"missing": "written", "differs from the schemas": "written", "of no event type": "removed"}


def _types(settings: Settings) -> Mapping[str, TypeSchema]:
    """Return the types of the files, and those that were published."""
    from pipeline.wiring.control import has_control

    if not has_control(settings):
        return group_types(load_schemas(settings.paths.schemas))
    from pipeline import wiring

    return wiring.rules(settings).schemas


def _by_files(settings: Settings, wanted: Mapping[str, str], differing: Mapping[str, str]) -> bool:
    """True when a schema file was added, mended or removed; a published schema is no loader's restart."""
    filed = ddl_files(group_types(load_schemas(settings.paths.schemas)))
    return any(name not in wanted or filed.get(name) == wanted[name] for name in differing)


def _differing(folder: Path, wanted: Mapping[str, str]) -> dict[str, str]:
    found = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.sql")}
    found = {
        name: text for name, text in found.items() if name in wanted or text.startswith(HEADER)
    }  # else: not ours
    what = {name: "missing" if name not in found else "differs from the schemas" for name in wanted}
    what |= dict.fromkeys(found.keys() - wanted.keys(), "of no event type")
    return {name: what[name] for name in sorted(what) if found.get(name) != wanted.get(name)}


def _write(folder: Path, wanted: Mapping[str, str], differing: Mapping[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in differing:
        if name in wanted:
            (folder / name).write_text(wanted[name], encoding="utf-8")
        else:
            (folder / name).unlink()
