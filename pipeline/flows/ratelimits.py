"""The rate-limit service: buckets that callers name themselves, under limits of their own.

What is promised for a key, across all processes: checks that were allowed by t, counted since the key was first seen, are
never more than burst + tokens/seconds x t. In any window they may exceed that by what processes held of earlier leases:
at most one lease each, which is one token where the limit is below 20 a second and the burst below 200. A token that
one process holds may be missed by another until it is used, or given back after a minute.
"""

from concurrent.futures import Future
from math import ceil
from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.core.idempotency import LIFETIME_SECONDS
from pipeline.core.names import NAME
from pipeline.core.policy import MAX_TOKENS, Limit, Policy
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


class RateLimits:
    """Answers checks; one for a process, safe from its event loop and its threads.

    Args:
        leases: of this process.
        policies: named limits.
        decisions: what was decided under idempotency keys.
        clock: wall clock and monotonic.
    """

    def __init__(self, leases: Leases, policies: Policies, decisions: Decisions, clock: Clock) -> None:
        self.leases, self.policies, self._decisions, self._clock = leases, policies, decisions, clock
        self._known: dict[tuple[str, str], tuple[float, Policy | None]] = {}

    def known_policy(self, tenant: str, name: str) -> tuple[Policy | None, bool]:
        """Return a policy as it was read some seconds ago, and whether it was; no I/O."""
        read_at, found = self._known.get((tenant, name), (None, None))
        fresh = read_at is not None and self._clock.monotonic() - read_at < POLICY_SECONDS
        return found, fresh

    def read_policy(self, tenant: str, name: str) -> Policy | None:
        """Read a policy and remember it for some seconds; asks the store."""
        found = self.policies.get(tenant, name)
        while len(self._known) >= _MAX_POLICIES:
            self._known.pop(next(iter(self._known)), None)
        self._known[tenant, name] = (self._clock.monotonic(), found)
        return found

    def put_policy(self, tenant: str, policy: Policy) -> None:
        """Store a policy; asks the store."""
        self.policies.put(tenant, policy)
        self._known.pop((tenant, policy.name), None)

    def delete_policy(self, tenant: str, name: str) -> bool:
        """Remove a policy; False when there was none. Asks the store."""
        self._known.pop((tenant, name), None)
        return self.policies.delete(tenant, name)

    def take(self, tenant: str, check: Check, limit: Limit) -> Checked | None:
        """Answer a check; no I/O. None: `renewal` must be waited for first."""
        key, terms = _key(tenant, check), limit.terms()
        taken = self.leases.take(key, terms, (check.cost,))
        if taken is None or (taken.which == STORE and not taken.allowed):
            return None if taken is None else Checked(False, limit.holds, 0, 1, 1)
        remaining = self.leases.look(key, lambda held, now: held.remaining(0, now)) or 0
        reset = ceil((limit.holds - remaining) * limit.seconds / limit.tokens)
        wait = None if taken.wait_seconds is None else ceil(taken.wait_seconds)
        if not taken.allowed and wait is not None:
            wait = max(1, wait)
        return Checked(taken.allowed, limit.holds, remaining, reset, wait)

    def renewal(self, tenant: str, check: Check, limit: Limit, submit: Submit) -> Future[None]:
        """Return the renewal that `take` waits for; under way once for a key."""
        return self.leases.renewal(_key(tenant, check), limit.terms(), (check.cost,), submit)

    def decided(self, tenant: str, idempotency_key: str) -> Decided | None:
        """Return what was decided under an idempotency key; asks the store."""
        return self._decisions.find(tenant, idempotency_key, self._clock.now_us())

    def keep(
        self, tenant: str, idempotency_key: str, fingerprint: str, check: Check, found: Checked
    ) -> tuple[Decided, bool]:
        """Store a decision, or give its tokens back, where another request stored one first; return what is kept.

        And whether it is this one, for certain: then it is to be told on.
        """
        mine = Decided(fingerprint, msgspec.json.encode(found))
        now_us = self._clock.now_us()
        expires_us = now_us + LIFETIME_SECONDS * 1_000_000
        kept = self._decisions.keep(tenant, idempotency_key, mine, now_us, expires_us)
        if kept != mine and found.allowed:
            self.leases.put_back(_key(tenant, check), (check.cost,))
        return kept, kept is mine


def _key(tenant: str, check: Check) -> AccountKey:
    return AccountKey(tenant, f"check#{check.namespace}#{check.key}")
