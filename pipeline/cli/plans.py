"""`headrace plans`: what tenants may use."""

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.administer import acting, desk, looking, show, table
from pipeline.core.errors import NotFound

if TYPE_CHECKING:
    from pipeline.cli.administer import Desk
    from pipeline.core.plan import Plan

_LIMITS = {
    "requests_per_second": "How fast the bucket of requests refills.",
    "burst_requests": "Requests that the bucket holds.",
    "requests_per_month": "Requests in a calendar month, UTC.",
    "events_per_second": "How fast the bucket of events refills.",
    "bytes_per_second": "How fast the bucket of bytes refills.",
    "max_batch_events": "Events in one request.",
}


@click.group("plans")
def command() -> None:
    """What tenants may use.

    \b
    headrace plans list
    headrace plans put gold --like premium --requests-per-second 5000 --burst-requests 10000
    """  # noqa: D301 - click's mark of lines to be kept


@command.command("list")
@looking
def list_(*, home: Path | None, as_json: bool) -> None:
    """List all plans; basic, standard and premium are delivered."""
    with desk(home) as at:
        rows = [asdict(plan) for plan in at.control.plans()]
    table(rows, ("name", *_LIMITS), "no plans", as_json=as_json)


@command.command("show")
@click.argument("name")
@looking
def show_(*, name: str, home: Path | None, as_json: bool) -> None:
    """Show a plan, and how many tenants have it."""
    with desk(home) as at:
        row: dict[str, Any] = asdict(_plan(at, name))
        row["tenants"] = sum(tenant.plan == name for tenant in at.control.tenants())
    show(row, as_json=as_json)


def _limits(function: Any) -> Any:
    for name, says in reversed(_LIMITS.items()):
        function = click.option(f"--{name.replace('_', '-')}", name, type=int, help=says)(function)
    return function


@command.command("put")
@click.argument("name")
@click.option(
    "--like", metavar="PLAN", help="Where limits come from that are not given [default: the plan itself]."
)
@_limits
@acting
def put(
    *, name: str, like: str | None, home: Path | None, actor: str | None, as_json: bool, **limits: int | None
) -> None:
    """Add a plan, or change one: its tenants have the new limits within a minute."""
    with desk(home, actor) as at:
        given = {limit: value for limit, value in limits.items() if value is not None}
        made = replace(_plan(at, like or name), name=name, **given)
        at.admin.put_plan(made)
    show(asdict(made), as_json=as_json)


def _plan(at: "Desk", name: str) -> "Plan":
    plans = {plan.name: plan for plan in at.control.plans()}
    if name not in plans:
        raise NotFound(f"no plan {name!r}; known: {', '.join(plans)} (a new one begins `--like` one of them)")
    return plans[name]
