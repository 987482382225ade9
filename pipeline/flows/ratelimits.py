"""The rate-limit service: buckets that callers name themselves, under limits of their own.

What is promised for a key, across all processes: checks that were allowed by t, counted since the key was first seen, are
never more than burst + tokens/seconds x t. In any window they may exceed that by what processes held of earlier leases:
at most one lease each, which is one token where the limit is below 20 a second and the burst below 200. A token that
one process holds may be missed by another until it is used, or given back after a minute.
"""

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from math import ceil
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.caller import Caller
from pipeline.core.errors import Corrupt
from pipeline.core.idempotency import LIFETIME_SECONDS
from pipeline.core.names import NAME
from pipeline.core.policy import MAX_TOKENS, Limit, Policy
from pipeline.core.tenant import Act
from pipeline.flows.held import STORE
from pipeline.flows.leases import Leases, Submit
from pipeline.ports.clock import Clock
from pipeline.ports.limits import AccountKey, Decided, Decisions, Policies

POLICY_SECONDS = 10.0  # after so long a changed policy holds in every process
_MAX_POLICIES = 10_000  # remembered in a process

Name = Annotated[str, Meta(pattern=rf"^{NAME.pattern}$(?!\n)")]  # `$` alone lets a line end follow


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One question: may this key have `cost` tokens, under `limit` or the named `policy`?"""

    namespace: Name
    key: Annotated[str, Meta(min_length=1, max_length=128)]
    cost: Annotated[int, Meta(ge=1, le=MAX_TOKENS)] = 1
    limit: Limit | None = None
    policy: Name | None = None


class Checked(msgspec.Struct, frozen=True):
    """The answer. `remaining` is about what is left over all processes; `retry_after_seconds` null: never."""

    allowed: bool
    limit: int
    remaining: int
    reset_seconds: int
    retry_after_seconds: int | None


@dataclass(frozen=True)
class LimitParts:
    """What the service is made of; nobody but `TenantRateLimits` is given it.

    Attributes:
        leases: of this process.
        policies: named limits.
        decisions: what was decided under idempotency keys.
        clock: wall clock and monotonic.
        known: policies as they were read, and when, by tenant and name.
    """

    leases: Leases
    policies: Policies
    decisions: Decisions
    clock: Clock
    known: dict[tuple[str, str], tuple[float, Policy | None]] = field(default_factory=dict)


class RateLimits:
    """The service of one process. `of` is the only way to what is stored; it takes a caller and nothing else that says whose."""

    def __init__(self, leases: Leases, policies: Policies, decisions: Decisions, clock: Clock) -> None:
        self._parts = LimitParts(leases, policies, decisions, clock)

    def of(self, caller: Caller) -> "TenantRateLimits":
        """Return the limits of a caller's tenant."""
        return TenantRateLimits(self._parts, caller)


class TenantRateLimits:
    """Answers the checks of one tenant, and keeps its policies; made for each request.

    No method takes a tenant. Safe from the process' event loop and its threads.
    """

    __slots__ = ("_credential", "_parts", "_tenant")

    def __init__(self, parts: LimitParts, caller: Caller) -> None:
        self._parts, self._tenant, self._credential = parts, caller.tenant_id, caller.credential

    def known_policy(self, name: str) -> tuple[Policy | None, bool]:
        """Return a policy as it was read some seconds ago, and whether it was; no I/O."""
        read_at, found = self._parts.known.get((self._tenant, name), (None, None))
        fresh = read_at is not None and self._parts.clock.monotonic() - read_at < POLICY_SECONDS
        return found, fresh

    def read_policy(self, name: str) -> Policy | None:
        """Read a policy and remember it for some seconds; asks the store."""
        found, known = self.policy(name), self._parts.known
        while len(known) >= _MAX_POLICIES:
            known.pop(next(iter(known)), None)
        known[self._tenant, name] = (self._parts.clock.monotonic(), found)
        return found

    def policy(self, name: str) -> Policy | None:
        """Return a policy as it is now; asks the store."""
        return self._parts.policies.get(self._tenant, name)

    def policies(self) -> Sequence[Policy]:
        """Return all policies, by name; asks the store."""
        return self._parts.policies.all(self._tenant)

    def differs(self, name: str, wanted: Policy | None) -> bool:
        """True when what is stored under a name is not what is wanted, None for nothing; asks the store."""
        try:
            return self.policy(name) != wanted
        except Corrupt:  # a damaged one is there, and may be replaced or removed
            return True

    def putting(self, policy: Policy) -> Act:
        """Return the act that storing a policy is; to be kept before that is done."""
        limit = policy.limit
        details = {"tokens": limit.tokens, "seconds": limit.seconds, "burst": limit.holds}
        return self._act("policy.put", policy.name, **details)

    def deleting(self, name: str) -> Act:
        """Return the act that removing a policy is; to be kept before that is done."""
        return self._act("policy.delete", name)

    def _act(self, action: str, name: str, **details: int) -> Act:
        now_us, subject = self._parts.clock.now_us(), f"policy:{self._tenant}/{name}"
        return Act(now_us, self._credential, action, subject, {"tenant": self._tenant, **details})

    def put_policy(self, policy: Policy) -> None:
        """Store a policy; asks the store."""
        self._parts.policies.put(self._tenant, policy)
        self._parts.known.pop((self._tenant, policy.name), None)

    def delete_policy(self, name: str) -> bool:
        """Remove a policy; False when there was none. Asks the store."""
        self._parts.known.pop((self._tenant, name), None)
        return self._parts.policies.delete(self._tenant, name)

    def take(self, check: Check, limit: Limit) -> Checked | None:
        """Answer a check; no I/O. None: `renewal` must be waited for first."""
        leases, key, terms = self._parts.leases, _key(self._tenant, check), limit.terms()
        taken = leases.take(key, terms, (check.cost,))
        if taken is None or (taken.which == STORE and not taken.allowed):
            return None if taken is None else Checked(False, limit.holds, 0, 1, 1)
        remaining = leases.look(key, lambda held, now: held.remaining(0, now)) or 0
        reset = ceil((limit.holds - remaining) * limit.seconds / limit.tokens)
        wait = None if taken.wait_seconds is None else ceil(taken.wait_seconds)
        if not taken.allowed and wait is not None:
            wait = max(1, wait)
        return Checked(taken.allowed, limit.holds, remaining, reset, wait)

    def renewal(self, check: Check, limit: Limit, submit: Submit) -> Future[None]:
        """Return the renewal that `take` waits for; under way once for a key."""
        return self._parts.leases.renewal(_key(self._tenant, check), limit.terms(), (check.cost,), submit)

    def decided(self, idempotency_key: str) -> Decided | None:
        """Return what was decided under an idempotency key; asks the store."""
        return self._parts.decisions.find(self._tenant, idempotency_key, self._parts.clock.now_us())

    def keep(
        self, idempotency_key: str, fingerprint: str, check: Check, found: Checked
    ) -> tuple[Decided, bool]:
        """Store a decision, or give its tokens back, where another request stored one first; return what is kept.

        And whether it is this one, for certain: then it is to be told on.
        """
        mine = Decided(fingerprint, msgspec.json.encode(found))
        now_us = self._parts.clock.now_us()
        expires_us = now_us + LIFETIME_SECONDS * 1_000_000
        kept = self._parts.decisions.keep(self._tenant, idempotency_key, mine, now_us, expires_us)
        if kept != mine and found.allowed:
            self._parts.leases.put_back(_key(self._tenant, check), (check.cost,))
        return kept, kept is mine


def _key(tenant: str, check: Check) -> AccountKey:
    return AccountKey(tenant, f"check#{check.namespace}#{check.key}")
