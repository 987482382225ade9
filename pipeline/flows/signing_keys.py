"""The issuer's keys, as far as this process knows them.

A token with an unknown `kid` makes the key set be read, at most once in `AGAIN_SECONDS` however many such tokens come; a set
that is an hour old is read anew, so that a withdrawn key ends. When it cannot be read, the old keys stay.
"""

import threading

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from pipeline.core.access_token import Keys, signing_keys
from pipeline.core.errors import Transient
from pipeline.facts import FactSink, LookUpsFailed, TokenKeysRead
from pipeline.flows.ready import Kept
from pipeline.ports.clock import Clock
from pipeline.ports.token_keys import TokenKeys

AGAIN_SECONDS = 30.0
FIRST_AGAIN_SECONDS = 2.0  # while no set was ever read: nobody with a token is let in until then
OLD_SECONDS = 3_600.0


class SigningKeys:
    """Keys by `kid`. Any thread; one reads them at a time, and others that want them read wait for it."""

    def __init__(self, source: TokenKeys, clock: Clock, facts: FactSink) -> None:
        self._source, self._clock, self._facts = source, clock, facts
        self._keys: dict[str, RSAPublicKey] = {}
        self._read_at: float | None = None
        self._tried_at: float | None = None
        self._reading = self._failed = False
        self._lock = threading.Lock()  # of `refresh`

    @property
    def keys(self) -> Keys:
        """Return the newest keys."""
        return self._keys

    @property
    def unread(self) -> bool:
        """True while no key set could be read at all: nothing can be said of any token."""
        return self._read_at is None

    def may_refresh(self) -> bool:
        """True when the last try is long enough ago."""
        wait = FIRST_AGAIN_SECONDS if self.unread else AGAIN_SECONDS
        return self._tried_at is None or self._clock.monotonic() - self._tried_at >= wait

    def due(self) -> bool:
        """True when the set is old, and may be read."""
        old = self._read_at is not None and self._clock.monotonic() - self._read_at >= OLD_SECONDS
        return old and self.may_refresh()

    def worth_asking(self) -> bool:
        """True when an unknown `kid` may be known after `refresh`, or nobody can say: it then raises."""
        return self.unread or self._reading or self._failed or self.may_refresh()

    def refresh(self) -> None:
        """Read the key set, if that may be done now.

        Raises:
            Transient: it could not be read, now or at the last try; the keys are what they were.
        """
        with self._lock:
            self._refresh()

    def kept(self) -> Kept:
        """Return since when there are keys, for a probe; read them if they never were. Older ones hold while none can be read.

        Raises:
            Transient: no key set could be read yet, and so no token can be judged.
        """
        if self.unread:
            try:
                self.refresh()
            except Transient as exc:
                self._facts(LookUpsFailed(calls={"signers": 1}, error=f"Transient: {exc}"))
                raise
        return Kept(self._clock.monotonic() if self._read_at is None else self._read_at)

    def _refresh(self) -> None:
        if not self.may_refresh():
            if self._failed:
                raise Transient("the issuer's keys could not be read a moment ago")
            return
        self._tried_at, self._reading, self._failed = self._clock.monotonic(), True, True
        try:
            found = signing_keys(self._source.fetch())
        except ValueError as exc:
            raise Transient(f"the issuer's key set cannot be used: {exc}") from exc
        finally:
            self._reading = False
        if found.keys() != self._keys.keys():
            self._facts(TokenKeysRead(keys=len(found)))
        self._keys, self._read_at, self._failed = found, self._clock.monotonic(), False
