"""What administrators do: tenants, plans, keys, clients, schemas. Each act is stored with who did it, and when.

All checks of one's input are here, those against what is stored in the port; so the command line and the API refuse alike.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from pipeline.core.api_key import RANDOM_BYTES, NewKey, make_key
from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem, NotFound
from pipeline.core.names import is_name
from pipeline.core.plan import Plan
from pipeline.core.rules import Rules
from pipeline.core.tenant import Act, ApiKey, Client, Publication, Tenant, TenantState
from pipeline.flows.publish import PublishLimits, publish
from pipeline.ports.clock import Clock
from pipeline.ports.control import Control

MAX_LABEL_CHARACTERS = 200
MAX_OVERLAP_SECONDS = 90 * 86_400  # a rotation that takes longer than a quarter is none
_MOST = 10**12  # of any limit of a plan: far from what a 64-bit number holds
_CLIENT_ID = re.compile(r"[A-Za-z0-9_+-]{1,128}")  # as Cognito makes them


@dataclass(frozen=True)
class KeyTerms:
    """What a key is good for.

    Attributes:
        scopes: what it may do; at least one.
        label: for people: who uses it, and where.
        lifetime_seconds: from now; None: it does not expire.
        requests_per_second: a limit of its own, below the plan's; None: only the plan's.
    """

    scopes: frozenset[Scope]
    label: str = ""
    lifetime_seconds: int | None = None
    requests_per_second: int | None = None


class Admin:
    """The acts of one administrator.

    Args:
        control: the store.
        clock: when.
        actor: who, as the audit log will name them.
        randomness: gives so many bytes that nobody can guess.
        environment: word in the keys that are made.
    """

    def __init__(
        self,
        control: Control,
        clock: Clock,
        actor: str,
        randomness: Callable[[int], bytes],
        environment: str = "dev",
    ) -> None:
        self._control, self._clock, self._actor = control, clock, _label("who acts", actor)
        self._randomness, self._environment = randomness, environment

    # Tenants and plans -----------------------------------------------------------------------------------

    def add_tenant(self, name: str, plan: str) -> Tenant:
        """Add a tenant.

        Raises:
            ConfigProblem: the name is none, or taken, or there is no such plan.
        """
        if not is_name(name):
            raise ConfigProblem(f"tenant {name!r}: must match ^[a-z0-9][a-z0-9._-]{{0,62}}$")
        tenant = Tenant(name, plan, "active", self._clock.now_us())
        self._control.put_tenant(tenant, self._act("tenant.add", f"tenant:{name}", plan=plan), new=True)
        return tenant

    def take_in(self, names: Iterable[str], plan: str) -> list[str]:
        """Add those tenants that are not there yet, and return them: those of the setting `events.tenants`."""
        known = {tenant.name for tenant in self._control.tenants()}
        missing = sorted(set(names) - known)
        for name in missing:
            self.add_tenant(name, plan)
        return missing

    def set_state(self, name: str, state: TenantState) -> Tenant:
        """Suspend a tenant, or let it go on; nothing happens to one that is so already."""
        was = self.tenant(name)
        now = replace(was, state=state)
        if now != was:
            action = "tenant.suspend" if state == "suspended" else "tenant.resume"
            self._control.put_tenant(now, self._act(action, f"tenant:{name}"), new=False, was=was)
        return now

    def set_plan(self, name: str, plan: str) -> Tenant:
        """Give a tenant another plan."""
        was = self.tenant(name)
        now = replace(was, plan=plan)
        if now != was:
            act = self._act("tenant.plan", f"tenant:{name}", plan=plan, was=was.plan)
            self._control.put_tenant(now, act, new=False, was=was)
        return now

    def tenant(self, name: str) -> Tenant:
        """Return a tenant.

        Raises:
            NotFound: there is none of that name.
        """
        found = self._control.tenant(name)
        if found is None:
            raise NotFound(
                f"no tenant {name!r}: `headrace tenants list` shows all, `headrace tenants add` adds one"
            )
        return found

    def put_plan(self, plan: Plan) -> None:
        """Store a plan, new or changed; its tenants have it within a minute.

        Raises:
            ConfigProblem: its name is none, or a limit is out of range.
        """
        if not is_name(plan.name):
            raise ConfigProblem(f"plan {plan.name!r}: must match ^[a-z0-9][a-z0-9._-]{{0,62}}$")
        limits = {name: value for name, value in asdict(plan).items() if name != "name"}
        for name, value in limits.items():
            if not 1 <= value <= _MOST:
                raise ConfigProblem(f"plan {plan.name}: {name} = {value}: must be from 1 to {_MOST}")
        if plan.burst_requests < plan.requests_per_second:
            raise ConfigProblem(
                f"plan {plan.name}: burst_requests is {plan.burst_requests}, less than the {plan.requests_per_second} of a "
                "second: a client that keeps to its rate would be refused; raise it"
            )
        self._control.put_plan(plan, self._act("plan.put", f"plan:{plan.name}", **limits))

    # Keys ------------------------------------------------------------------------------------------------

    def create_key(self, tenant: str, terms: KeyTerms) -> tuple[NewKey, ApiKey]:
        """Make a key; its text is known now and never again.

        Raises:
            NotFound: there is no such tenant.
            ConfigProblem: the terms are wrong.
        """
        return self._new_key(tenant, terms, "key.create")

    def rotate_key(
        self, key_id: str, overlap_seconds: int, lifetime_seconds: int | None = None
    ) -> tuple[NewKey, ApiKey]:
        """Make a key in place of another, which goes on for `overlap_seconds`; the new one lives as long as the old one did.

        These are two writes: when the second fails, both keys are good, and this may be called again.

        Raises:
            NotFound: there is no such key.
            ConfigProblem: it is revoked or expired, or the overlap is out of range.
        """
        if not 0 <= overlap_seconds <= MAX_OVERLAP_SECONDS:
            raise ConfigProblem(f"an overlap is from 0 s to {MAX_OVERLAP_SECONDS // 86_400} days")
        old, now_us = self.key(key_id), self._clock.now_us()
        if state_of_key(old, now_us) in {"revoked", "expired"}:
            raise ConfigProblem(
                f"key {key_id} is {state_of_key(old, now_us)} already: `headrace keys create {old.tenant}`"
            )
        if lifetime_seconds is None and old.expires_us is not None:
            lifetime_seconds = (old.expires_us - old.created_us) // 1_000_000
        terms = KeyTerms(old.scopes, old.label, lifetime_seconds, old.requests_per_second)
        made, key = self._new_key(old.tenant, terms, "key.create", instead_of=key_id)
        until_us = now_us + overlap_seconds * 1_000_000
        act = self._act("key.rotate", f"key:{key_id}", tenant=old.tenant, next=key.id, good_until_us=until_us)
        self._control.put_key(replace(old, revoked_us=until_us), act, new=False)
        return made, key

    def revoke_key(self, key_id: str) -> ApiKey:
        """Revoke a key: it is refused everywhere within a minute. One that was revoked stays so."""
        old, now_us = self.key(key_id), self._clock.now_us()
        if old.revoked_us is not None and old.revoked_us <= now_us:
            return old
        revoked = replace(old, revoked_us=now_us)
        self._control.put_key(revoked, self._act("key.revoke", f"key:{key_id}", tenant=old.tenant), new=False)
        return revoked

    def key(self, key_id: str) -> ApiKey:
        """Return a key.

        Raises:
            NotFound: there is none of that id.
        """
        found = self._control.key(key_id)
        if found is None:
            raise NotFound(f"no key {key_id[:20]!r}: `headrace keys list` shows the ids, 16 letters each")
        return found

    def _new_key(self, tenant: str, terms: KeyTerms, action: str, **details: Any) -> tuple[NewKey, ApiKey]:
        _check(terms)
        made, now_us = make_key(self._environment, self._randomness(RANDOM_BYTES)), self._clock.now_us()
        lifetime = terms.lifetime_seconds
        key = ApiKey(
            id=made.id,
            tenant=tenant,
            label=_label("a label", terms.label),
            scopes=terms.scopes,
            secret_hash=made.secret_hash,
            created_us=now_us,
            expires_us=None if lifetime is None else now_us + lifetime * 1_000_000,
            requests_per_second=terms.requests_per_second,
        )
        details |= {"tenant": tenant, "label": key.label, "scopes": sorted(key.scopes)}
        details |= {"expires_us": key.expires_us, "requests_per_second": key.requests_per_second}
        self._control.put_key(key, self._act(action, f"key:{key.id}", **details), new=True)
        return made, key

    # Clients ---------------------------------------------------------------------------------------------

    def add_client(self, client_id: str, tenant: str, scopes: frozenset[Scope], label: str = "") -> Client:
        """Say whose an OAuth client of the user pool is.

        Raises:
            NotFound: there is no such tenant.
            ConfigProblem: the id is none or taken, or there is no scope.
        """
        if not _CLIENT_ID.fullmatch(client_id):
            raise ConfigProblem(f"client {client_id!r}: an id has 1 to 128 of A-Z a-z 0-9 _ + -")
        _check(KeyTerms(scopes))
        client = Client(client_id, tenant, _label("a label", label), scopes, self._clock.now_us())
        act = self._act(
            "client.add", f"client:{client_id}", tenant=tenant, label=label, scopes=sorted(scopes)
        )
        self._control.put_client(client, act, new=True)
        return client

    def revoke_client(self, client_id: str) -> Client:
        """Revoke a client: its tokens are refused everywhere within a minute."""
        old, now_us = self.client(client_id), self._clock.now_us()
        if old.revoked_us is not None:
            return old
        revoked = replace(old, revoked_us=now_us)
        act = self._act("client.revoke", f"client:{client_id}", tenant=old.tenant)
        self._control.put_client(revoked, act, new=False)
        return revoked

    def client(self, client_id: str) -> Client:
        """Return a client.

        Raises:
            NotFound: there is none of that id.
        """
        found = self._control.client(client_id)
        if found is None:
            raise NotFound(f"no client {client_id[:128]!r}: `headrace clients list` shows all")
        return found

    # Schemas ---------------------------------------------------------------------------------------------

    def publish(
        self,
        base: Rules,
        event_type: str,
        version: int,
        document: Mapping[str, Any],
        limits: PublishLimits | None = None,
    ) -> tuple[Publication | None, bool]:
        """Publish a schema version; it stays as it is for ever. A new type is the deployment's; another stays whose it is.

        Returns:
            It as it is stored, None where it is a schema file's; and whether it is new: the very same may be there already.

        Args:
            base: what settings and schema files say.
            event_type: its name.
            version: from 1 on.
            document: the JSON Schema of `data`.
            limits: how much may be published.

        Raises:
            ConfigProblem: a limit is reached, it is no schema, contradicts another version or another type's table, or that version exists.
        """
        wanted = Publication(event_type, version, document, self._actor, self._clock.now_us())
        act = self._act("schema.publish", f"schema:{event_type}/{version}")
        made = publish(self._control, base, wanted, act, limits)
        if made is not None:
            return made, True
        there = (
            one
            for one in self._control.publications()
            if (one.event_type, one.version) == (event_type, version)
        )
        return next(there, None), False

    def _act(self, action: str, subject: str, **details: Any) -> Act:
        return Act(self._clock.now_us(), self._actor, action, subject, details)


def state_of_key(key: ApiKey, now_us: int) -> str:
    """Return what a key is now: active, ending (revoked from some moment on), revoked, or expired."""
    if key.revoked_us is not None and key.revoked_us <= now_us:
        return "revoked"
    if key.expires_us is not None and key.expires_us <= now_us:
        return "expired"
    return "active" if key.revoked_us is None else "ending"


def _check(terms: KeyTerms) -> None:
    if not terms.scopes:
        raise ConfigProblem(f"no scope: give at least one of {', '.join(Scope)}")
    for name, value in (
        ("lifetime", terms.lifetime_seconds),
        ("requests_per_second", terms.requests_per_second),
    ):
        if value is not None and not 1 <= value <= _MOST:
            raise ConfigProblem(f"{name}: must be from 1 to {_MOST}")


def _label(what: str, text: str) -> str:
    if len(text) > MAX_LABEL_CHARACTERS or not text.isprintable():
        raise ConfigProblem(f"{what}: at most {MAX_LABEL_CHARACTERS} characters that can be printed")
    return text
