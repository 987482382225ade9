"""The port `Control` in SQL, on SQLite and PostgreSQL alike."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any, TypeVar

from sqlalchemy import func, inspect, or_, select, update
from sqlalchemy.orm import Session

from pipeline.core.errors import ConfigProblem, NotFound, Transient
from pipeline.core.plan import Plan
from pipeline.core.tenant import Act, ApiKey, Client, Publication, Tenant
from pipeline.ports.control import Credentials, Judged, Overtaken
from pipeline.store.rows import act_of, client_of, key_of, plan_of, publication_of, tenant_of, values_of
from pipeline.store.tables import (
    ActRow,
    ClientRow,
    KeyRow,
    PlanRow,
    PublicationRow,
    RevisionRow,
    TenantRow,
)
from pipeline.store.transactions import Transactions

T = TypeVar("T")
R = TypeVar("R", TenantRow, PlanRow, KeyRow, ClientRow, PublicationRow)
C = TypeVar("C", KeyRow, ClientRow)


class SqlControl:
    """What is known of tenants, in one database and perhaps a copy of it.

    Lists come from the replica while it has everything that the primary has, or the primary is away. What callers are judged by
    comes from the primary alone, and from a server that takes writes: nobody can say how far a copy lags while the primary
    does not answer, and what was revoked must not live on in it.
    """

    def __init__(self, primary: Transactions, replica: Transactions | None = None) -> None:
        self._primary, self._replica = primary, replica

    def tenants(self) -> list[Tenant]:
        """Return all, by name."""
        return self._list(lambda session: [tenant_of(row) for row in _all(session, TenantRow)])

    def tenant(self, name: str) -> Tenant | None:
        """Return one."""
        return self._primary.current(lambda session: _read(session, TenantRow, name, tenant_of))

    def put_tenant(self, tenant: Tenant, act: Act, *, new: bool, was: Tenant | None = None) -> None:
        """Store one; see the port."""

        def change(session: Session) -> None:
            _check_tenant(tenant, _read(session, TenantRow, tenant.name, tenant_of), new=new, was=was)
            if session.get(PlanRow, tenant.plan) is None:
                names = ", ".join(session.scalars(select(PlanRow.name).order_by(PlanRow.name)))
                raise ConfigProblem(f"no plan {tenant.plan!r}; known: {names} (`headrace plans list`)")
            session.merge(TenantRow(**values_of(tenant)))

        self._primary.write(change, act)

    def plans(self) -> list[Plan]:
        """Return all, by name."""
        return self._list(lambda session: [plan_of(row) for row in _all(session, PlanRow)])

    def plan(self, name: str) -> Plan | None:
        """Return one."""
        return self._primary.current(lambda session: _read(session, PlanRow, name, plan_of))

    def put_plan(self, plan: Plan, act: Act) -> None:
        """Store one, new or changed."""

        def change(session: Session) -> None:
            session.merge(PlanRow(**values_of(plan)))

        self._primary.write(change, act)

    def keys(self, tenant: str | None = None) -> list[ApiKey]:
        """Return a tenant's keys, or all, newest first."""
        return self._list(lambda session: [key_of(row) for row in _newest(session, KeyRow, tenant)])

    def key(self, key_id: str) -> ApiKey | None:
        """Return one."""
        return self._primary.current(lambda session: _read(session, KeyRow, key_id, key_of))

    def credentials(self) -> Credentials:
        """Return all that says who callers are."""
        return self._primary.current(
            lambda session: Credentials(
                [tenant_of(row) for row in _all(session, TenantRow)],
                [plan_of(row) for row in _all(session, PlanRow)],
                [key_of(row) for row in _newest(session, KeyRow, None)],
                [client_of(row) for row in _newest(session, ClientRow, None)],
            )
        )

    def put_key(self, key: ApiKey, act: Act, *, new: bool) -> None:
        """Store one; see the port."""

        def change(session: Session) -> None:
            stored = _read(session, KeyRow, key.id, key_of)
            _check_credential(session, "key", key, stored, new=new)
            session.merge(KeyRow(**values_of(replace(key, revoked_us=_earlier(stored, key)))))

        self._primary.write(change, act)

    def keys_used(self, used_us: Mapping[str, int]) -> None:
        """Keep when keys were last used."""

        def change(session: Session) -> None:
            for key_id, at_us in sorted(used_us.items()):  # in one order: two servers do not block each other
                older = or_(KeyRow.last_used_us.is_(None), KeyRow.last_used_us < at_us)
                session.execute(update(KeyRow).where(KeyRow.id == key_id, older).values(last_used_us=at_us))

        if used_us:
            self._primary.touch(change)

    def clients(self, tenant: str | None = None) -> list[Client]:
        """Return a tenant's OAuth clients, or all, newest first."""
        return self._list(lambda session: [client_of(row) for row in _newest(session, ClientRow, tenant)])

    def client(self, client_id: str) -> Client | None:
        """Return one."""
        return self._primary.current(lambda session: _read(session, ClientRow, client_id, client_of))

    def put_client(self, client: Client, act: Act, *, new: bool) -> None:
        """Store one; see the port."""

        def change(session: Session) -> None:
            stored = _read(session, ClientRow, client.id, client_of)
            _check_credential(session, "client", client, stored, new=new)
            session.merge(ClientRow(**values_of(replace(client, revoked_us=_earlier(stored, client)))))

        self._primary.write(change, act)

    def judged(self) -> Judged:
        """Return what events are judged by."""
        return self._primary.current(
            lambda session: Judged(
                _revision(session),
                [tenant_of(row) for row in _all(session, TenantRow)],
                [publication_of(row) for row in _all(session, PublicationRow)],
            )
        )

    def publications(self) -> list[Publication]:
        """Return every published schema version, by type and version."""
        return self._list(lambda session: [publication_of(row) for row in _all(session, PublicationRow)])

    def publish(self, publication: Publication, act: Act, *, seen: int | None = None) -> None:
        """Store one; see the port."""
        name = (publication.event_type, publication.version)

        def change(session: Session) -> bool:
            if seen is not None and _revision(session) != seen + 1:  # it counts this write already
                raise Overtaken("the control store was changed meanwhile by somebody else: try again")
            stored = _read(session, PublicationRow, name, publication_of)
            if stored is not None and stored.document != publication.document:
                raise ConfigProblem(
                    f"schema {name[0]}/{name[1]} is published with another document, and a published version stays as it "
                    f"is: publish version {name[1] + 1}"
                )
            if stored is None:
                session.add(PublicationRow(**values_of(publication)))
            return stored is None

        self._primary.write(change, act)

    def note(self, act: Act) -> None:
        """Store the act of a change elsewhere; see the port."""
        self._primary.write(lambda _session: None, act, counts=False)

    def acts(self, subject: str | None = None, limit: int = 100) -> list[Act]:
        """Return acts, newest first."""

        def ask(session: Session) -> list[Act]:
            wanted = select(ActRow).order_by(ActRow.id.desc()).limit(limit)
            if subject is not None:
                wanted = wanted.where(ActRow.subject == subject)
            return [act_of(row) for row in session.scalars(wanted)]

        return self._list(ask, _last_act)

    def revision(self) -> int:
        """Return the number of writes so far, by the primary."""
        return self._primary.current(_revision)

    def close(self) -> None:
        """Close all connections; the next call opens new ones."""
        self._primary.close()
        if self._replica is not None:
            self._replica.close()

    def _list(self, ask: Callable[[Session], T], newest: Callable[[Session], int] | None = None) -> T:
        """Return what a copy has, if it is as new as the primary by a number of writes, `newest`; else what the primary has."""
        count = newest or _revision
        if self._replica is None:
            return self._primary.read(ask)
        try:
            number = self._primary.current(count)
        except Transient:
            return self._replica.read(ask)
        with suppress(Transient):
            there, found = self._replica.read(lambda session: (count(session), ask(session)))
            if there >= number:
                return found
        return self._primary.read(ask)


def _revision(session: Session) -> int:
    return session.scalars(select(RevisionRow.number)).one()


def _last_act(session: Session) -> int:
    return session.scalar(select(func.max(ActRow.id))) or 0


def _read(session: Session, table: type[R], name: Any, value_of: Callable[[R], T]) -> T | None:
    row = session.get(table, name)
    return None if row is None else value_of(row)


def _all(session: Session, table: type[R]) -> list[R]:
    """Return all rows in the order of their primary key: names."""
    return list(session.scalars(select(table).order_by(*inspect(table).primary_key)))


def _newest(session: Session, table: type[C], tenant: str | None) -> list[C]:
    wanted = select(table).order_by(table.created_us.desc(), table.id)
    return list(session.scalars(wanted if tenant is None else wanted.where(table.tenant == tenant)))


def _check_tenant(tenant: Tenant, stored: Tenant | None, *, new: bool, was: Tenant | None) -> None:
    if new and stored is not None:
        raise ConfigProblem(f"tenant {tenant.name} exists already: `headrace tenants show {tenant.name}`")
    if not new and stored is None:
        raise NotFound(f"no tenant {tenant.name!r}: `headrace tenants add {tenant.name}` adds it")
    if was is not None and stored != was:
        raise ConfigProblem(
            f"tenant {tenant.name} was changed meanwhile by somebody else: look, and try again"
        )


def _check_credential(
    session: Session, kind: str, one: ApiKey | Client, stored: ApiKey | Client | None, *, new: bool
) -> None:
    if new and stored is not None:
        raise ConfigProblem(f"{kind} {one.id} exists already: `headrace {kind}s show {one.id}`")
    if not new and stored is None:
        raise NotFound(f"no {kind} {one.id!r}: `headrace {kind}s list` shows all")
    if session.get(TenantRow, one.tenant) is None:
        raise NotFound(f"no tenant {one.tenant!r}: `headrace tenants add {one.tenant}` adds it")


def _earlier(stored: ApiKey | Client | None, one: ApiKey | Client) -> int | None:
    """Return the earlier revocation: nobody takes one back, or puts it off."""
    known = [other.revoked_us for other in (stored, one) if other is not None]
    return min((at_us for at_us in known if at_us is not None), default=None)
