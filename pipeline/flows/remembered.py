"""What a store said of a name, remembered for seconds: bounded, and bridging a store that is away for a while.

    age      0 .. SOON     used
             SOON .. FRESH used, and due: whoever can, asks the store meanwhile
             FRESH ..      not used, unless the last question failed: then until STALE

So what changed in the store holds here after FRESH_SECONDS, and after STALE_SECONDS at the latest, whatever happens. An age
counts from the question, not from the answer: a slow answer is old when it comes.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

from pipeline.core.errors import Transient
from pipeline.ports.clock import Clock

V = TypeVar("V")

SOON_SECONDS = 10.0
FRESH_SECONDS = 15.0
STALE_SECONDS = 50.0  # a revocation holds within 60 s: this, and the time of one request
AGAIN_SECONDS = 5.0  # between two questions to a store that does not answer
NEW_PER_SECOND, NEW_BURST = (
    50.0,
    100.0,
)  # a fleet that starts at once has fewer keys that were never seen here
NEW_AT_ONCE = 4  # of the threads for stores: with a slow store, a flood must not take them all
MOST_NAMES = 10_000  # of each kind, present and absent: some MB


@dataclass(frozen=True)
class Known(Generic[V]):
    """What was said last, to the question of `read_at`. `value` is None: there is no such thing."""

    value: V | None
    read_at: float
    failed_at: float | None = None

    @property
    def soon_at(self) -> float:
        """Return when it should be read again: up to then it may be used as it is."""
        return self.read_at + (SOON_SECONDS if self.failed_at is None else 0.0)


class Remembered(Generic[V]):
    """Answers of a store by name. Any thread. Absent names are kept apart, so that no flood of them drives out others."""

    def __init__(self, clock: Clock, most: int = MOST_NAMES) -> None:
        self._clock, self._most, self._lock = clock, most, threading.Lock()
        self._present: OrderedDict[str, Known[V]] = OrderedDict()
        self._absent: OrderedDict[str, Known[V]] = OrderedDict()

    def usable(self, name: str) -> Known[V] | None:
        """Return what is known of a name, if that may still be used."""
        with self._lock:
            found = self._present.get(name)
            if found is not None:
                self._present.move_to_end(name)
            else:
                found = self._absent.get(name)
        if found is None:
            return None
        limit = FRESH_SECONDS if found.failed_at is None else STALE_SECONDS
        return found if self._clock.monotonic() - found.read_at <= limit else None

    def due(self, known: Known[V]) -> bool:
        """True when the store should be asked anew, while `known` is still used."""
        now = self._clock.monotonic()
        if known.failed_at is not None:
            return now - known.failed_at >= AGAIN_SECONDS
        return now - known.read_at >= SOON_SECONDS

    def ever(self, name: str) -> bool:
        """True when the store knew that name when it was last asked."""
        return name in self._present

    def learned(self, name: str, value: V | None, asked_at: float) -> None:
        """Remember what the store has said; it was asked at `asked_at`, and may know of nothing that came after that."""
        into, other = (self._absent, self._present) if value is None else (self._present, self._absent)
        with self._lock:
            older = into.get(name) or other.get(name)
            if older is not None and older.read_at > asked_at:  # two questions at once: the later one counts
                return
            other.pop(name, None)
            into[name] = Known(value, asked_at)
            into.move_to_end(name)
            if len(into) > self._most:
                into.popitem(last=False)

    def failed(self, name: str) -> None:
        """Remember that the store did not answer."""
        with self._lock:
            for names in (self._present, self._absent):
                if name in names:
                    names[name] = replace(names[name], failed_at=self._clock.monotonic())


class NewNames:
    """Bounds how many names that were never seen are asked for, by rate and at once. Any thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._left, self._at, self._under_way = NEW_BURST, clock.monotonic(), 0

    def take(self) -> None:
        """Take the right to ask for one; `done` gives its place back.

        Raises:
            Transient: there is none for the moment.
        """
        with self._lock:
            now = self._clock.monotonic()
            self._left = min(NEW_BURST, self._left + (now - self._at) * NEW_PER_SECOND)
            self._at = now
            if self._left < 1 or self._under_way >= NEW_AT_ONCE:
                raise Transient("too many credentials that were never seen here; try again in a second")
            self._left -= 1
            self._under_way += 1

    def done(self) -> None:
        """Give the place back."""
        with self._lock:
            self._under_way -= 1
