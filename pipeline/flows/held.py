"""What one process holds of one account: tokens to spend without asking, and what it knows when there are none."""

import math
from concurrent.futures import Future
from typing import NamedTuple

from pipeline.core.bucket import MICROSECONDS, Bucket
from pipeline.core.lease import QUOTA, Account, Leased, Refused, Terms, current, lease_size
from pipeline.core.quota import month_ends_us

STORE = -2  # stands where the number of a bucket would: the store does not answer, and that closes
_DENIALS = 8  # kept of one account: callers may come under several terms at a time, as while a plan changes
QUOTA_ASKED_SECONDS = 60.0  # how long a used-up month is believed: others may give back what they did not use


class Taken(NamedTuple):
    """What became of one take.

    Attributes:
        allowed: the tokens are spent.
        which: number of the bucket that is short, `QUOTA` or `STORE`.
        wait_seconds: until the same could be met; None: never.
        low: little is left, a lease should be renewed beside the work.
    """

    allowed: bool
    which: int = 0
    wait_seconds: float | None = 0.0
    low: bool = False


_TAKEN, _TAKEN_LOW = Taken(True), Taken(True, low=True)


class _Denial(NamedTuple):
    terms: Terms
    which: int
    need: int
    until: float
    free_at: float | None


class Want(NamedTuple):
    """What a renewal is for, as tokens of each bucket.

    Attributes:
        terms: under which it is made.
        asked: what whoever waits needs.
        least: what it must bring, or it brings nothing: what is missing, and what is owed.
        most: what it should bring, so that the next requests need no renewal.
    """

    terms: Terms
    asked: tuple[int, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]


class Held:
    """Tokens of one account in this process. Not safe by itself: its owner has the lock. Times are monotonic seconds.

    Attributes:
        left: tokens that may be spent, for each bucket; below zero: used up without asking (`charge`), and owed.
        ahead_us: what is added to this process' wall clock to have the account's time.
        busy: a renewal that is under way.
        owed: requests let through while the store was down, which the quota has not paid yet (`owe`, `due`).
        local: the account that stands in for the stored one meanwhile.
    """

    __slots__ = (
        "_account",
        "_at",
        "_denials",
        "_later",
        "_later_at",
        "_low",
        "_month_ends",
        "_quiet_until",
        "ahead_us",
        "busy",
        "left",
        "local",
        "month",
        "owed",
        "owed_month",
        "terms",
        "used_at",
    )

    def __init__(self, terms: Terms, now: float) -> None:
        self.left, self.used_at, self.owed, self.ahead_us, self.month = (
            [0] * len(terms.buckets),
            now,
            0,
            0,
            "",
        )
        self.owed_month = ""
        self.busy: Future[None] | None = None
        self.local: Account | None = None
        self._account: Account | None = None
        self._at, self._later_at, self._quiet_until, self._month_ends = now, 0.0, 0.0, math.inf
        self._later: tuple[int, ...] | None = None
        self._denials: tuple[_Denial, ...] = ()  # the newest first, one of any terms
        self._set_terms(terms)

    def follow(self, terms: Terms) -> None:
        """Go on under terms of the same account, which may be others; what is left was taken under the old ones."""
        if terms is not self.terms and terms != self.terms:
            self._set_terms(terms)

    def _set_terms(self, terms: Terms) -> None:
        self.terms = terms
        self._low = tuple(lease_size(bucket) // 10 for bucket in terms.buckets)

    def take(self, needs: tuple[int, ...], now: float) -> Taken | None:
        """Spend tokens; None: only the store can tell."""
        if now >= self._month_ends or self._later is not None:
            self._come_of_age(now)
        left, low, is_low = self.left, self._low, False
        for number, need in enumerate(needs):
            if need > left[number] and need:  # who needs none does not wait for what is owed
                return self._denied(number, need, now)
        for number, need in enumerate(needs):
            left[number] -= need
            is_low = is_low or left[number] < low[number]
        self.used_at = now
        return _TAKEN_LOW if is_low and self.is_low(now) else _TAKEN

    def charge(self, tokens: tuple[int, ...]) -> None:
        """Spend what is gone already, whether or not it is there: whoever needs tokens of that bucket next, pays it first."""
        self.left = [have - spent for have, spent in zip(self.left, tokens, strict=True)]

    def owe(self, requests: int, month: str) -> None:
        """Note that the quota of a month is to pay for requests."""
        self.owed, self.owed_month = self.due(month) + requests, max(month, self.owed_month)

    def due(self, month: str) -> int:
        """Return what the quota of a month is to pay; what an earlier one did not pay is forgiven, as that month is over."""
        if month > self.owed_month:
            self.owed = 0
        return self.owed

    def is_low(self, now: float) -> bool:
        """True when so little is left that a lease should be renewed beside the work."""
        if self.busy is not None or self._later is not None or now < self._quiet_until:
            return False
        low = self._low
        for number, left in enumerate(self.left):  # noqa: SIM110 - any() costs twice this, for every request
            if left < low[number]:
                return True
        return False

    def _denied(self, number: int, need: int, now: float) -> Taken | None:
        later = self._later
        if later is not None and need <= self.left[number] + later[number]:
            return Taken(False, number, self._later_at - now)
        known = next((one for one in self._denials if one.terms == self.terms), None)
        if known is None or now >= known.until:
            return None
        if known.which in (QUOTA, STORE):
            if known.which == QUOTA and number != 0:
                return None
        elif known.which != number or need < known.need:
            return None
        return Taken(False, known.which, None if known.free_at is None else max(0.0, known.free_at - now))

    def _come_of_age(self, now: float) -> None:
        """Let tokens of the future become today's; drop those of a month that is over."""
        if now >= self._month_ends:
            self._later, self._month_ends = None, math.inf
            self.left = [min(0, have) for have in self.left]  # what is owed stays so
        if self._later is not None and now >= self._later_at:
            self.left = [have + more for have, more in zip(self.left, self._later, strict=True)]
            self._later = None

    def wants(self, asked: tuple[int, ...], now: float) -> Want | None:
        """Return what a renewal is to bring for somebody who asked for so much; None: nothing is missing any more."""
        self._come_of_age(now)
        coming = self._later or (0,) * len(self.left)
        have = [one + more for one, more in zip(self.left, coming, strict=True)]
        buckets = self.terms.buckets
        short = tuple(
            _short(bucket, need, one) for bucket, need, one in zip(buckets, asked, have, strict=True)
        )
        if not any(short) and (any(asked) or self._later is not None):
            return None
        sizes = [lease_size(bucket) for bucket in buckets]
        most = tuple(
            max(need, _owed(bucket, wanted, one), size if 2 * one < size else 0)
            for bucket, wanted, need, size, one in zip(buckets, asked, short, sizes, have, strict=True)
        )
        return Want(self.terms, asked, short, most) if any(most) else None

    def got(self, leased: Leased, stored: Account, at_us: int, now_us: int, now: float) -> None:
        """Keep what a renewal brought: `at_us` is the account's time, `now_us` this process' wall clock."""
        account = current(self.terms, stored, at_us)
        wait_us = leased.valid_from_us(self.terms, stored, at_us) - account.at_us
        self._account, self._at, self.month = account, now, account.month
        self._denials = self._denials_of_others()
        if self.terms.quota is not None:
            self._month_ends = now + (month_ends_us(account.month) - now_us) / MICROSECONDS
        if wait_us <= 0:
            self.left = [have + more for have, more in zip(self.left, leased.tokens, strict=True)]
        else:
            coming = self._later or (0,) * len(self.left)
            self._later = tuple(have + more for have, more in zip(coming, leased.tokens, strict=True))
            self._later_at = max(self._later_at if any(coming) else 0.0, now + wait_us / MICROSECONDS)

    def got_nothing(
        self, refused: Refused, need: int, at_us: int, now: float, there: Account | None = None
    ) -> None:
        """Remember that there are not so many tokens, and until when; `at_us` is the account's time of `now`, `there` what it has."""
        if there is not None:
            self._account, self._at = there, now
            if not self.left[0] and not (self._later and self._later[0]):
                self.month = there.month  # else it stays that of the requests that are held
        if refused.until_us is None or refused.free_us is None:
            self.deny(refused.which, need, now + 1.0, None, now)
            return
        until = now + max(0.001, (refused.until_us - at_us) / MICROSECONDS)
        if refused.which == QUOTA:
            until = min(until, now + QUOTA_ASKED_SECONDS)
        self.deny(refused.which, need, until, now + (refused.free_us - at_us) / MICROSECONDS, now)

    def deny(self, which: int, need: int, until: float, free_at: float | None, now: float) -> None:
        """Refuse without asking until a moment; a renewal beside the work waits for a while as well."""
        self._quiet_until = max(until, now + 0.1)
        if need or which < 0:
            denial = _Denial(self.terms, which, need, until, free_at)
            self._denials = (denial, *self._denials_of_others()[: _DENIALS - 1])

    def _denials_of_others(self) -> tuple[_Denial, ...]:
        return tuple(one for one in self._denials if one.terms != self.terms)

    def be_quiet(self, until: float) -> None:
        """Renew nothing beside the work until a moment."""
        self._quiet_until = until

    def saw(self, account: Account | None, now_us: int) -> None:
        """Catch up with an account whose time is ahead of this process' clock."""
        if account is not None:
            self.ahead_us = max(self.ahead_us, account.at_us - now_us)

    def surrender(self) -> tuple[int, ...]:
        """Return all that is left, tokens of the future included; from now on it is not held."""
        coming = self._later or (0,) * len(self.left)
        found = tuple(have + more for have, more in zip(self.left, coming, strict=True))
        self.left, self._later = [0] * len(self.left), None
        return found

    def remaining(self, number: int, now: float) -> int:
        """Return about how many tokens of a bucket this process could take."""
        if self._account is None:
            return self.left[number]
        account, elapsed_us = self._account, round((now - self._at) * MICROSECONDS)
        # As `current` has it, in half the time: by the account's own terms, which may be others by now.
        refilled = account.units[number] + account.tokens[number] * max(0, elapsed_us)
        have = self.left[number] + max(0, refilled // (account.seconds[number] * MICROSECONDS))
        return max(0, min(self.terms.buckets[number].holds, have))

    def denied_need(self, which: int, want: Want) -> int:
        """Return from which need on the bucket is denied that could not be renewed; of the quota, the first."""
        number = max(0, which)
        return (
            want.least[number] if self.left[number] >= 0 else want.asked[number]
        )  # `least` has what is owed in it

    def month_left(self) -> int:
        """Return what is left of the quota, as far as this process knows."""
        used = self._account.used if self._account else 0
        return max(0, (self.terms.quota or 0) - used + self.left[0])


def _short(bucket: Bucket, need: int, have: int) -> int:
    """Return what is missing for a need; of a debt at least one lease.

    Other processes take leases of that size: to whoever insists on more beside them, it never comes.
    """
    if not need:
        return 0
    return min(need - have, lease_size(bucket)) if have < 0 else max(0, need - have)


def _owed(bucket: Bucket, need: int, have: int) -> int:
    """Return what pays a debt, where a need waits for that: as much as a bucket holds, the rest later."""
    return min(need - have, bucket.holds) if need and have < 0 else 0
