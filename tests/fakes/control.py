"""The control store in memory."""

from collections.abc import Mapping
from dataclasses import replace

from pipeline.core.errors import ConfigProblem, NotFound, Transient
from pipeline.core.plan import DELIVERED, Plan
from pipeline.core.tenant import Act, ApiKey, Client, Publication, Tenant
from pipeline.ports.control import Credentials, Judged, Overtaken


class MemoryControl:
    """Dictionaries behind the port; `down` makes every call Transient."""

    def __init__(self) -> None:
        self.down = False
        self.calls: list[str] = []
        self._number = 0
        self._plans = {plan.name: plan for plan in DELIVERED}
        self._tenants: dict[str, Tenant] = {}
        self._keys: dict[str, ApiKey] = {}
        self._clients: dict[str, Client] = {}
        self._publications: dict[tuple[str, int], Publication] = {}
        self._acts: list[Act] = []

    def tenants(self) -> list[Tenant]:
        self._called("tenants")
        return sorted(self._tenants.values(), key=lambda one: one.name)

    def tenant(self, name: str) -> Tenant | None:
        self._called("tenant")
        return self._tenants.get(name)

    def put_tenant(self, tenant: Tenant, act: Act, *, new: bool, was: Tenant | None = None) -> None:
        self._called("put_tenant")
        stored = self._tenants.get(tenant.name)
        if not new and stored is None:
            raise NotFound(f"no tenant {tenant.name!r}")
        if (new and stored) or (was is not None and stored != was) or tenant.plan not in self._plans:
            raise ConfigProblem(f"tenant {tenant.name}")
        self._tenants[tenant.name] = tenant
        self._note(act)

    def plans(self) -> list[Plan]:
        self._called("plans")
        return sorted(self._plans.values(), key=lambda one: one.name)

    def plan(self, name: str) -> Plan | None:
        self._called("plan")
        return self._plans.get(name)

    def put_plan(self, plan: Plan, act: Act) -> None:
        self._called("put_plan")
        self._plans[plan.name] = plan
        self._note(act)

    def keys(self, tenant: str | None = None) -> list[ApiKey]:
        self._called("keys")
        found = [one for one in self._keys.values() if tenant in (None, one.tenant)]
        return sorted(found, key=lambda one: (-one.created_us, one.id))

    def key(self, key_id: str) -> ApiKey | None:
        self._called("key")
        return self._keys.get(key_id)

    def credentials(self) -> Credentials:
        self._called("credentials")
        keys = sorted(self._keys.values(), key=lambda one: (-one.created_us, one.id))
        clients = sorted(self._clients.values(), key=lambda one: (-one.created_us, one.id))
        tenants = sorted(self._tenants.values(), key=lambda one: one.name)
        return Credentials(tenants, sorted(self._plans.values(), key=lambda one: one.name), keys, clients)

    def put_key(self, key: ApiKey, act: Act, *, new: bool) -> None:
        self._called("put_key")
        stored = self._keys.get(key.id)
        self._check(stored, key, new=new)
        self._keys[key.id] = replace(key, revoked_us=_earlier(stored, key))
        self._note(act)

    def keys_used(self, used_us: Mapping[str, int]) -> None:
        self._called("keys_used")
        for key_id in used_us.keys() & self._keys.keys():
            one = self._keys[key_id]
            self._keys[key_id] = replace(one, last_used_us=max(one.last_used_us or 0, used_us[key_id]))

    def clients(self, tenant: str | None = None) -> list[Client]:
        self._called("clients")
        found = [one for one in self._clients.values() if tenant in (None, one.tenant)]
        return sorted(found, key=lambda one: (-one.created_us, one.id))

    def client(self, client_id: str) -> Client | None:
        self._called("client")
        return self._clients.get(client_id)

    def put_client(self, client: Client, act: Act, *, new: bool) -> None:
        self._called("put_client")
        stored = self._clients.get(client.id)
        self._check(stored, client, new=new)
        self._clients[client.id] = replace(client, revoked_us=_earlier(stored, client))
        self._note(act)

    def judged(self) -> Judged:
        self._called("judged")
        tenants = sorted(self._tenants.values(), key=lambda one: one.name)
        return Judged(
            self._number, tenants, [self._publications[name] for name in sorted(self._publications)]
        )

    def publications(self) -> list[Publication]:
        self._called("publications")
        return [self._publications[name] for name in sorted(self._publications)]

    def publish(self, publication: Publication, act: Act, *, seen: int | None = None) -> None:
        self._called("publish")
        if seen is not None and seen != self._number:
            raise Overtaken("the control store was changed meanwhile")
        name = (publication.event_type, publication.version)
        stored = self._publications.get(name)
        if stored is not None:
            if stored.document != publication.document:
                raise ConfigProblem(f"schema {name}")
            return
        self._publications[name] = publication
        self._note(act)

    def note(self, act: Act) -> None:
        self._called("note")
        self._acts.append(act)

    def acts(self, subject: str | None = None, limit: int = 100) -> list[Act]:
        self._called("acts")
        return [one for one in reversed(self._acts) if subject in (None, one.subject)][:limit]

    def close(self) -> None:
        self.calls.append("close")

    def revision(self) -> int:
        self._called("revision")
        return self._number

    def _called(self, name: str) -> None:
        self.calls.append(name)
        if self.down:
            raise Transient("control store: no connection; does its server run?")

    def _note(self, act: Act) -> None:
        self._acts.append(act)
        self._number += 1

    def _check(self, stored: ApiKey | Client | None, one: ApiKey | Client, *, new: bool) -> None:
        if new and stored is not None:
            raise ConfigProblem(f"{one.id} exists already")
        if (not new and stored is None) or one.tenant not in self._tenants:
            raise NotFound(f"{one.id} or its tenant")


def _earlier(stored: ApiKey | Client | None, one: ApiKey | Client) -> int | None:
    known = [other.revoked_us for other in (stored, one) if other is not None]
    return min((at_us for at_us in known if at_us is not None), default=None)
