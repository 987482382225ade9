"""Whether this machine's clock may be brought to accounts that others share: the store's own clock is the judge.

Of two processes whose clocks differ, neither can know which one is wrong. The store tells its time with every answer, so
the one that is wrong recognises itself, takes nothing and gives nothing back. Where a store tells no time, nobody judges.
"""

import threading
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.bucket import MICROSECONDS
from pipeline.core.errors import HeadraceError, Transient
from pipeline.core.skew import ahead_of
from pipeline.facts import AccountFoundAhead, ClockCorrected, ClockFoundWrong, FactSink
from pipeline.ports.clock import Clock
from pipeline.ports.limits import AccountKey

MAX_SKEW_SECONDS = 60.0  # machines that follow a time server differ by milliseconds
_TOLD_SECONDS = 10.0  # what stays wrong is told so often
T = TypeVar("T")


class ClockWrong(Transient):
    """This machine's clock is too far from the store's: nothing may be counted by it."""


class Clocks:
    """Holds this process' clock against that of the store of limits. Any thread.

    Args:
        clock: of this process.
        told_us: the store's time of its last answer to this thread; see the port.
        facts: told when the clock is found wrong, and when it is right again.
        max_skew_seconds: more than this is wrong.
    """

    def __init__(
        self, clock: Clock, told_us: Callable[[], int | None], facts: FactSink, max_skew_seconds: float
    ) -> None:
        self._clock, self._told_us, self._facts = clock, told_us, facts
        self._most_us = round(max_skew_seconds * MICROSECONDS)
        self._lock = threading.Lock()
        self._wrong_told_at: float | None = None  # None: the clock is right
        self._ahead_told_at = -_TOLD_SECONDS

    def timed(self, ask: Callable[[], T]) -> tuple[T, int]:
        """Ask the store, and return its answer with this process' time, which the store has vouched for.

        Raises:
            ClockWrong: the clocks are too far apart.
            HeadraceError: what `ask` raises, if they are not.
        """
        began = self._clock.monotonic()
        try:
            found = ask()
        except HeadraceError:
            self._judge(began)  # AWS refuses what is signed at a wrong time: then the clock is the cause
            raise
        return found, self._judge(began)

    def saw(self, key: AccountKey, at_us: int, now_us: int) -> None:
        """Tell of an account whose time is ahead of a clock that is right: a clock that was wrong has stored it."""
        ahead_us, now = at_us - now_us, self._clock.monotonic()
        # Two clocks that are just right may differ by twice the allowed.
        if ahead_us <= 2 * self._most_us or self._told_us() is None:
            return
        with self._lock:
            if now - self._ahead_told_at < _TOLD_SECONDS:
                return
            self._ahead_told_at = now
        self._facts(AccountFoundAhead(key.tenant, key.name, ahead_us // MICROSECONDS))

    def _judge(self, began: float) -> int:
        now_us = self._clock.now_us()
        now, told_us = self._clock.monotonic(), self._told_us()
        if told_us is None:
            return now_us
        ahead_us = ahead_of(told_us, now_us, round((now - began) * MICROSECONDS))
        if abs(ahead_us) <= self._most_us:
            self._right()
            return now_us
        self._wrong(ahead_us, now)
        side = "ahead of" if ahead_us > 0 else "behind"
        raise ClockWrong(
            f"this machine's clock is {abs(ahead_us) // MICROSECONDS} s {side} that of the table of limits, "
            f"{self._most_us // MICROSECONDS} s are allowed (limits.max_clock_skew_seconds): have it follow a time server"
        )

    def _wrong(self, ahead_us: int, now: float) -> None:
        with self._lock:
            if self._wrong_told_at is not None and now - self._wrong_told_at < _TOLD_SECONDS:
                return
            self._wrong_told_at = now
        self._facts(ClockFoundWrong(ahead_us // MICROSECONDS, self._most_us // MICROSECONDS))

    def _right(self) -> None:
        if self._wrong_told_at is None:
            return
        with self._lock:
            was, self._wrong_told_at = self._wrong_told_at, None
        if was is not None:
            self._facts(ClockCorrected())
