"""Who calls, and what they may do: it all follows from the credential, never from what a request says."""

from dataclasses import dataclass
from enum import StrEnum

from pipeline.core.errors import HeadraceError
from pipeline.core.plan import Plan


class Scope(StrEnum):
    """What a credential may be used for."""

    INGEST = "ingest"
    READ = "read"
    REPLAY = "replay"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """One authenticated caller.

    Attributes:
        tenant_id: whose data this caller may send and see; nobody else's.
        credential: `key:<id>` or `client:<id>`; safe to log.
        scopes: what it may do.
        plan: what its tenant may use.
        requests_per_second: a limit of this credential's own, below the plan's; None: only the plan's.
    """

    tenant_id: str
    credential: str
    scopes: frozenset[Scope]
    plan: Plan
    requests_per_second: int | None = None


class Denied(HeadraceError):
    """A credential is missing, wrong, expired, revoked, or not for this.

    Attributes:
        code: a stable word, for facts and metrics: what was wrong with it. The caller is told only `unauthenticated`.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
