"""Whether a process can serve: each thing it depends on, when it was last asked, and whether it answered.

An answer is given to everybody for `KEPT_SECONDS`: whoever asks often asks us, not what we depend on. Of what is kept for
longer, and used meanwhile, a probe returns `Kept`: it is as old as what is kept.
"""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Literal

from pipeline.core.errors import HeadraceError, StoreUnusable
from pipeline.ports.clock import Clock

KEPT_SECONDS = 3.0
# unusable: it answered that it is not there, or not for us. silent: it was asked and has not answered yet.
State = Literal["ok", "failing", "unusable", "silent"]
Probe = Callable[[], object]


@dataclass(frozen=True)
class Kept:
    """What a probe returns of a thing that was read once and holds since: when, on the monotonic clock."""

    since: float


@dataclass(frozen=True)
class Dependency:
    """One thing that is depended on: its state, and how long ago that was so; None: it never answered.

    `unusable` names the stores that an operator has to make, or to open for this process.
    """

    name: str
    state: State
    age_seconds: float | None
    unusable: tuple[str, ...] = ()


@dataclass
class _Seen:
    state: State = "failing"
    unusable: tuple[str, ...] = ()
    at: float | None = None
    since: float | None = None  # of what is kept
    asked: Future[None] | None = None


class Readiness:
    """Asks each dependency, in threads of its own, one call of each at a time.

    Args:
        probes: name -> a cheap read; what it raises out of the product's tree means failing.
        clock: for ages.
    """

    def __init__(self, probes: Mapping[str, Probe], clock: Clock) -> None:
        self._probes, self._clock, self._lock = dict(probes), clock, threading.Lock()
        self._seen = {name: _Seen() for name in self._probes}
        self._pool = ThreadPoolExecutor(max(len(self._probes), 1), thread_name_prefix="ready")

    def ask(self) -> list[Future[None]]:
        """Ask what was not asked lately; return at once, with what ends when an answer is there, here or for another."""
        now = self._clock.monotonic()
        with self._lock:
            for name, seen in self._seen.items():
                if seen.asked is None and (seen.at is None or now - seen.at > KEPT_SECONDS):
                    seen.asked = self._pool.submit(partial(self._probe, name))
            return [seen.asked for seen in self._seen.values() if seen.asked is not None]

    def look(self) -> list[Dependency]:
        """Return what is known now."""
        now = self._clock.monotonic()
        with self._lock:
            return [self._state(name, seen, now) for name, seen in self._seen.items()]

    def close(self) -> None:
        """Ask nothing any more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _state(self, name: str, seen: _Seen, now: float) -> Dependency:
        age = None if seen.at is None else max(now - seen.at, 0.0)
        if seen.asked is not None and (age is None or age > 2 * KEPT_SECONDS):
            return Dependency(name, "silent", age)
        if seen.since is not None:
            age = max(now - seen.since, 0.0)
        return Dependency(name, seen.state, age, seen.unusable)

    def _probe(self, name: str) -> None:
        found = _Seen()
        try:
            answer = self._probes[name]()
            found.state, found.since = "ok", answer.since if isinstance(answer, Kept) else None
        except StoreUnusable as exc:
            found.state, found.unusable = "unusable", exc.stores
        except HeadraceError:
            pass  # its state says so; why is in the facts of the call
        finally:
            found.at = self._clock.monotonic()
            with self._lock:
                self._seen[name] = found
