"""Whether the store of limits answers: asked again a second later, told every ten seconds, and when it is over."""

from typing import Literal

from pipeline.core.errors import Corrupt, HeadraceError
from pipeline.facts import FactSink, LimitItemUnreadable, LimitStoreAnswered, LimitStoreFailed
from pipeline.ports.clock import Clock

DOWN_SECONDS = 1.0  # how long nobody asks a store that failed
_TOLD_SECONDS = 10.0  # a store that stays down is told so often


class Outage:
    """What one process knows of it.

    Args:
        clock: monotonic.
        facts: told when the store fails and when it answers again.
        store_down: what happens meanwhile, for the facts.

    Attributes:
        is_on: the store failed, and has not answered since.
        until: until when nobody asks it.
    """

    def __init__(self, clock: Clock, facts: FactSink, store_down: Literal["open", "closed"]) -> None:
        self._clock, self._facts, self._store_down = clock, facts, store_down
        self.is_on, self.until = False, 0.0
        self._since, self._told_at, self._damage_told_at = 0.0, -_TOLD_SECONDS, -_TOLD_SECONDS

    def failed(self, exc: HeadraceError) -> None:
        """Note that the store did not answer."""
        now = self._clock.monotonic()
        self.until = now + DOWN_SECONDS
        if not self.is_on:
            self.is_on, self._since = True, now
        if now - self._told_at >= _TOLD_SECONDS:
            self._told_at = now
            self._facts(LimitStoreFailed(store_down=self._store_down, error=str(exc)))

    def answered(self) -> None:
        """Note that it did."""
        if self.is_on:
            self.is_on, self._told_at, self.until = False, -_TOLD_SECONDS, 0.0
            self._facts(LimitStoreAnswered(seconds=round(self._clock.monotonic() - self._since, 3)))

    def damaged(self, exc: Corrupt) -> None:
        """Tell of an account that cannot be read; the store has answered."""
        now = self._clock.monotonic()
        if now - self._damage_told_at >= _TOLD_SECONDS:
            self._damage_told_at = now
            self._facts(LimitItemUnreadable(store_down=self._store_down, error=str(exc)))
