"""Rows of the control store to values, and back."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any, cast

from pipeline.core.caller import Scope
from pipeline.core.plan import Plan
from pipeline.core.tenant import Act, ApiKey, Client, Publication, Tenant, TenantState
from pipeline.store.tables import ActRow, ClientRow, KeyRow, PlanRow, PublicationRow, TenantRow


def tenant_of(row: TenantRow) -> Tenant:
    """Return a tenant."""
    return Tenant(row.name, row.plan, cast("TenantState", row.state), row.created_us)


def plan_of(row: PlanRow) -> Plan:
    """Return a plan."""
    return Plan(
        row.name,
        row.requests_per_second,
        row.burst_requests,
        row.requests_per_month,
        row.events_per_second,
        row.bytes_per_second,
        row.max_batch_events,
    )


def key_of(row: KeyRow) -> ApiKey:
    """Return a key."""
    return ApiKey(
        id=row.id,
        tenant=row.tenant,
        label=row.label,
        scopes=_scopes(row.scopes),
        secret_hash=row.secret_hash,
        created_us=row.created_us,
        expires_us=row.expires_us,
        revoked_us=row.revoked_us,
        requests_per_second=row.requests_per_second,
        last_used_us=row.last_used_us,
    )


def client_of(row: ClientRow) -> Client:
    """Return a client."""
    return Client(row.id, row.tenant, row.label, _scopes(row.scopes), row.created_us, row.revoked_us)


def publication_of(row: PublicationRow) -> Publication:
    """Return a published schema."""
    document = json.loads(row.document)
    return Publication(row.event_type, row.version, document, row.published_by, row.published_us, row.owner)


def act_of(row: ActRow) -> Act:
    """Return an act."""
    return Act(row.at_us, row.actor, row.action, row.subject, json.loads(row.details))


def values_of(value: Tenant | Plan | ApiKey | Client | Publication) -> dict[str, Any]:
    """Return the columns of a value."""
    values = asdict(value)
    if "scopes" in values:
        values["scopes"] = _written(values["scopes"])
    if "document" in values:
        values["document"] = json.dumps(values["document"], ensure_ascii=False)
    return values


def act_values(act: Act) -> dict[str, Any]:
    """Return the columns of an act, without its token."""
    values = asdict(act)
    values["details"] = json.dumps(act.details, ensure_ascii=False, sort_keys=True)
    return values


def _scopes(text: str) -> frozenset[Scope]:
    """Read scopes; one that a later release has added is not this program's to grant."""
    known = {str(scope): scope for scope in Scope}
    return frozenset(known[word] for word in text.split() if word in known)


def _written(scopes: Iterable[str]) -> str:
    return " ".join(sorted(map(str, scopes)))
