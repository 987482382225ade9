"""`headrace control`: the control store's database, before anybody uses it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pipeline.cli.administer import told_waiting
from pipeline.cli.settings import home_option
from pipeline.config import Settings, load_settings

if TYPE_CHECKING:
    from pipeline.store.open import Patience

BEHIND = 1
_SAYS = {
    "empty": "has no tables: run `headrace control migrate`",
    "behind": "has the tables of an older release: run `headrace control migrate`",
    "current": "has the tables of this release",
    "ahead": "has the tables of a newer release, which this one can work with",
}


@click.group("control")
def command() -> None:
    """The control store's database: SQLite in the home by itself, PostgreSQL by `migrate`.

    \b
    HEADRACE_CONTROL__URL=postgresql://headrace:...@db/headrace headrace control migrate
    """  # noqa: D301 - click's mark of lines to be kept


_json_option = click.option("--json", "as_json", is_flag=True, help="One object, for programs.")


@command.command("migrate")
@_json_option
@home_option
def migrate(*, as_json: bool, home: Path | None) -> None:
    """Bring the database to the tables of this release; waits for its server, and may be run by several at once.

    Run it before a new release starts: the release before goes on working meanwhile.
    """
    from pipeline.ports.clock import SystemClock
    from pipeline.store.open import migrated
    from pipeline.wiring.control import control_url

    settings = load_settings({"paths": {"home": home}})
    before = migrated(control_url(settings), SystemClock(), _patience(settings))
    done = before not in {"current", "ahead"}
    says = (
        "the control store has the tables of this release now"
        if done
        else f"the control store {_SAYS[before]}"
    )
    _tell(says, {"state": "current" if done else before, "migrated": done}, as_json=as_json)


@command.command("status")
@_json_option
@home_option
@click.pass_context
def status(context: click.Context, *, as_json: bool, home: Path | None) -> None:
    """Say whether the database answers and has its tables: 0 when it can be used, else 1.

    With --json, `state` is absent, empty, behind, current or ahead.
    """
    from pipeline.ports.clock import SystemClock
    from pipeline.store.open import state
    from pipeline.wiring.control import control_url, has_control

    settings = load_settings({"paths": {"home": home}})
    if not has_control(settings):
        says = "there is no control store: the first `headrace tenants add` makes one in the home"
        _tell(says, {"state": "absent", "usable": False}, as_json=as_json)
        context.exit(BEHIND)
    found = state(control_url(settings), SystemClock(), _patience(settings))
    usable = found in {"current", "ahead"}
    _tell(f"the control store {_SAYS[found]}", {"state": found, "usable": usable}, as_json=as_json)
    context.exit(0 if usable else BEHIND)


def _tell(says: str, row: dict[str, object], *, as_json: bool) -> None:
    click.echo(json.dumps(row) if as_json else says)


def _patience(settings: Settings) -> "Patience":
    from pipeline.store.open import Patience

    return Patience(settings.control.wait_seconds, told_waiting)
