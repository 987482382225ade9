"""Values that the tests of the control store put."""

from typing import Any

from pipeline.core.caller import Scope
from pipeline.core.tenant import Act, ApiKey, Client, Publication, Tenant

AT_US = 1_700_000_000_000_000
ACME = Tenant("acme", "basic", "active", AT_US)
DOCUMENT = {"type": "object", "properties": {"z": {"type": "integer"}, "a": {"type": "string"}}}


def act(action: str = "tenant.add", subject: str = "tenant:acme", **details: Any) -> Act:
    """Return an act."""
    return Act(AT_US, "jo@desk", action, subject, details)


def key(key_id: str = "00ff", tenant: str = "acme", **more: Any) -> ApiKey:
    """Return a key."""
    scopes = frozenset({Scope.INGEST, Scope.READ})
    fields = {"label": "ci", "scopes": scopes, "secret_hash": bytes(range(32)), "created_us": AT_US}
    return ApiKey(id=key_id, tenant=tenant, **{**fields, **more})


def client(client_id: str = "4k2", tenant: str = "acme", **more: Any) -> Client:
    """Return a client."""
    fields = {"label": "partner", "scopes": frozenset({Scope.READ}), "created_us": AT_US}
    return Client(id=client_id, tenant=tenant, **{**fields, **more})


def publication(version: int = 1, document: dict[str, Any] | None = None) -> Publication:
    """Return a published schema."""
    return Publication("door.opened", version, document or DOCUMENT, "jo@desk", AT_US)
