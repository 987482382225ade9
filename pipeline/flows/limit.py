"""The limits of plans: requests, events and bytes of each tenant and credential, and the month's quota.

A request is taken when it arrives, with the event that it brings at least and the bytes of its body, as far as it says how
many they are; further events once they are judged. What turns out to be more, such as an inflated body, is charged afterwards. One lease holds all of them.
"""

from concurrent.futures import Future
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

import msgspec

from pipeline.core.bucket import MICROSECONDS, Bucket
from pipeline.core.caller import Caller
from pipeline.core.decision import Decision, Share, Which, share_fields
from pipeline.core.lease import QUOTA, Terms
from pipeline.core.plan import Plan
from pipeline.core.quota import month_ends_us, month_span
from pipeline.flows.held import STORE, Held, Taken
from pipeline.flows.leases import Leases, Submit
from pipeline.ports.clock import Clock
from pipeline.ports.limits import AccountKey

NAMES: tuple[Which, ...] = ("requests", "events", "bytes")
_NOBODY = AccountKey("-", "ready")  # no tenant has this name
BURST_SECONDS = 2  # of a credential's own rate
# A hundredth of what is left goes by, or so many seconds, before a caller is told anew what that is.
_SAME_FOR, _SAME_SECONDS = 100, 0.05
_MOST_ACCOUNTS = 10_000  # whose terms are at hand
_SPENT, _SPENT_LOW = Decision(True, 0, 0, 0), Decision(True, 0, 0, 0, low=True)


@dataclass(frozen=True)
class Usage:
    """What a tenant has used.

    Attributes:
        plan: its plan.
        month: calendar month of UTC, as `2026-11`.
        used: requests of this month, those that processes hold in leases included.
        left: requests of this month that are left.
        resets_at_us: when the next month begins.
        now: the plan's buckets, and what is left in them, what this process holds of them included.
    """

    plan: Plan
    month: str
    used: int
    left: int
    resets_at_us: int
    now: tuple[Share, ...]


class Limiter:
    """Takes from plans; one for a process.

    Args:
        leases: of this process.
        clock: wall clock and monotonic.
        largest_body_bytes: a bucket of bytes holds one second of them, or one body of this size.
    """

    def __init__(self, leases: Leases, clock: Clock, largest_body_bytes: int) -> None:
        self._leases, self._clock = leases, clock
        self._plan_terms = lru_cache(1_024)(lambda plan: plan_terms(plan, largest_body_bytes))
        self._accounts: dict[str, _Account] = {}  # by tenant

    def take(
        self, caller: Caller, requests: int = 1, events: int = 0, size_bytes: int = 0
    ) -> Decision | None:
        """Take from a caller's plan; no I/O.

        Returns:
            None when `renewal` must be waited for first; then call again.
        """
        own = requests > 0 and caller.requests_per_second is not None
        if own:
            taken = self._leases.take(credential_key(caller), credential_terms(caller), (requests,))
            if taken is None:
                return None
            if not taken.allowed:
                return self._decision(caller, taken, "" if taken.which == STORE else "credential")
        account = self._account(caller)
        found = self._leases.take(account.key, account.terms, (requests, events, size_bytes))
        if own and (found is None or not found.allowed):
            self._leases.put_back(credential_key(caller), (requests,))
        if found is None or not found.allowed:
            return None if found is None else self._decision(caller, found)
        now = self._clock.monotonic()
        told = account.told
        if told is None or found.low or not account.reuse or now >= account.until:
            told = self._tell(caller, account, now, low=found.low)
        else:
            account.reuse -= 1
        return self._with_own(caller, told) if own else told

    def _tell(self, caller: Caller, account: "_Account", now: float, *, low: bool) -> Decision:
        """Return what is left of a plan after a take; for a moment others of its callers are told the same, if it is much."""
        shares = self._shown(caller, 0)
        first = shares[0]
        told = Decision(
            True, first.limit, first.remaining, first.reset_seconds, 0, "", shares, low, share_fields(shares)
        )
        account.told = None if low else told
        account.reuse = min(one.remaining for one in shares) // _SAME_FOR
        account.until = now + _SAME_SECONDS
        return told

    def spend(self, caller: Caller, events: int, size_bytes: int) -> Decision | None:
        """Take what a request brings: like `take` without a request, and without shares when allowed."""
        account = self._account(caller)
        found = self._leases.take(account.key, account.terms, (0, events, size_bytes))
        if found is None:
            return None
        if found.allowed:
            return _SPENT_LOW if found.low else _SPENT
        return self._decision(caller, found)

    def settle(self, caller: Caller, paid_bytes: int, read_bytes: int) -> None:
        """Charge what was read of a body above what was taken for it before, or put back what was not read; no I/O.

        More may be charged than is there: then bytes are refused until that is paid.
        """
        account = self._account(caller)
        if read_bytes > paid_bytes:
            self._leases.charge(account.key, account.terms, (0, 0, read_bytes - paid_bytes))
        elif read_bytes < paid_bytes:
            self._leases.put_back(account.key, (0, 0, paid_bytes - read_bytes))

    def renewal(
        self, caller: Caller, requests: int, events: int, size_bytes: int, submit: Submit
    ) -> Future[None]:
        """Return the renewal that `take` waits for: of the credential's lease if that is short, else of the plan's.

        It is under way once for a tenant, whoever waits. `submit` runs it in a thread.
        """
        if requests and caller.requests_per_second is not None:
            key, terms = credential_key(caller), credential_terms(caller)
            taken = self._leases.take(key, terms, (requests,))
            if taken is None:
                return self._leases.renewal(key, terms, (requests,), submit)
            if taken.allowed:
                self._leases.put_back(key, (requests,))
        needs = (requests, events, size_bytes)
        return self._leases.renewal(plan_key(caller), self._terms(caller), needs, submit)

    def renew(self, caller: Caller, requests: int = 1, events: int = 0, size_bytes: int = 0) -> None:
        """Renew in this thread; for whoever has no event loop."""
        self.renewal(caller, requests, events, size_bytes, lambda work, *given: work(*given)).result()

    def usage(self, caller: Caller) -> Usage:
        """Return what a caller's tenant has used; asks the store, so call it in a thread.

        Raises:
            Transient, OutcomeUnknown: the store does not answer.
        """
        key, terms = plan_key(caller), self._terms(caller)
        account = self._leases.stored(key, terms)
        nothing = "", (0,) * len(terms.buckets)
        month, leased = self._leases.look(key, lambda held, _now: (held.month, tuple(held.left))) or nothing
        used = max(0, account.used - (leased[0] if month == account.month else 0))
        remaining = (
            max(0, min(bucket.holds, bucket.there(units) + left))
            for bucket, units, left in zip(terms.buckets, account.units, leased, strict=True)
        )
        return Usage(
            plan=caller.plan,
            month=account.month,
            used=used,
            left=max(0, caller.plan.requests_per_month - used),
            resets_at_us=month_ends_us(account.month),
            now=tuple(
                _share(name, bucket, have)
                for name, bucket, have in zip(NAMES, terms.buckets, remaining, strict=True)
            ),
        )

    def ask(self) -> None:
        """Ask the store for nothing.

        Raises:
            Transient, OutcomeUnknown: it does not answer.
        """
        self._leases.ask(_NOBODY)

    def ask_time(self) -> None:
        """Ask the store for its time.

        Raises:
            Transient, OutcomeUnknown: this machine's clock is too far from it, or it does not answer.
        """
        self._leases.ask_time(_NOBODY)

    def close(self) -> None:
        """Give back what is left."""
        self._leases.close()

    def _terms(self, caller: Caller) -> Terms:
        return self._account(caller).terms

    def _account(self, caller: Caller) -> "_Account":
        """Return what is known of a caller's plan, by tenant: to hash a plan costs as much as to take from it."""
        known = self._accounts.get(caller.tenant_id)
        if known is None or known.plan is not caller.plan:
            if len(self._accounts) >= _MOST_ACCOUNTS:
                self._accounts.clear()
            terms = self._plan_terms(caller.plan)
            known = self._accounts[caller.tenant_id] = _Account(caller.plan, plan_key(caller), terms)
        return known

    def _decision(self, caller: Caller, taken: Taken, own: Which = "") -> Decision:
        """Return what the caller is told: of the bucket that is short, else of requests; and of the month."""
        if own:
            (mine,) = self._own(caller)
            return refused(taken, own, mine, (*self._looked(caller, 0), mine))
        which: Which = "month" if taken.which == QUOTA else "store"
        if taken.which >= 0:
            which = NAMES[taken.which]
        shown = self._shown(caller, max(0, taken.which))
        decided = shown[-1] if which == "month" else shown[0]
        return refused(taken, which, decided, () if which == "store" else (*shown, *self._own(caller)))

    def _with_own(self, caller: Caller, told: Decision) -> Decision:
        """Return what is told of a plan with what is left of the credential's own limit."""
        return msgspec.structs.replace(told, shares=(*told.shares, *self._own(caller)), fields=None)

    def _own(self, caller: Caller) -> tuple[Share, ...]:
        """Return what a caller is told of its credential's own limit; nothing where it has none."""
        if caller.requests_per_second is None:
            return ()
        left = self._leases.look(credential_key(caller), lambda held, now: held.remaining(0, now))
        return (_share("credential", credential_terms(caller).buckets[0], left or 0),)

    def _shown(self, caller: Caller, number: int) -> tuple[Share, ...]:
        """Return what a caller is told: of one bucket of its plan, and of the month."""
        return self._looked(caller, number) or (_share("requests", self._terms(caller).buckets[0], 0),)

    def _looked(self, caller: Caller, number: int) -> tuple[Share, ...]:
        """Return the same; nothing while this process holds nothing of the plan."""
        shares: tuple[Share, ...] | None = self._leases.look(
            plan_key(caller), lambda held, now: self._shares(caller, held, now, number)
        )
        return shares or ()

    def _shares(self, caller: Caller, held: Held, now: float, number: int) -> tuple[Share, Share]:
        bucket = held.terms.buckets[number]
        first = _share(NAMES[number], bucket, held.remaining(number, now))
        return first, self._month(caller, held.month, held.month_left())

    def _month(self, caller: Caller, month: str, left: int) -> Share:
        if not month:
            return Share("month", caller.plan.requests_per_month, 0, left, 0)
        ends_us, window_seconds = month_span(month)
        reset_seconds = max(0, (ends_us - self._clock.now_us()) // MICROSECONDS)
        return Share("month", caller.plan.requests_per_month, window_seconds, left, reset_seconds)


class _Account:
    """What is at hand of one tenant's plan.

    Attributes:
        plan, key, terms: what it is, where it is counted, and what it allows.
        told: what a caller was told last; `reuse` more are told the same, up to `until` of the monotonic clock.
    """

    __slots__ = ("key", "plan", "reuse", "terms", "told", "until")

    def __init__(self, plan: Plan, key: AccountKey, terms: Terms) -> None:
        self.plan, self.key, self.terms = plan, key, terms
        self.told: Decision | None = None
        self.reuse, self.until = 0, 0.0


def refused(taken: Taken, which: Which, of: Share, shares: tuple[Share, ...]) -> Decision:
    """Return a refusal: the next whole second in which the same may be met; None where it never can."""
    wait = taken.wait_seconds
    retry = None if wait is None else max(1, ceil(wait))
    return Decision(False, of.limit, of.remaining, of.reset_seconds, retry, which, shares)


def plan_terms(plan: Plan, largest_body_bytes: int) -> Terms:
    """Return what a plan's account allows."""
    return Terms(
        (
            Bucket(plan.requests_per_second, 1, plan.burst_requests),
            Bucket(plan.events_per_second, 1, max(plan.events_per_second, plan.max_batch_events)),
            Bucket(plan.bytes_per_second, 1, max(plan.bytes_per_second, largest_body_bytes)),
        ),
        plan.requests_per_month,
    )


def credential_terms(caller: Caller) -> Terms:
    """Return what the account of a credential with a limit of its own allows."""
    return _credential_terms(caller.requests_per_second or 1)


@lru_cache(1_024)
def _credential_terms(rate: int) -> Terms:
    return Terms((Bucket(rate, 1, BURST_SECONDS * rate),))


def plan_key(caller: Caller) -> AccountKey:
    """Return where a tenant's plan is counted."""
    return AccountKey(caller.tenant_id, "plan")


def credential_key(caller: Caller) -> AccountKey:
    """Return where a credential's own limit is counted."""
    return AccountKey(caller.tenant_id, f"credential#{caller.credential}")


def _share(name: str, bucket: Bucket, remaining: int) -> Share:
    window, reset = (
        -(-tokens * bucket.seconds // bucket.tokens) for tokens in (bucket.holds, bucket.holds - remaining)
    )
    return Share(name, bucket.holds, window, remaining, reset)
