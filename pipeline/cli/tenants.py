"""`headrace tenants`: the client systems, and the plan of each."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.administer import acting, desk, looking, moment, show, table

if TYPE_CHECKING:
    from pipeline.core.tenant import Tenant

_COLUMNS = ("tenant", "plan", "state", "created")


@click.group("tenants")
def command() -> None:
    """The client systems, and the plan of each.

    \b
    headrace tenants add acme --plan standard
    headrace keys create acme --scope ingest,read

    Those of the setting events.tenants may send without being listed here; over HTTP, who calls needs a key.
    """  # noqa: D301 - click's mark of lines to be kept


@command.command("list")
@looking
def list_(*, home: Path | None, as_json: bool) -> None:
    """List all tenants."""
    with desk(home) as at:
        rows = [_row(tenant) for tenant in at.control.tenants()]
    table(rows, _COLUMNS, "no tenants: `headrace tenants add NAME` adds one", as_json=as_json)


@command.command("show")
@click.argument("name")
@looking
def show_(*, name: str, home: Path | None, as_json: bool) -> None:
    """Show a tenant, and how many credentials it has."""
    with desk(home) as at:
        row = _row(at.admin.tenant(name))
        row |= {"keys": len(at.control.keys(name)), "clients": len(at.control.clients(name))}
    show(row, as_json=as_json)


@command.command("add")
@click.argument("name")
@click.option("--plan", default="basic", show_default=True, help="As `headrace plans list` names them.")
@acting
def add(*, name: str, plan: str, home: Path | None, actor: str | None, as_json: bool) -> None:
    """Add a tenant: its events are accepted from now on, everywhere within half a minute."""
    with desk(home, actor) as at:
        show(_row(at.admin.add_tenant(name, plan)), as_json=as_json)


@command.command("plan")
@click.argument("name")
@click.argument("plan")
@acting
def plan(*, name: str, plan: str, home: Path | None, actor: str | None, as_json: bool) -> None:
    """Give a tenant another plan."""
    with desk(home, actor) as at:
        show(_row(at.admin.set_plan(name, plan)), as_json=as_json)


@command.command("suspend")
@click.argument("name")
@acting
def suspend(*, name: str, home: Path | None, actor: str | None, as_json: bool) -> None:
    """Refuse all credentials of a tenant, within a minute; what it has sent is archived, and stays."""
    with desk(home, actor) as at:
        show(_row(at.admin.set_state(name, "suspended")), as_json=as_json)


@command.command("resume")
@click.argument("name")
@acting
def resume(*, name: str, home: Path | None, actor: str | None, as_json: bool) -> None:
    """Let a suspended tenant in again."""
    with desk(home, actor) as at:
        show(_row(at.admin.set_state(name, "active")), as_json=as_json)


def _row(tenant: "Tenant") -> dict[str, Any]:
    created = moment(tenant.created_us)
    return {"tenant": tenant.name, "plan": tenant.plan, "state": tenant.state, "created": created}
