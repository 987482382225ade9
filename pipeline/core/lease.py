"""Leases of tokens: what a process takes from a shared account at once, to spend it without asking again.

One account holds a few buckets and perhaps a month's quota; a lease takes from all of them or from none. An account is
changed by whole values (compare-and-set), so everything that is decided about limits is decided here.

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

LEASE_MS = (
    110  # of the rate: ten writes a second at most, and four processes hold less than 5 % of ten seconds
)
LEASE_SHARE = 100  # or this part of what the bucket holds: a large burst that refills slowly
AHEAD_US = MICROSECONDS  # furthest that tokens are given out before they are there
FAST = (
    10  # tokens a second from which on they are; of a slower bucket, a token promised to one misses another
)
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
        at_us: when the levels were so.
        units: level of each bucket; below zero, so much is promised.
        seconds: of each bucket's terms when it was stored; its units follow from it.
        month, used: the newest month in which tokens were leased, and how many, unused leases included.
    """

    revision: str
    at_us: int
    units: tuple[int, ...]
    seconds: tuple[int, ...]
    month: str = ""
    used: int = 0

    def full_us(self, terms: Terms) -> int:
        """Return when all buckets are full, and the account says no more than its absence."""
        waits = [bucket.wait_us(*one) for bucket, one in zip(terms.buckets, self._holds(terms), strict=True)]
        return self.at_us + max(waits, default=0)

    def _holds(self, terms: Terms) -> list[tuple[int, int]]:
        return [(units, bucket.holds) for bucket, units in zip(terms.buckets, self.units, strict=True)]


class Leased(NamedTuple):
    """Tokens were taken: store `account`, and only then use them, from `valid_from_us` of the account's time on."""

    account: Account
    tokens: tuple[int, ...]
    valid_from_us: int


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
    month = month_of(now_us)
    if account is None or len(account.units) != len(terms.buckets):
        used = account.used if account and account.month >= month else 0
        return Account(
            account.revision if account else "",
            now_us,
            tuple(bucket.full_units for bucket in terms.buckets),
            tuple(bucket.seconds for bucket in terms.buckets),
            max(month, account.month) if account else month,
            used,
        )
    elapsed = now_us - account.at_us
    return Account(
        account.revision,
        max(now_us, account.at_us),
        tuple(
            bucket.refilled(bucket.rescaled(units, seconds), elapsed)
            for bucket, units, seconds in zip(terms.buckets, account.units, account.seconds, strict=True)
        ),
        tuple(bucket.seconds for bucket in terms.buckets),
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
    amounts, valid_from_us = [], found.at_us
    for number, bucket in enumerate(terms.buckets):
        taken = _from(bucket, number, found, needs[number], wants[number])
        if isinstance(taken, Refused):
            return taken
        amounts.append(taken[0])
        valid_from_us = max(valid_from_us, taken[1])
    after = tuple(
        units - amount * bucket.token_units
        for bucket, units, amount in zip(terms.buckets, found.units, amounts, strict=True)
    )
    used = found.used + owed + amounts[0] if terms.quota is not None else 0
    return Leased(
        Account(revision, found.at_us, after, found.seconds, found.month, used), tuple(amounts), valid_from_us
    )


def _from(bucket: Bucket, number: int, found: Account, need: int, want: int) -> tuple[int, int] | Refused:
    """Return how many tokens of one bucket are taken, and from when on; or why none."""
    units = found.units[number]
    there = bucket.there(units)
    if there >= need and (2 * there >= want or not _is_fast(bucket)):
        return min(there, want), found.at_us
    if need > bucket.holds:
        return Refused(number, None, None)
    wait_us = bucket.wait_us(units, want)
    if _is_fast(bucket):
        if wait_us <= AHEAD_US:
            return want, found.at_us + wait_us
        if there >= need:
            return need, found.at_us
    free_us = found.at_us + bucket.wait_us(units, need)
    return Refused(number, max(found.at_us, free_us - AHEAD_US * _is_fast(bucket)), free_us)


def _is_fast(bucket: Bucket) -> bool:
    return bucket.tokens >= FAST * bucket.seconds


def give_back(
    terms: Terms, account: Account | None, now_us: int, tokens: tuple[int, ...], month: str, revision: str
) -> Account:
    """Return an account after unused tokens came back; those of an earlier month's quota do not."""
    found = current(terms, account, now_us)
    units = tuple(
        min(bucket.full_units, units + amount * bucket.token_units)
        for bucket, units, amount in zip(terms.buckets, found.units, tokens, strict=True)
    )
    back = tokens[0] if month == found.month else 0
    return Account(revision, found.at_us, units, found.seconds, found.month, max(0, found.used - back))
