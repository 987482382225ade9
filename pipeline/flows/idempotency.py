"""One request with an `Idempotency-Key`, done once however often it is sent.

1. claim the key, or find who has it
2. do the work: ids and times of it follow from the key and from when its first attempt began
3. store the answer

A process that dies after 2 leaves a lock, which outlives every request that is still answered. Whoever sends the request
again after that does 2 again, under the same ids: what the stream has already is then a duplicate, and flagged as one.

    attempt 1   claim --- work --- (dies)
    attempt 2         claim: InFlight (409) ...  lock runs out  ... take over --- work, same ids --- complete
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

from pipeline.core.idempotency import LIFETIME_SECONDS, Entry, StoredAnswer, derived_event_id
from pipeline.ports.clock import Clock
from pipeline.ports.idempotency import Requests


@dataclass(frozen=True)
class Started:
    """The request is to be done now, by whoever got this.

    Attributes:
        entry: what is stored of it.
        again: an earlier attempt may have done some of it, or all.
    """

    entry: Entry
    again: bool

    @property
    def begun_us(self) -> int:
        """Return when the first attempt began: the time of events that came without one."""
        return self.entry.begun_us

    def event_id(self, index: int) -> str:
        """Return the id of the event at an index of the request, if it came without one."""
        return derived_event_id(self.entry.tenant, self.entry.key, index, self.entry.begun_us)


@dataclass(frozen=True)
class InFlight:
    """Another attempt is at work on it.

    Attributes:
        retry_after_seconds: as long again as it has been at work, at most until its lock runs out: most end soon, and
            whoever waits for one that died asks some five times.
    """

    retry_after_seconds: int


@dataclass(frozen=True)
class Reused:
    """The key was used for another request."""


Beginning = Started | StoredAnswer | InFlight | Reused


class Idempotency:
    """Decides about repeated requests. Any thread; every call asks the table once or twice.

    Args:
        requests: the table.
        clock: tells the time.
        owners: gives a name that nobody else has, for each attempt.
        lock_seconds: longer than any request takes until it is answered, the difference of two clocks included.
    """

    def __init__(
        self, requests: Requests, clock: Clock, owners: Callable[[], str], lock_seconds: float
    ) -> None:
        self._requests, self._clock, self._owners = requests, clock, owners
        self._lock_us = round(lock_seconds * 1e6)

    def begin(self, tenant: str, key: str, fingerprint: str) -> Beginning:
        """Return what is to be done about a request.

        Raises:
            Transient, OutcomeUnknown: the table does not answer; nothing may be done.
        """
        now_us, owner = self._clock.now_us(), self._owners()
        wanted = Entry(
            tenant,
            key,
            fingerprint,
            owner,
            begun_us=now_us,
            locked_until_us=now_us + self._lock_us,
            expires_us=(now_us // 1_000_000 + LIFETIME_SECONDS) * 1_000_000,  # tables keep it in seconds
        )
        found = self._requests.claim(wanted, now_us)
        if found is None:
            return Started(wanted, again=False)
        if found.fingerprint != fingerprint:
            return Reused()
        if found.answer is not None:
            return found.answer
        if found.locked_until_us <= now_us and self._requests.take_over(found, owner, wanted.locked_until_us):
            ours = replace(found, owner=owner, locked_until_us=wanted.locked_until_us)
            return Started(ours, again=True)
        left_us = found.locked_until_us - now_us
        wait_us = min(left_us, self._lock_us - left_us)
        return InFlight(max(1, -(-wait_us // 1_000_000)))

    def complete(self, started: Started, answer: StoredAnswer) -> bool:
        """Keep the answer for repeated requests; False: it is not kept, and the request would be done again.

        An answer that is too large for the table is not kept, which costs a second sending of the same events.

        Raises:
            Transient, OutcomeUnknown: the table does not answer; the work is done nevertheless.
        """
        if self._requests.complete(started.entry, answer):
            return True
        self._requests.unlock(started.entry)
        return False

    def abandon(self, started: Started, *, nothing_done: bool) -> None:
        """Give up: the request may be sent again at once.

        Args:
            started: from `begin`.
            nothing_done: this attempt changed nothing; if there was none before it, the key is as new, for any body.

        Raises:
            Transient, OutcomeUnknown: the table does not answer; the lock runs out by itself.
        """
        if nothing_done and not started.again:
            self._requests.forget(started.entry)
        else:
            self._requests.unlock(started.entry)
