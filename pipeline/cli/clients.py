"""`headrace clients`: which OAuth client of the user pool belongs to which tenant."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.administer import (
    acting,
    desk,
    known_tenant,
    label_option,
    looking,
    moment,
    of_tenant,
    scope_option,
    show,
    table,
)
from pipeline.cli.answers import say
from pipeline.core.caller import Scope

if TYPE_CHECKING:
    from pipeline.core.tenant import Client

_COLUMNS = ("id", "tenant", "label", "scopes", "state", "created")


@click.group("clients")
def command() -> None:
    """OAuth clients: which client id of the user pool belongs to which tenant.

    \b
    headrace clients add 4k2j7h1example acme --scope ingest,read

    A token of a client that is not listed here is refused, whatever its user pool says.
    """  # noqa: D301 - click's mark of lines to be kept


@command.command("list")
@of_tenant
@looking
def list_(*, tenant: str | None, home: Path | None, as_json: bool) -> None:
    """List clients, newest first; of one tenant, or of all."""
    with desk(home) as at:
        rows = [_row(client) for client in at.control.clients(known_tenant(at, tenant))]
    table(
        rows,
        _COLUMNS,
        "no clients: `headrace clients add ID TENANT --scope ingest` adds one",
        as_json=as_json,
    )


@command.command("show")
@click.argument("client_id", metavar="ID")
@looking
def show_(*, client_id: str, home: Path | None, as_json: bool) -> None:
    """Show a client."""
    with desk(home) as at:
        show(_row(at.admin.client(client_id)), as_json=as_json)


@command.command("add")
@click.argument("client_id", metavar="ID")
@click.argument("tenant")
@scope_option
@label_option
@acting
def add(
    *,
    client_id: str,
    tenant: str,
    scopes: frozenset[Scope],
    label: str,
    home: Path | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Say whose an OAuth client is, and what it may do at most."""
    with desk(home, actor) as at:
        show(_row(at.admin.add_client(client_id, tenant, scopes, label)), as_json=as_json)
        if not at.settings.auth.issuer:
            say("no token of it is taken yet: set auth.issuer to the user pool's URL where the API runs")


@command.command("revoke")
@click.argument("client_id", metavar="ID")
@acting
def revoke(*, client_id: str, home: Path | None, actor: str | None, as_json: bool) -> None:
    """Refuse a client's tokens everywhere within a minute, for ever."""
    with desk(home, actor) as at:
        show(_row(at.admin.revoke_client(client_id)), as_json=as_json)


def _row(client: "Client") -> dict[str, Any]:
    return {
        "id": client.id,
        "tenant": client.tenant,
        "label": client.label,
        "scopes": sorted(client.scopes),
        "state": "active" if client.revoked_us is None else "revoked",
        "created": moment(client.created_us),
        "revoked": moment(client.revoked_us),
    }
