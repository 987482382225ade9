"""Leases of tokens: what a process takes from a shared account at once, to spend it without asking again.

One account holds a few buckets and perhaps a month's quota; a lease takes from all of them or from none. Everything that
is decided about limits is decided here; the store applies a `Change`. Most changes are differences: as long as no bucket
became full since its level was stored, leases of several processes can be taken from it in any order, and none is
refused because another one came between. Where a bucket was full, or a month or other terms began, the account is
stored anew, if it is still what was read.

What is promised, whatever the processes do:
* tokens that may be used at t, counted since the account began, are never more than holds + rate x t;
* requests leased in a month are never more than its quota;
* a process holds at most one lease unused, and one that lies ahead.

Time. Each process brings its own wall clock; an account's time is the latest that any of them brought, and never runs
backwards. A clock that is ahead by d gives rate x d tokens earlier, once; one that is behind catches up (`ahead_us`).
"""

from dataclasses import dataclass
from typing import NamedTuple

import msgspec

from pipeline.core.bucket import MICROSECONDS, Bucket
from pipeline.core.quota import month_ends_us, month_of

# Of the rate: ten writes a second at most, and what four processes hold is below 5 % of ten seconds.
LEASE_MS = 110
LEASE_SHARE = 100  # or this part of what the bucket holds: a large burst that refills slowly
AHEAD_US = MICROSECONDS  # furthest that tokens are given out before they are there
# Tokens a second from which on they are promised ahead; of a slower bucket, a token promised to one misses another.
FAST = 10
QUOTA = -1  # stands where the number of a bucket would
KEPT_US = 86_400 * MICROSECONDS  # how long an account is stored after it became full again


@dataclass(frozen=True)
class Terms:
    """What an account allows. `quota` counts the first bucket's tokens by calendar month of UTC; None: no quota."""

    buckets: tuple[Bucket, ...]
    quota: int | None = None


class Account(msgspec.Struct, frozen=True):
    """What is stored of one account.

    Attributes:
        revision: another one after every write.
        at_us: when the account was stored anew.
        units: level that each bucket would have had then, had all that was taken since been taken then.
        tokens, seconds: of each bucket's terms; its units, and how it refills, follow from them.
        month, used: the newest month in which tokens were leased, and how many, unused leases included.
    """

    revision: str
    at_us: int
    units: tuple[int, ...]
    tokens: tuple[int, ...]
    seconds: tuple[int, ...]
    month: str = ""
    used: int = 0

    def full_us(self, terms: Terms) -> int:
        """Return when all buckets are full, and the account says no more than its absence."""
        levels = zip(terms.buckets, self.units, strict=True)
        return self.at_us + max((bucket.wait_us(units, bucket.holds) for bucket, units in levels), default=0)


class Change(NamedTuple):
    """What the store is to do.

    Attributes:
        before: the account as it was read; None: it was not stored.
        after: what it becomes; where the change is a difference, if nobody came between.
        least: for each bucket the units that must be there before; None: the account must be as it was read, whole.
        most_used: requests that may have been used before.
    """

    before: Account | None
    after: Account
    least: tuple[int, ...] | None = None
    most_used: int = 0

    def applied(self, stored: Account | None) -> Account | None:
        """Return what becomes of the account that is stored now; None: this change is not for it."""
        before, after = self.before, self.after
        if stored is not None and stored.revision == after.revision:
            return stored
        if before is None or stored is None or self.least is None:
            same = (stored.revision if stored else None) == (before.revision if before else None)
            return after if same else None
        if stored.at_us != before.at_us or stored.month != before.month or stored.used > self.most_used:
            return None
        if any(
            not low <= one <= high
            for low, one, high in zip(self.least, stored.units, before.units, strict=True)
        ):
            return None
        spent = (one - left for one, left in zip(before.units, after.units, strict=True))
        return msgspec.structs.replace(
            stored,
            revision=after.revision,
            units=tuple(one - cost for one, cost in zip(stored.units, spent, strict=True)),
            used=stored.used + after.used - before.used,
        )


class Leased(NamedTuple):
    """Tokens are to be taken: apply `change`, and only then use them, from `valid_from_us` on."""

    change: Change
    tokens: tuple[int, ...]

    def valid_from_us(self, terms: Terms, stored: Account, now_us: int) -> int:
        """Return from when on the tokens may be used, in the account's time; `stored` is what the change made."""
        found = current(terms, stored, now_us)
        waits = [
            bucket.wait_us(units, 0)
            for bucket, units, amount in zip(terms.buckets, found.units, self.tokens, strict=True)
            if amount
        ]
        return found.at_us + max(waits, default=0)


class Refused(NamedTuple):
    """Nothing can be taken.

    Attributes:
        which: number of the bucket that is short, or `QUOTA`.
        until_us: when it is worth asking again, in the account's time; None: never, the need is larger than the bucket.
        free_us: when the need could be met; None: never.
    """

    which: int
    until_us: int | None
    free_us: int | None


def lease_size(bucket: Bucket) -> int:
    """Return how many tokens a process takes at once."""
    by_rate = bucket.tokens * LEASE_MS // (1000 * bucket.seconds)
    return max(1, min(bucket.holds, max(by_rate, bucket.holds // LEASE_SHARE)))


def ahead_us(account: Account | None, now_us: int) -> int:
    """Return by how much an account's time is ahead of a clock: what is to be added to it from now on."""
    return max(0, account.at_us - now_us) if account else 0


def current(terms: Terms, account: Account | None, now_us: int) -> Account:
    """Return an account as it is now; one that is not stored, or has other buckets, is full.

    A month that began since begins with nothing used; one that a faster clock began stays.
    """
    month, buckets = month_of(now_us), terms.buckets
    rates = tuple(bucket.tokens for bucket in buckets), tuple(bucket.seconds for bucket in buckets)
    if account is None:
        return Account("", now_us, tuple(bucket.full_units for bucket in buckets), *rates, month)
    units = tuple(bucket.full_units for bucket in buckets)
    if len(account.units) == len(buckets):
        levels = zip(buckets, account.units, account.tokens, account.seconds, strict=True)
        elapsed_us = max(0, now_us - account.at_us)
        units = tuple(
            bucket.rescaled(stored + tokens * elapsed_us, seconds)
            for bucket, stored, tokens, seconds in levels
        )
    return Account(
        account.revision,
        max(now_us, account.at_us),
        units,
        *rates,
        max(month, account.month),
        0 if month > account.month else account.used,
    )


def lease(
    terms: Terms,
    account: Account | None,
    now_us: int,
    needs: tuple[int, ...],
    wants: tuple[int, ...],
    revision: str,
    owed: int = 0,
) -> Leased | Refused:
    """Take tokens from an account.

    Args:
        terms: of the account.
        account: as it was read; None: it is not stored.
        now_us: this process' wall clock.
        needs: tokens without which nothing is taken, for each bucket.
        wants: tokens that are taken if they are there, or soon; not less than needed.
        revision: of the account after it.
        owed: requests that were let through without a lease; the quota pays for them.
    """
    found = current(terms, account, now_us)
    if terms.quota is not None:
        left = terms.quota - found.used - owed
        if left < needs[0]:
            end_us = month_ends_us(found.month)
            return Refused(QUOTA, end_us, end_us)
        wants = (max(0, min(wants[0], left)), *wants[1:])
    amounts = []
    for number, bucket in enumerate(terms.buckets):
        taken = _from(bucket, number, found, needs[number], wants[number])
        if isinstance(taken, Refused):
            return taken
        amounts.append(taken)
    return Leased(_change(terms, account, found, tuple(amounts), revision, owed), tuple(amounts))


def pay(terms: Terms, account: Account | None, now_us: int, owed: int, revision: str) -> Change | None:
    """Return the change by which the quota pays for requests that were let through without a lease, as far as it reaches.

    None: nothing of it is left.
    """
    found = current(terms, account, now_us)
    paid = min(owed, (terms.quota or 0) - found.used)
    return _change(terms, account, found, (0,) * len(terms.buckets), revision, paid) if paid > 0 else None


def _change(
    terms: Terms, account: Account | None, found: Account, amounts: tuple[int, ...], revision: str, owed: int
) -> Change:
    """Return the difference, where leases of several processes may come in any order; else the account anew."""
    quota = terms.quota is not None
    paid = owed + amounts[0] if quota else 0
    costs = [amount * bucket.token_units for bucket, amount in zip(terms.buckets, amounts, strict=True)]
    if account is None or not _continues(terms, account, found, amounts):
        units = tuple(units - cost for units, cost in zip(found.units, costs, strict=True))
        return Change(
            account,
            Account(
                revision, found.at_us, units, found.tokens, found.seconds, found.month, found.used + paid
            ),
        )
    least = tuple(
        then - (bucket.tokens * AHEAD_US if _is_fast(bucket) else max(0, units - cost))
        for bucket, then, units, cost in zip(terms.buckets, account.units, found.units, costs, strict=True)
    )
    after = msgspec.structs.replace(
        account,
        revision=revision,
        units=tuple(units - cost for units, cost in zip(account.units, costs, strict=True)),
        used=account.used + paid,
    )
    return Change(account, after, least, terms.quota - paid if terms.quota is not None else account.used)


def _continues(terms: Terms, account: Account, found: Account, amounts: tuple[int, ...]) -> bool:
    """True when an account's stored levels still say all: no month or other terms began, and no bucket became full.

    One that nothing is taken from may be full: its old level still says so.
    """
    if (account.tokens, account.seconds, account.month) != (found.tokens, found.seconds, found.month):
        return False
    levels = zip(terms.buckets, found.units, amounts, strict=True)
    return all(units < bucket.full_units or not amount for bucket, units, amount in levels)


def _from(bucket: Bucket, number: int, found: Account, need: int, want: int) -> int | Refused:
    """Return how many tokens of one bucket are taken; or why none."""
    units = found.units[number]
    there = bucket.there(units)
    if there >= need and (2 * there >= want or not _is_fast(bucket)):
        return min(there, want)
    if need > bucket.holds:
        return Refused(number, None, None)
    if _is_fast(bucket):
        if bucket.wait_us(units, want) <= AHEAD_US:
            return want
        if there >= need or (need >= lease_size(bucket) and bucket.wait_us(units, need) <= AHEAD_US):
            return need
    free_us = found.at_us + bucket.wait_us(units, need)
    return Refused(number, max(found.at_us, free_us - AHEAD_US * _is_fast(bucket)), free_us)


def _is_fast(bucket: Bucket) -> bool:
    return bucket.tokens >= FAST * bucket.seconds


def give_back(
    terms: Terms, account: Account, now_us: int, tokens: tuple[int, ...], month: str, revision: str
) -> Change:
    """Return the change by which unused tokens come back; those of an earlier month's quota do not."""
    found = current(terms, account, now_us)
    units = tuple(
        min(bucket.full_units, units + amount * bucket.token_units)
        for bucket, units, amount in zip(terms.buckets, found.units, tokens, strict=True)
    )
    back = tokens[0] if month == found.month else 0
    used = max(0, found.used - back)
    return Change(
        account, Account(revision, found.at_us, units, found.tokens, found.seconds, found.month, used)
    )
