"""The control store: tenants, plans, credentials, published schemas, acts."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Protocol

from pipeline.core.errors import ConfigProblem
from pipeline.core.plan import Plan
from pipeline.core.tenant import Act, ApiKey, Client, Publication, Tenant


class Credentials(NamedTuple):
    """All that says who callers are."""

    tenants: list[Tenant]
    plans: list[Plan]
    keys: list[ApiKey]
    clients: list[Client]


class Judged(NamedTuple):
    """What events are judged by, read together: `tenants` by name, `publications` by type and version.

    `revision` is of before the rest, which may only be newer.
    """

    revision: int
    tenants: list[Tenant]
    publications: list[Publication]


class Overtaken(ConfigProblem):
    """Somebody else wrote between the look and the write: nothing was done, look again."""


class Control(Protocol):
    """What is known of tenants. Called from threads, never from an event loop; every call is one transaction.

    Every write takes the act that it is; both are stored, or neither, and writes follow each other. All calls raise Transient
    when the store does not answer in time, a write OutcomeUnknown when nobody could find out whether it holds, and NotFound
    or ConfigProblem as it says. A revocation is never taken back or put off: of two the earlier holds.

    What is looked up by name (`tenant`, `plan`, `key`, `client`), `credentials`, `judged` and `revision` are as of the call or
    later, or Transient: never out of a copy that may lag. Lists may be older while the store itself is away, also for a
    moment between two calls: they are for people to read, and nothing is decided by them.
    """

    def tenants(self) -> list[Tenant]:
        """Return all, by name."""
        ...

    def tenant(self, name: str) -> Tenant | None:
        """Return one."""
        ...

    def put_tenant(self, tenant: Tenant, act: Act, *, new: bool, was: Tenant | None = None) -> None:
        """Store one.

        ConfigProblem: it exists although `new`, or is not (any more) what it `was`, or its plan does not exist; NotFound: it
        does not exist.
        """
        ...

    def plans(self) -> list[Plan]:
        """Return all, by name; the delivered ones are there from the first migration on."""
        ...

    def plan(self, name: str) -> Plan | None:
        """Return one."""
        ...

    def put_plan(self, plan: Plan, act: Act) -> None:
        """Store one, new or changed."""
        ...

    def keys(self, tenant: str | None = None) -> list[ApiKey]:
        """Return a tenant's keys, or all, newest first."""
        ...

    def key(self, key_id: str) -> ApiKey | None:
        """Return one."""
        ...

    def credentials(self) -> Credentials:
        """Return all tenants, plans, keys and clients, newest first, as of now."""
        ...

    def put_key(self, key: ApiKey, act: Act, *, new: bool) -> None:
        """Store one. ConfigProblem: its id is taken although `new`; NotFound: it, or its tenant, does not exist."""
        ...

    def keys_used(self, used_us: Mapping[str, int]) -> None:
        """Keep when keys were last used, if that is later than what is known; unknown ids are passed over. No act."""
        ...

    def clients(self, tenant: str | None = None) -> list[Client]:
        """Return a tenant's OAuth clients, or all, newest first."""
        ...

    def client(self, client_id: str) -> Client | None:
        """Return one."""
        ...

    def put_client(self, client: Client, act: Act, *, new: bool) -> None:
        """Store one. ConfigProblem: its id is taken although `new`; NotFound: it, or its tenant, does not exist."""
        ...

    def judged(self) -> Judged:
        """Return all tenants and every published schema version, as of now."""
        ...

    def publications(self) -> list[Publication]:
        """Return every published schema version, by type and version."""
        ...

    def publish(self, publication: Publication, act: Act, *, seen: int | None = None) -> None:
        """Store one; the same document again is no error, and nothing is stored.

        ConfigProblem: that version exists with another document. Overtaken: the revision is not what was `seen` (any more)
        while it was held against the other schemas.
        """
        ...

    def note(self, act: Act) -> None:
        """Store the act of a change that is about to be made elsewhere, as in the table of limits; `revision` stays."""
        ...

    def acts(self, subject: str | None = None, limit: int = 100) -> Iterable[Act]:
        """Return acts, newest first."""
        ...

    def revision(self) -> int:
        """Return a number that is another after every write with an act; one cheap read, as of now."""
        ...

    def close(self) -> None:
        """Let connections go; the next call opens new ones."""
        ...
