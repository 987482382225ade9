"""Leases of many accounts in one process: spend in memory, renew in a thread, give back what was not used.

`take` does no I/O and is called for every request. When it returns None, a lease must be renewed: one renewal of an
account is under way at a time, whoever waits. A lease is stored before any of it is spent, so a crash leaves at most
what this process held unused.
"""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, Literal

from pipeline.core.errors import Corrupt, HeadraceError
from pipeline.core.lease import (
    KEPT_US,
    QUOTA,
    Account,
    Change,
    Refused,
    Terms,
    current,
    give_back,
    lease,
    pay,
)
from pipeline.facts import FactSink
from pipeline.flows.clocks import MAX_SKEW_SECONDS, Clocks, ClockWrong
from pipeline.flows.held import STORE, Held, Taken, Want
from pipeline.flows.outage import DOWN_SECONDS, Outage
from pipeline.ports.clock import Clock
from pipeline.ports.limits import AccountKey, LimitStore

MAX_ACCOUNTS = 100_000  # held at a time, about 600 bytes each
IDLE_SECONDS = 60.0  # unused for so long, a lease is given back
SWEEP_SECONDS = 10.0
_TRIES = 8  # against other processes that store the same account anew
_BUSY_SECONDS = 0.05  # denial of an account for which too many processes race

Submit = Callable[..., Any]  # as an executor's `submit`


class Leases:
    """All accounts of one process; safe from its event loop and its threads.

    Args:
        store: where accounts are.
        clock: wall clock for accounts, monotonic for everything in memory.
        facts: told when the store fails and when it answers again.
        store_down: what happens meanwhile: `open` spends from a bucket of this process' own, `closed` refuses.
        max_accounts: the least recently used ones above that are given back.
        max_skew_seconds: with a wall clock that is further from the store's no lease is taken or given back, whatever
            `store_down` says: it would begin the month, or refill the buckets, for all processes.
    """

    def __init__(
        self,
        store: LimitStore,
        clock: Clock,
        facts: FactSink,
        store_down: Literal["open", "closed"] = "open",
        max_accounts: int = MAX_ACCOUNTS,
        max_skew_seconds: float = MAX_SKEW_SECONDS,
    ) -> None:
        self._store, self._clock = store, clock
        self._store_down, self._max_accounts = store_down, max_accounts
        self._clocks = Clocks(clock, store.told_us, facts, max_skew_seconds)
        self._held: OrderedDict[AccountKey, Held] = OrderedDict()
        self._evicted: list[tuple[AccountKey, Held]] = []
        self._lock = threading.Lock()
        self._outage, self._swept_at = Outage(clock, facts, store_down), clock.monotonic()

    def __len__(self) -> int:
        return len(self._held)

    def take(self, key: AccountKey, terms: Terms, needs: tuple[int, ...]) -> Taken | None:
        """Spend tokens of every bucket, or of none; None: renew the lease, then try again."""
        now = self._clock.monotonic()
        with self._lock:
            held = self._held.get(key)
            if held is None:
                return None
            held.follow(terms)  # here, not by a renewal: callers under two terms would wait for each other's
            self._held.move_to_end(key)
            return held.take(needs, now)

    def put_back(self, key: AccountKey, tokens: tuple[int, ...]) -> None:
        """Return tokens that were taken a moment ago and not used."""
        with self._lock:
            held = self._held.get(key)
            if held is not None:
                held.left = [have + more for have, more in zip(held.left, tokens, strict=True)]

    def charge(self, key: AccountKey, terms: Terms, tokens: tuple[int, ...]) -> None:
        """Spend what is gone already, there or not: who needs tokens of that bucket next, waits until it is paid."""
        with self._lock:
            held = self._entry(key, terms)
            held.used_at = self._clock.monotonic()
            held.charge(tokens)

    def renewal(self, key: AccountKey, terms: Terms, needs: tuple[int, ...], submit: Submit) -> Future[None]:
        """Return the renewal of a lease that is under way; begin one through `submit` if there is none."""
        with self._lock:
            held = self._entry(key, terms)
            if held.busy is not None:
                return held.busy
            done: Future[None] = Future()
            done.set_running_or_notify_cancel()  # shared: one that stops waiting cancels nobody
            held.busy = done
        try:
            submit(self._run, key, held, terms, needs, done)
        except RuntimeError as exc:  # the executor is shut down
            held.busy = None
            done.set_exception(exc)
        if self._evicted or self._clock.monotonic() - self._swept_at > SWEEP_SECONDS:
            self._swept_at = self._clock.monotonic()
            with suppress(RuntimeError):  # shut down: whoever closes gives back what is left
                submit(self.sweep)
        return done

    def renew(self, key: AccountKey, terms: Terms, needs: tuple[int, ...]) -> None:
        """Renew a lease in this thread."""
        self.renewal(key, terms, needs, lambda work, *given: work(*given)).result()

    def look(self, key: AccountKey, see: Callable[[Held, float], Any]) -> Any:
        """Return what `see` finds in an account that is held; None: it is not held."""
        with self._lock:
            held = self._held.get(key)
            return None if held is None else see(held, self._clock.monotonic())

    def sweep(self) -> None:
        """Give back what was evicted, and leases that nobody used for a minute."""
        idle_before = self._clock.monotonic() - IDLE_SECONDS
        with self._lock:
            found, self._evicted = self._evicted, []
            for key, held in self._held.items():  # in the order of use
                if held.used_at >= idle_before:
                    break
                if held.busy is None and not held.owed:
                    found.append((key, held))
            for key, held in found:
                if (
                    self._held.get(key) is held
                ):  # else it was pushed out, and has come back with another lease
                    del self._held[key]
        for key, held in found:
            self._give_back(key, held)

    def close(self, seconds: float = 5.0) -> None:
        """Give back everything that is left; what that takes longer than `seconds` stays unused."""
        deadline = self._clock.monotonic() + seconds
        with self._lock:
            found = [*self._evicted, *self._held.items()]
            self._evicted, self._held = [], OrderedDict()
        for key, held in found:
            if self._clock.monotonic() >= deadline:
                return
            self._give_back(key, held)

    def _entry(self, key: AccountKey, terms: Terms) -> Held:
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held(terms, self._clock.monotonic())
            while len(self._held) > self._max_accounts:
                oldest, gone = self._held.popitem(last=False)
                if any(gone.left) and len(self._evicted) < self._max_accounts:
                    self._evicted.append((oldest, gone))
        else:
            held.follow(terms)
        return held

    def _run(
        self, key: AccountKey, held: Held, terms: Terms, needs: tuple[int, ...], done: Future[None]
    ) -> None:
        try:
            ask_later = self._renew(key, held, terms, needs)
        except BaseException as exc:
            held.busy = None
            done.set_exception(exc)
            raise
        held.busy = None
        done.set_result(None)
        if ask_later:
            self._ask_again(key)

    @contextmanager
    def _locked(self, held: Held, terms: Terms) -> Iterator[None]:
        """Have a lease to oneself, under the terms of the renewal: whoever took from it meanwhile may have others."""
        with self._lock:
            held.follow(terms)
            yield

    def _renew(self, key: AccountKey, held: Held, terms: Terms, needs: tuple[int, ...]) -> bool:
        """Renew; True: from this process' own bucket, and the store is to be asked whether it answers again."""
        with self._locked(held, terms):
            want = held.wants(needs, self._clock.monotonic())
        if want is None:
            return False
        if (now := self._clock.monotonic()) < self._outage.until:
            self._without_store(held, want, self._outage.until)
            return False
        if self._outage.is_on:  # one asks; nobody waits for a store that is known to be down
            self._outage.until = now + DOWN_SECONDS
            if self._store_down == "open":
                self._without_store(held, want, self._outage.until)
                return True
        try:
            if not self._from_store(key, held, want):
                now = self._clock.monotonic()
                with self._locked(held, terms):
                    held.deny(0, needs[0], now + _BUSY_SECONDS, now + _BUSY_SECONDS, now)
        except ClockWrong:  # told by `Clocks`
            until = self._clock.monotonic() + DOWN_SECONDS
            with self._locked(held, terms):
                held.deny(STORE, 0, until, until, until - DOWN_SECONDS)
        except Corrupt as exc:  # of this account alone: the others go on, by a store that has answered
            self._outage.answered()
            self._outage.damaged(exc)
            self._without_store(held, want, self._clock.monotonic() + DOWN_SECONDS)
        except HeadraceError as exc:
            self._outage.failed(exc)
            self._without_store(held, want, self._outage.until)
        else:
            self._outage.answered()
        return False

    def _ask_again(self, key: AccountKey) -> None:
        try:
            self._store.read(key)
        except Corrupt:  # an answer; whoever renews that account meets it
            self._outage.answered()
        except HeadraceError as exc:
            self._outage.failed(exc)
        else:
            self._outage.answered()

    def _from_store(self, key: AccountKey, held: Held, want: Want) -> bool:
        """Take a lease, or learn why there is none; False: others were always faster."""
        terms = want.terms
        for _ in range(_TRIES):
            account, now_us = self._clocks.timed(lambda: self._store.read(key))
            now = self._clock.monotonic()
            if account is not None:
                self._clocks.saw(key, account.at_us, now_us)
            held.saw(account, now_us)
            at_us = now_us + held.ahead_us
            there = current(terms, account, at_us)
            with self._locked(held, terms):
                owed = held.due(there.month)
            found = lease(terms, account, at_us, want.least, want.most, _revision(), owed)
            if isinstance(found, Refused):
                if owed and found.which == QUOTA:
                    paid = self._pay(key, held, terms, account, at_us, owed)
                    if paid is None:
                        continue
                    there = paid
                with self._locked(held, terms):
                    held.got_nothing(found, held.denied_need(found.which, want), at_us, now, there)
                return True
            if not any(found.tokens):
                held.be_quiet(now + DOWN_SECONDS)
                return True
            stored = self._write(key, terms, found.change)
            if stored is not None:
                with self._locked(held, terms):
                    held.got(found, stored, at_us, now_us, now)
                    held.owed, held.local = held.owed - owed, None
                return True
        return False

    def _pay(
        self, key: AccountKey, held: Held, terms: Terms, account: Account | None, at_us: int, owed: int
    ) -> Account | None:
        """Have the quota pay what it can of what is owed, though it is more than is left; return the account as it is then.

        None: others were faster.
        """
        change, before = pay(terms, account, at_us, owed, _revision()), current(terms, account, at_us)
        if change is None:
            return before
        if self._write(key, terms, change) is None:
            return None
        with self._lock:
            held.owed -= change.after.used - before.used
        return change.after

    def _write(self, key: AccountKey, terms: Terms, change: Change) -> Account | None:
        expires_us = None if terms.quota is not None else change.after.full_us(terms) + KEPT_US
        return self._store.write(key, change, expires_us)

    def _without_store(self, held: Held, want: Want, until: float) -> None:
        """Spend from a bucket of this process' own, or refuse until a moment, as the settings say."""
        now_us, now = self._clock.now_us(), self._clock.monotonic()
        with self._locked(held, want.terms):
            if self._store_down == "closed":
                held.deny(STORE, 0, until, until, now)
                return
            terms = Terms(want.terms.buckets)
            found = lease(terms, held.local, now_us, want.least, want.most, "")
            if isinstance(found, Refused):
                held.got_nothing(found, held.denied_need(found.which, want), now_us, now)
                return
            held.local = found.change.after
            held.got(found, held.local, now_us, now_us, now)
            if want.terms.quota is not None:
                held.owe(found.tokens[0], held.local.month)

    def _give_back(self, key: AccountKey, held: Held) -> None:
        """Return what is left, or let it go when the store does not answer: never is more given out."""
        with self._lock:
            tokens, local = held.surrender(), held.local
        if not any(tokens) or local is not None:
            return
        if (
            self._clock.monotonic() < self._outage.until
        ):  # many would hold a thread for minutes where the store hangs
            return
        try:
            for _ in range(_TRIES):
                account, now_us = self._clocks.timed(lambda: self._store.read(key))
                now_us += held.ahead_us
                if account is None:  # long full again
                    return
                change = give_back(held.terms, account, now_us, tokens, held.month, _revision())
                if self._write(key, held.terms, change) is not None:
                    return
        except ClockWrong:
            return
        except Corrupt as exc:
            self._outage.damaged(exc)
        except HeadraceError as exc:
            self._outage.failed(exc)

    def ask(self, key: AccountKey) -> None:
        """Ask the store for an account, to see that it answers."""
        self._store.read(key)

    def ask_time(self, key: AccountKey) -> None:
        """Ask the store for an account, to see that its clock and this process' agree.

        Raises:
            ClockWrong: they are too far apart. Transient, OutcomeUnknown: the store does not answer.
        """
        self._clocks.timed(lambda: self._store.read(key))

    def stored(self, key: AccountKey, terms: Terms) -> Account:
        """Return an account as it is stored now; asks the store; errors as of `ask_time`."""
        account, now_us = self._clocks.timed(lambda: self._store.read(key))
        return current(terms, account, now_us)


def _revision() -> str:
    return secrets.token_hex(8)
