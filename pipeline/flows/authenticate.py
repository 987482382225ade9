"""From what a caller shows to who it is.

`resolved` answers from memory, at once, on the event loop. Where something must be read first it returns what (`Missing`), and
whoever calls runs `reading(missing)` on a thread, once however many wait for it, and asks again:

    key     ->  the key's entry, its tenant's            (control store)
    token   ->  the issuer's keys, if its `kid` is new     (HTTPS)
            ->  its client's entry, its tenant's            (control store)

Ids that were never seen are looked up at a bounded rate, so that a flood of invented ones does not reach the store.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeVar

from pipeline.core.access_token import Token, Trust, genuine, signer_of
from pipeline.core.api_key import parse_key, secret_matches
from pipeline.core.caller import Caller, Denied, Scope
from pipeline.core.credential import Presented
from pipeline.core.errors import HeadraceError
from pipeline.core.plan import Plan
from pipeline.core.tenant import ApiKey, Client, Tenant
from pipeline.flows.remembered import MOST_NAMES, Known, NewNames, Remembered
from pipeline.flows.signing_keys import SigningKeys
from pipeline.ports.clock import Clock
from pipeline.ports.control import Control

USED_EVERY_SECONDS = 60.0  # last use is kept to the minute
MOST_TOKENS = 10_000  # verified ones that are remembered; 1 kB each
_ROUNDS = 4  # the issuer's keys, a client, its tenant, and the answer

V = TypeVar("V")
What = Literal["key", "client", "tenant", "signers", "used"]


class Missing(NamedTuple):
    """What must be read before a credential can be judged."""

    what: What
    name: str


@dataclass(frozen=True)
class Tenancy:
    """A tenant and its plan, read together."""

    tenant: Tenant
    plan: Plan


class Proven(NamedTuple):
    """A key that was shown whole and compared, and what it was compared with: while that is what is known, it holds.

    Up to `until`, on the monotonic clock, nothing of it should be read again. It ends at `ends_us` by the wall clock, which
    somebody may set meanwhile.
    """

    key: Known[ApiKey]
    tenancy: Known[Tenancy]
    caller: Caller
    key_id: str
    ends_us: int | None
    until: float


@dataclass(frozen=True)
class Issuer:
    """The user pool whose tokens are taken: what must hold of them, and its keys."""

    trust: Trust
    signers: SigningKeys


class Authenticator:
    """Who callers are. One in a process; any thread."""

    def __init__(self, control: Control, clock: Clock, issuer: Issuer | None = None) -> None:
        self._control, self._clock, self._issuer = control, clock, issuer
        self._keys = Remembered[ApiKey](clock)
        self._clients = Remembered[Client](clock)
        self._tenants = Remembered[Tenancy](clock)
        self._tokens = OrderedDict[bytes, Token]()
        self._proven = OrderedDict[bytes, Proven]()
        self._new_ids = NewNames(clock)
        self._used: dict[str, int] = {}
        self._handed_on_at = clock.monotonic()
        self._due: set[Missing] = set()
        self._lock = threading.Lock()

    @property
    def signers(self) -> SigningKeys | None:
        """Return the issuer's keys; None: no tokens are taken here."""
        return None if self._issuer is None else self._issuer.signers

    def warm(self) -> None:
        """Read all there is, as the process starts: or its first requests would all be of keys that were never seen.

        Raises:
            Transient: the control store does not answer; each is then read when it is shown.
        """
        asked_at, found = self._clock.monotonic(), self._control.credentials()
        plans = {plan.name: plan for plan in found.plans}
        for tenant in found.tenants[:MOST_NAMES]:
            if tenant.plan in plans:
                self._tenants.learned(tenant.name, Tenancy(tenant, plans[tenant.plan]), asked_at)
        for key in found.keys[:MOST_NAMES]:
            self._keys.learned(key.id, key, asked_at)
        for client in found.clients[:MOST_NAMES]:
            self._clients.learned(client.id, client, asked_at)

    def recognised(self, key: bytes) -> Caller | None:
        """Return the caller of a key that was shown whole and compared seconds ago; None: `resolved` has the answer. No I/O."""
        proven = self._proven.get(hashlib.blake2b(key).digest())
        if proven is None or self._clock.monotonic() >= proven.until:
            return None
        ends_us = proven.ends_us
        return proven.caller if ends_us is None or self._clock.now_us() < ends_us else None

    def resolved(self, shown: Presented) -> Caller | Missing:
        """Return who shows a credential, or what must be read first. No I/O.

        Raises:
            Denied: it is not valid.
        """
        return self._by_key(shown.text) if shown.kind == "key" else self._by_token(shown.text)

    def due(self) -> list[Missing]:
        """Return what should be read soon, or handed over, though nobody waits for it; each thing once.

        To be asked about once a second, also while nobody calls: a key that is used once has its last use told so.
        """
        found: list[Missing] = []
        if self._due:
            with self._lock:
                found, self._due = list(self._due), set()
        if self._issuer is not None and self._issuer.signers.due():
            found.append(Missing("signers", ""))
        if self._used and self._clock.monotonic() - self._handed_on_at >= USED_EVERY_SECONDS:
            found.append(Missing("used", ""))
        return found

    def reading(self, missing: Missing) -> Callable[[], None]:
        """Return the work that reads something; to be run on a thread. It raises Transient.

        Raises:
            Busy: too many ids that were never seen were asked for.
        """
        if missing.what != "key" or self._keys.ever(missing.name):
            return lambda: self._read(missing)  # clients and tenants have been named by somebody we trust
        self._new_ids.take()

        def counted() -> None:
            try:
                self._read(missing)
            finally:
                self._new_ids.done()

        return counted

    def hand_over(self) -> None:
        """Tell the control store when keys were last used; at intervals (`due`), and when the process ends.

        Raises:
            Transient: it does not answer; the times are kept.
        """
        with self._lock:
            used, self._used = self._used, {}
        self._handed_on_at = self._clock.monotonic()
        if not used:
            return
        try:
            self._control.keys_used(used)
        except HeadraceError:
            with self._lock:
                self._used = used | self._used
            raise

    def _by_key(self, text: str) -> Caller | Missing:
        digest = hashlib.blake2b(text.encode()).digest()
        proven = self._proven.get(digest)
        if proven is not None and (caller := self._still(proven)) is not None:
            return caller
        shown = parse_key(text)
        known = self._keys.usable(shown.id)
        if known is None:
            return Missing("key", shown.id)
        self._note(known, self._keys, "key", shown.id)
        key = known.value
        if key is None:
            raise Denied("unknown_key", "there is no such key")
        if not secret_matches(shown.secret, key.secret_hash):
            raise Denied("wrong_secret", "another secret")
        now_us = self._clock.now_us()
        if key.revoked_us is not None and key.revoked_us <= now_us:
            raise Denied("revoked_key", "revoked")
        if key.expires_us is not None and key.expires_us <= now_us:
            raise Denied("expired_key", "expired")
        found = self._of(key.tenant, f"key:{key.id}", key.scopes, key.requests_per_second)
        if isinstance(found, Caller):
            self._prove(digest, known, key, found)
            with self._lock:
                self._used[key.id] = now_us
        return found

    def _still(self, proven: Proven) -> Caller | None:
        """Return the caller of a key that was shown before; None: something it follows from was read anew, or ends."""
        if self._keys.usable(proven.key_id) is not proven.key:
            return None
        if self._tenants.usable(proven.caller.tenant_id) is not proven.tenancy:
            return None
        now_us = self._clock.now_us()
        if proven.ends_us is not None and proven.ends_us <= now_us:
            return None
        self._note(proven.key, self._keys, "key", proven.key_id)
        self._note(proven.tenancy, self._tenants, "tenant", proven.caller.tenant_id)
        with self._lock:
            self._used[proven.key_id] = now_us
        return proven.caller

    def _prove(self, digest: bytes, known: Known[ApiKey], key: ApiKey, caller: Caller) -> None:
        tenancy = self._tenants.usable(key.tenant)
        if tenancy is None:
            return
        ends_us = min([at for at in (key.revoked_us, key.expires_us) if at is not None], default=None)
        until = min(known.soon_at, tenancy.soon_at)
        with self._lock:
            self._proven[digest] = Proven(known, tenancy, caller, key.id, ends_us, until)
            if len(self._proven) > MOST_TOKENS:
                self._proven.popitem(last=False)

    def _by_token(self, text: str) -> Caller | Missing:
        token = self._token(text)
        if isinstance(token, Missing):
            return token
        wanted = Missing("client", token.client_id)
        known = self._clients.usable(token.client_id)
        if known is None:
            return wanted
        self._note(known, self._clients, "client", token.client_id)
        client = known.value
        if client is None:
            raise Denied("unknown_client", "a client of the pool that is nobody's here")
        if client.revoked_us is not None and client.revoked_us <= self._clock.now_us():
            raise Denied("revoked_client", "revoked")
        return self._of(client.tenant, f"client:{client.id}", token.scopes & client.scopes)

    def _token(self, text: str) -> Token | Missing:
        """Return a verified token, from memory where it was verified before."""
        if self._issuer is None:
            raise Denied("tokens_off", "no issuer is set")
        signers, digest, now_us = (
            self._issuer.signers,
            hashlib.sha256(text.encode()).digest(),
            self._clock.now_us(),
        )
        token = self._tokens.get(digest)
        if token is not None and token.signer in signers.keys:
            if token.expires_us <= now_us:
                raise Denied("expired_token", "expired")
            return token
        signer = signer_of(text)
        if signer not in signers.keys:
            if signers.worth_asking():
                return Missing("signers", "")
            raise Denied("unknown_signer", "the issuer has no such key")
        token = genuine(text, signers.keys, self._issuer.trust, now_us)
        with self._lock:
            self._tokens[digest] = token
            if len(self._tokens) > MOST_TOKENS:
                self._tokens.popitem(last=False)
        return token

    def _of(
        self, tenant: str, credential: str, scopes: frozenset[Scope], requests_per_second: int | None = None
    ) -> Caller | Missing:
        known = self._tenants.usable(tenant)
        if known is None:
            return Missing("tenant", tenant)
        self._note(known, self._tenants, "tenant", tenant)
        if known.value is None:
            raise Denied("unknown_tenant", "its tenant is gone")
        if known.value.tenant.state != "active":
            raise Denied("suspended_tenant", "its tenant is suspended")
        return Caller(tenant, credential, scopes, known.value.plan, requests_per_second)

    def _note(self, known: Known[V], names: Remembered[V], what: What, name: str) -> None:
        """Have an entry that is used read again soon."""
        if known.value is not None and names.due(known):
            with self._lock:
                self._due.add(Missing(what, name))

    def _read(self, missing: Missing) -> None:
        name = missing.name
        if missing.what == "signers" and self._issuer is not None:
            self._issuer.signers.refresh()
        elif missing.what == "used":
            self.hand_over()
        elif missing.what == "key":
            key = self._learn(self._keys, name, self._control.key)
            self._read_tenancy(key.tenant if key else None)
        elif missing.what == "client":
            client = self._learn(self._clients, name, self._control.client)
            self._read_tenancy(client.tenant if client else None)
        else:
            self._learn(self._tenants, name, self._tenancy)

    def _read_tenancy(self, tenant: str | None) -> None:
        """Read a tenant together with the first credential of it that comes."""
        if tenant is not None and self._tenants.usable(tenant) is None:
            self._learn(self._tenants, tenant, self._tenancy)

    def _tenancy(self, name: str) -> Tenancy | None:
        tenant = self._control.tenant(name)
        plan = self._control.plan(tenant.plan) if tenant else None
        return Tenancy(tenant, plan) if tenant and plan else None

    def _learn(self, names: Remembered[V], name: str, ask: Callable[[str], V | None]) -> V | None:
        asked_at = self._clock.monotonic()
        try:
            found = ask(name)
        except HeadraceError:
            names.failed(name)
            raise
        names.learned(name, found, asked_at)
        return found
