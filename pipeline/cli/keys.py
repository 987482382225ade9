"""`headrace keys`: API keys. A key is printed once, when it is made; only a hash of it is kept."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pipeline.cli.administer import (
    Duration,
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
from pipeline.core.caller import Scope

if TYPE_CHECKING:
    from pipeline.cli.administer import Desk
    from pipeline.core.tenant import ApiKey

_COLUMNS = ("id", "tenant", "label", "scopes", "state", "created", "expires", "last_used")
_ONCE = "this is the only time that the key is shown: keep it now, it cannot be looked up"
_PLAN = "basic"  # of a tenant that was only in the settings so far


@click.group("keys")
def command() -> None:
    """API keys of tenants: made, rotated, revoked.

    \b
    headrace keys create acme --scope ingest,read --label "till 7" --expires 365d
    headrace keys rotate 00ff11ee22dd33cc --overlap 24h
    headrace keys revoke 00ff11ee22dd33cc

    The id of a key is its third part: hr_dev_ID_...
    """  # noqa: D301 - click's mark of lines to be kept


@command.command("list")
@of_tenant
@looking
def list_(*, tenant: str | None, home: Path | None, as_json: bool) -> None:
    """List keys, newest first; of one tenant, or of all."""
    with desk(home) as at:
        rows = [_row(key) for key in at.control.keys(known_tenant(at, tenant))]
    table(rows, _COLUMNS, "no keys: `headrace keys create TENANT --scope ingest` makes one", as_json=as_json)


@command.command("show")
@click.argument("key_id", metavar="ID")
@looking
def show_(*, key_id: str, home: Path | None, as_json: bool) -> None:
    """Show a key by its id, without its secret, which nobody has but its owner."""
    with desk(home) as at:
        show(_row(at.admin.key(key_id)), as_json=as_json)


@command.command("create")
@click.argument("tenant")
@scope_option
@label_option
@click.option(
    "--expires", type=Duration(), metavar="TIME", help="Ends by itself after 365d, 24h, ... [default: never]."
)
@click.option("--requests-per-second", type=int, help="A limit of its own, below the plan's.")
@acting
def create(
    *,
    tenant: str,
    scopes: frozenset[Scope],
    label: str,
    expires: int | None,
    requests_per_second: int | None,
    home: Path | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Make a key for a tenant, and print it: once."""
    from pipeline.flows.admin import KeyTerms

    with desk(home, actor) as at:
        _take_in(at, tenant)
        made, key = at.admin.create_key(tenant, KeyTerms(scopes, label, expires, requests_per_second))
    _show_new(made.text, key, as_json=as_json)


@command.command("rotate")
@click.argument("key_id", metavar="ID")
@click.option(
    "--overlap", type=Duration(), default="24h", show_default=True, help="How long the old key goes on."
)
@click.option(
    "--expires", type=Duration(), metavar="TIME", help="Of the new key [default: as long as the old one had]."
)
@acting
def rotate(
    *,
    key_id: str,
    overlap: int,
    expires: int | None,
    home: Path | None,
    actor: str | None,
    as_json: bool,
) -> None:
    """Make a key in place of another, which goes on for a while, and print the new one: once."""
    with desk(home, actor) as at:
        made, key = at.admin.rotate_key(key_id, overlap, expires)
    _show_new(made.text, key, as_json=as_json)


@command.command("revoke")
@click.argument("key_id", metavar="ID")
@acting
def revoke(*, key_id: str, home: Path | None, actor: str | None, as_json: bool) -> None:
    """Revoke a key: it is refused everywhere within a minute, for ever."""
    with desk(home, actor) as at:
        show(_row(at.admin.revoke_key(key_id)), as_json=as_json)


def _take_in(at: "Desk", tenant: str) -> None:
    """Add a tenant that the settings know and the store does not: it is about to have its first credential."""
    if tenant in at.settings.events.tenants and at.admin.take_in([tenant], _PLAN):
        click.echo(
            f"headrace: tenant {tenant} of events.tenants has the plan {_PLAN} now: `headrace tenants plan {tenant} PLAN`",
            err=True,
        )


def _show_new(text: str, key: "ApiKey", *, as_json: bool) -> None:
    show({"key": text} | _row(key), as_json=as_json)
    if not as_json:
        click.echo(_ONCE, err=True)


def _row(key: "ApiKey") -> dict[str, Any]:
    from pipeline.flows.admin import state_of_key
    from pipeline.ports.clock import SystemClock

    return {
        "id": key.id,
        "tenant": key.tenant,
        "label": key.label,
        "scopes": sorted(key.scopes),
        "state": state_of_key(key, SystemClock().now_us()),
        "created": moment(key.created_us),
        "expires": moment(key.expires_us),
        "revoked": moment(key.revoked_us),
        "requests_per_second": key.requests_per_second,
        "last_used": moment(key.last_used_us),
    }
