"""When to start a process again that died: at once, then slower, and not for ever."""

from collections import deque

LIMIT = 5  # deaths within the window that end the stack: it is no accident any more
WINDOW_SECONDS = 60.0
FRUITLESS_SECONDS = 3_600.0  # in which as many deaths, none after any progress, are no accident either
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 8.0


class Restarts:
    """Deaths of one process, by a clock that the caller reads.

    Attributes:
        limit: deaths within the window after which it is not started again.
        reason: after one too many: what they have in common.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit
        self.reason = ""
        self._deaths: deque[float] = deque(maxlen=limit)
        self._fruitless: deque[float] = deque(maxlen=limit)
        self._start_at: float | None = None

    def died(self, now: float, *, progress: bool = True) -> bool:
        """Note a death at `now` (seconds); False when it was one too many. Noted once until the next start.

        Without `progress` it had got nowhere since its start: however long it lived, it does not do that for ever.
        """
        if self._start_at is not None:
            return True
        if progress:
            self._fruitless.clear()
        else:
            self._fruitless.append(now)
        self._deaths.append(now)
        recent = [at for at in self._deaths if now - at < WINDOW_SECONDS]
        if len(recent) >= self.limit:
            self.reason = "within a minute"
        elif sum(now - at < FRUITLESS_SECONDS for at in self._fruitless) >= self.limit:
            self.reason = "within an hour without a commit"
        if self.reason:
            return False
        self._start_at = now + min(FIRST_DELAY_SECONDS * 2 ** (len(recent) - 1), LONGEST_DELAY_SECONDS)
        return True

    @property
    def waiting(self) -> bool:
        """True between a death and the start that follows it."""
        return self._start_at is not None

    def due(self, now: float) -> bool:
        """True once, when the time for the next start has come."""
        if self._start_at is None or now < self._start_at:
            return False
        self._start_at = None
        return True
