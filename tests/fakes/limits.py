"""Ports `LimitStore`, `Policies` and `Decisions` in memory."""

import threading
from collections.abc import Callable, Sequence

from pipeline.core.errors import Corrupt, Transient
from pipeline.core.lease import Account, Change
from pipeline.core.policy import Policy
from pipeline.ports.limits import AccountKey, Decided


class MemoryLimits:
    """Accounts by key.

    `down` makes every call fail, those of `unreadable` cannot be read; `asked` counts all calls, `writes` those that were
    tried; `time` is its own clock.
    """

    def __init__(self, time: Callable[[], int] | None = None) -> None:
        self._time = time
        self.accounts: dict[AccountKey, Account] = {}
        self.expires_us: dict[AccountKey, int | None] = {}
        self.down, self.asked, self.reads, self.writes = False, 0, 0, 0
        self.unreadable: set[AccountKey] = set()
        self._lock = threading.Lock()

    def read(self, key: AccountKey) -> Account | None:
        """Return an account."""
        self._answer()
        self.reads += 1
        if key in self.unreadable:
            raise Corrupt("table limits: this account cannot be read")
        return self.accounts.get(key)

    def write(self, key: AccountKey, change: Change, expires_us: int | None) -> Account | None:
        """Apply a change."""
        self._answer()
        self.writes += 1
        with self._lock:
            after = change.applied(self.accounts.get(key))
            if after is not None:
                self.accounts[key], self.expires_us[key] = after, expires_us
        return after

    def told_us(self) -> int | None:
        """Return its time, in whole seconds."""
        return None if self._time is None or self.down else self._time() // 1_000_000 * 1_000_000

    def _answer(self) -> None:
        self.asked += 1
        if self.down:
            raise Transient("read limits: the table does not answer")


class MemoryPolicies:
    """Policies by tenant and name."""

    def __init__(self) -> None:
        self.policies: dict[tuple[str, str], Policy] = {}

    def put(self, tenant: str, policy: Policy) -> None:
        """Store one."""
        self.policies[tenant, policy.name] = policy

    def get(self, tenant: str, name: str) -> Policy | None:
        """Return one."""
        return self.policies.get((tenant, name))

    def delete(self, tenant: str, name: str) -> bool:
        """Remove one."""
        return self.policies.pop((tenant, name), None) is not None

    def all(self, tenant: str) -> Sequence[Policy]:
        """Return a tenant's, by name."""
        return [self.policies[key] for key in sorted(self.policies) if key[0] == tenant]


class MemoryDecisions:
    """Decisions by tenant and key."""

    def __init__(self) -> None:
        self.decided: dict[tuple[str, str], tuple[Decided, int]] = {}

    def find(self, tenant: str, key: str, now_us: int) -> Decided | None:
        """Return what was decided."""
        found, expires_us = self.decided.get((tenant, key), (None, 0))
        return found if expires_us > now_us else None

    def keep(self, tenant: str, key: str, decided: Decided, now_us: int, expires_us: int) -> Decided:
        """Store a decision unless one is there."""
        found = self.find(tenant, key, now_us)
        if found is not None:
            return found
        self.decided[tenant, key] = decided, expires_us
        return decided
