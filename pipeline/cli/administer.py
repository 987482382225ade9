"""What the commands that administer share: who acts, the control store, times and tables."""

import getpass
import json
import re
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.settings import home_option
from pipeline.config import Settings, load_settings
from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem, NotFound

if TYPE_CHECKING:  # it loads SQLAlchemy, and `--help` is to be quick
    from pipeline.flows.admin import Admin
    from pipeline.store.control import SqlControl

F = TypeVar("F", bound=Callable[..., Any])
_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_TOLD_AFTER_SECONDS = 2.0  # a start that waits no longer than that says nothing

json_option = click.option("--json", "as_json", is_flag=True, help="JSON, for programs.")
as_option = click.option(
    "--as", "actor", metavar="NAME", help="Who acts, for the audit log [default: user@host of this machine]."
)
scope_option = click.option(
    "--scope",
    "scopes",
    callback=lambda _context, _parameter, value: _scopes(value),
    required=True,
    metavar="LIST",
    help=f"What it may do: {', '.join(Scope)}; several with commas.",
)
label_option = click.option("--label", default="", help="For people: who uses it, and where.")


def of_tenant(function: F) -> F:
    """Add a tenant that a list may be narrowed to, as an argument or an option."""

    def one(context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
        before = context.params.get("tenant")
        if value is not None and before not in (None, value):
            raise click.UsageError(f"two tenants, {before!r} and {value!r}: give one")
        context.params["tenant"] = value or before
        return value or before

    option = click.option(
        "--tenant", "_tenant", callback=one, expose_value=False, help="The same, as an option."
    )
    return click.argument("tenant", required=False, callback=one, expose_value=False)(option(function))


def acting(function: F) -> F:
    """Add the options of a command that changes something."""
    return home_option(as_option(json_option(function)))


def looking(function: F) -> F:
    """Add the options of a command that shows something."""
    return home_option(json_option(function))


class Duration(click.ParamType[int]):
    """A time span as `90d`, `24h`, `15m` or `30s`, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return seconds."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"(\d{1,6})([smhd])", str(value))
        if found is None:
            self.fail(f"{value!r}: write a number and s, m, h or d, such as 90d", param, ctx)
        return int(found[1]) * _SECONDS[found[2]]


@dataclass(frozen=True)
class Desk:
    """What one command works with."""

    settings: Settings
    control: "SqlControl"
    admin: "Admin"


@contextmanager
def desk(home: Path | None, actor: str | None = None) -> Iterator[Desk]:
    """Give the control store, and the acts of whoever runs this command.

    Raises:
        ConfigProblem: a setting is wrong, the store refuses us, or a name that was typed is nobody's: nothing was done.
        Transient: the store does not answer in `control.wait_seconds`.
    """
    from pipeline.flows.admin import Admin
    from pipeline.ports.clock import SystemClock
    from pipeline.wiring.control import control

    settings, clock = load_settings({"paths": {"home": home}}), SystemClock()
    store = control(settings, clock, told_waiting)
    word = settings.control.environment
    try:
        yield Desk(settings, store, Admin(store, clock, actor or me(), secrets.token_bytes, word))
    except NotFound as exc:
        raise ConfigProblem(str(exc)) from exc
    finally:
        store.close()


def known_tenant(at: Desk, name: str | None) -> str | None:
    """Return the name of a tenant of the store or the settings; None for none.

    Raises:
        NotFound: it is nobody's.
    """
    if name is not None and name not in at.settings.events.tenants:
        at.admin.tenant(name)
    return name


def told_waiting(seconds: float, reason: str) -> None:
    """Tell the person that something is waited for, every ten seconds or so."""
    if seconds >= _TOLD_AFTER_SECONDS and round(seconds) % 10 == round(_TOLD_AFTER_SECONDS):
        click.echo(f"headrace: waiting since {seconds:.0f} s: {reason}", err=True)


def me() -> str:
    """Return user@host; a user without a name is a number."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


def moment(at_us: int | None) -> str | None:
    """Return a time as RFC 3339 writes it, to the second."""
    return (
        None
        if at_us is None
        else datetime.fromtimestamp(at_us // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    )


def show(row: Mapping[str, Any], *, as_json: bool) -> None:
    """Print one thing: a line for each of its values."""
    if as_json:
        click.echo(json.dumps(row, indent=2))
        return
    width = max(map(len, row))
    for name, value in row.items():
        click.echo(f"{name.replace('_', ' '):{width}}  {_text(value)}")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], nothing: str, *, as_json: bool) -> None:
    """Print things: a line each with the named columns; `nothing` where there is none. JSON has all values."""
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        click.echo(nothing)
        return
    texts = [[name.replace("_", " ") for name in columns]]
    texts += [[_text(row[name]) for name in columns] for row in rows]
    widths = [max(len(line[place]) for line in texts) for place in range(len(columns))]
    for line in texts:
        click.echo("  ".join(f"{text:{width}}" for text, width in zip(line, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _scopes(text: str) -> frozenset[Scope]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = [word for word in words if word not in set(Scope)]
    if unknown or not words:
        raise click.BadParameter(f"{text!r}: one or more of {', '.join(Scope)}, with commas")
    return frozenset(map(Scope, words))
