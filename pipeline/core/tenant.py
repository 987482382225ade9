"""What the control store keeps: tenants, their credentials, published schemas, and who changed what."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.core.caller import Scope

TenantState = Literal["active", "suspended"]


@dataclass(frozen=True)
class Tenant:
    """One client system. A suspended one's credentials are refused; its archive stays."""

    name: str
    plan: str
    state: TenantState
    created_us: int


@dataclass(frozen=True)
class ApiKey:
    """One API key, without its secret, which nobody keeps.

    Attributes:
        id: public part; it is in the key itself and in logs.
        secret_hash: SHA-256 of the secret, 32 bytes.
        expires_us, revoked_us: from then on it is refused; None: never. A revocation may lie ahead (rotation with overlap).
        requests_per_second: a limit of its own, below the plan's.
        last_used_us: to the minute or so; None: never.
    """

    id: str
    tenant: str
    label: str
    scopes: frozenset[Scope]
    secret_hash: bytes
    created_us: int
    expires_us: int | None = None
    revoked_us: int | None = None
    requests_per_second: int | None = None
    last_used_us: int | None = None


@dataclass(frozen=True)
class Client:
    """One OAuth client of the user pool, and whose it is."""

    id: str
    tenant: str
    label: str
    scopes: frozenset[Scope]
    created_us: int
    revoked_us: int | None = None


@dataclass(frozen=True)
class Publication:
    """One schema version that was published through the API or the command; immutable.

    Attributes:
        owner: tenant whose event type it is; "": the deployment's.
    """

    event_type: str
    version: int
    document: Mapping[str, Any]
    published_by: str
    published_us: int
    owner: str = ""


@dataclass(frozen=True)
class Act:
    """One administrative act. `details` hold no secret."""

    at_us: int
    actor: str
    action: str
    subject: str
    details: Mapping[str, Any]
