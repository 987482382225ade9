"""The table of limits: accounts of tokens, named policies, and decisions that must be given again."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from pipeline.core.lease import Account, Change
from pipeline.core.policy import Policy


class AccountKey(NamedTuple):
    """Which account: of a tenant, and what it limits (`plan`, `credential#...`, `check#<namespace>#<key>`)."""

    tenant: str
    name: str


class LimitStore(Protocol):
    """Accounts. Called from threads, a few times a second for each account that is in use."""

    def read(self, key: AccountKey) -> Account | None:
        """Return an account, in a consistent read; None: it was never written, or is long full again.

        Raises:
            Transient, OutcomeUnknown: try again.
            Corrupt: what is stored is no account.
        """
        ...

    def write(self, key: AccountKey, change: Change, expires_us: int | None) -> Account | None:
        """Apply a change to an account, if it is for what is stored (`Change.applied`); one write.

        Args:
            key: which.
            change: what to do; the revision after it was never used before.
            expires_us: from then on the account may be forgotten; None: never.

        Returns:
            The account as it is stored now; None when other processes came between: read it again. An earlier try of
            this call whose answer was lost may also say None, or count twice: its tokens are then nobody's, never
            given out twice.

        Raises:
            Transient: nothing is stored. OutcomeUnknown: perhaps it is; the tokens are to be given up.
        """
        ...

    def told_us(self) -> int | None:
        """Return the store's own time of its last answer to this thread, refusals included, cut to a whole second.

        None: that call got no answer, or the store tells no time.
        """
        ...


class Policies(Protocol):
    """Named limits of a tenant's own. Called from threads."""

    def put(self, tenant: str, policy: Policy) -> None:
        """Store one, new or changed. Raises Transient, OutcomeUnknown: repeat the call."""
        ...

    def get(self, tenant: str, name: str) -> Policy | None:
        """Return one."""
        ...

    def delete(self, tenant: str, name: str) -> bool:
        """Remove one; False when there was none. Raises as `put`; repeated, it may say False."""
        ...

    def all(self, tenant: str) -> Sequence[Policy]:
        """Return a tenant's, by name."""
        ...


class Decided(NamedTuple):
    """A decision that is given again for its idempotency key: the fingerprint of the request, and the answer."""

    fingerprint: str
    answer: bytes


class Decisions(Protocol):
    """Decisions under idempotency keys. Called from threads."""

    def find(self, tenant: str, key: str, now_us: int) -> Decided | None:
        """Return what was decided under a key and is kept still, in a consistent read."""
        ...

    def keep(self, tenant: str, key: str, decided: Decided, now_us: int, expires_us: int) -> Decided:
        """Store a decision unless one is there, and return the one that is there now; may be repeated.

        One that has expired is not there, whether or not it was deleted already. Stored by this very call, it is `decided`
        itself; an equal one may be another request's.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...
