"""What the commands about refused units share: which units, and how counts by code are told."""

import difflib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import click

from pipeline.cli.asking import SPAN_OPTIONS, not_empty
from pipeline.core.event import RefusalCode
from pipeline.core.span import parse_span

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.core.redriven import Wanted

F = TypeVar("F", bound=Callable[..., Any])


def _code(_ctx: click.Context, _param: click.Parameter, value: str | None) -> str | None:
    """Take a code that there is, as a callback of click; else say which one may be meant."""
    codes = [str(code) for code in RefusalCode]
    if value is None or value in codes:
        return value
    near = difflib.get_close_matches(value, codes, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    raise click.BadParameter(f"{value!r} is no code{hint} the codes are {', '.join(codes)}")


def refused_options(function: F) -> F:
    """Add the options that say which refused units."""
    options = (
        click.option(
            "--reason",
            callback=_code,
            metavar="CODE",
            help="Refused with this code, as `headrace quarantine list` shows them.",
        ),
        click.option("--type", "event_type", callback=not_empty, help="Naming this event type."),
        click.option("--tenant", callback=not_empty, help="Naming this tenant."),
        click.option(
            "--from",
            "first",
            metavar="WHEN",
            help="Arrived from here on: a day (2013-07-04, UTC) or an RFC 3339 time (2013-07-04T10:30:00Z).",
        ),
        click.option(
            "--to",
            "last",
            metavar="WHEN",
            help="Arrived until: a day, which is included, or an RFC 3339 time, which is not.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def wanted_of(
    reason: str | None, event_type: str | None, tenant: str | None, first: str | None, last: str | None
) -> "Wanted":
    """Return which units the options mean.

    Raises:
        ConfigProblem: --from or --to is no time, or nothing lies between them.
    """
    from pipeline.core.redriven import Wanted

    return Wanted(reason, tenant, event_type, parse_span(first, last, SPAN_OPTIONS))


def by_code(counts: Mapping[str, int]) -> str:
    """Return counts by code in one line, the largest first."""
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{code} {count:,}" for code, count in ordered)
