"""What the commands that ask about one tenant share: its options, and the names that are known."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.core.errors import ConfigProblem
from pipeline.core.excerpt import did_you_mean

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.rules import Rules

F = TypeVar("F", bound=Callable[..., Any])
UNKNOWN = "_unknown"  # of `core.aggregate`: where units of no known tenant or type are counted
SPAN_OPTIONS = ("--from", "--to")
_SHOWN = 20  # names listed in a message


def not_empty(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Refuse an empty text, as a callback of click: nobody has such a name, and mostly a variable was not set."""
    if not value and value is not None:
        raise click.BadParameter("it is empty")
    return value


tenant_option = click.option(
    "--tenant", callback=not_empty, required=True, help="Whose events; no other tenant's are looked at."
)


def span_options(function: F) -> F:
    """Add --from and --to to a command."""
    function = click.option(
        "--to",
        "last",
        metavar="WHEN",
        help="Until when: a day, which is included, or an RFC 3339 time, which is not.",
    )(function)
    return click.option(
        "--from",
        "first",
        metavar="WHEN",
        help="Event times from here on: a day (2013-07-04, UTC) or an RFC 3339 time (2013-07-04T10:30:00Z).",
    )(function)


def check_names(
    rules: "Rules",
    tenant: str,
    event_type: str | None,
    also: tuple[str, ...] = (),
    stored: Callable[[], Iterable[str]] = tuple,
) -> None:
    """Refuse a tenant or event type that nobody has registered.

    Args:
        rules: what is registered.
        tenant: to look up.
        event_type: to look up, if one is named.
        also: further names that are right.
        stored: gives the event types that data files have; asked where the rules do not know a type.

    Raises:
        ConfigProblem: it is unknown; the message names those that are known.
    """
    _check(
        "tenant",
        tenant,
        [*rules.tenants, *also],
        "`headrace tenants add` registers more, or the setting events.tenants",
    )
    if event_type is not None and event_type not in rules.schemas:
        _check(
            "event type", event_type, [*rules.schemas, *also, *stored()], "`headrace schema list` shows them"
        )


def warn_of_tenant(rules: "Rules", tenant: str) -> None:
    """Say that a tenant is not registered, where stored units may name it all the same."""
    if tenant not in rules.tenants:
        hint = did_you_mean(tenant, rules.tenants) or ";"
        click.echo(
            f"headrace: warning: no tenant {tenant!r} is registered{hint} looking among what was refused too",
            err=True,
        )


def _check(what: str, name: str, known: list[str], where: str) -> None:
    if name in known:
        return
    names = sorted({*known} - {UNKNOWN})
    shown = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    hint = did_you_mean(name, names) or ";"
    raise ConfigProblem(f"no {what} {name!r}{hint} known: {shown or 'none'} ({where})")
