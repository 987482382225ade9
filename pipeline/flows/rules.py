"""Rules that follow the control store: asked for when somebody needs newer ones, and every 30 seconds.

What is published and cannot be judged by is left out, and told: no one schema keeps the others from being loaded.

A look reads one number; only when that has moved are tenants and schemas read. Looks are made one at a time: who waits for
one that another thread makes gets what it found.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

from pipeline.core.errors import ConfigProblem, OutcomeUnknown, Transient
from pipeline.core.rules import Rules
from pipeline.core.sound import LeftOut, fault_of, fitting
from pipeline.core.tenant import Publication
from pipeline.facts import FactSink, RulesChanged, RulesNotRefreshed, SchemaLeftOut
from pipeline.ports.clock import Clock
from pipeline.ports.control import Control

LOOK_SECONDS = 30.0  # how long an added tenant or schema stays unnoticed where nobody misses it
_AGAIN_SECONDS = 5.0  # after a look that failed: a store that is down is not asked for every batch


class FixedRules:
    """Rules that never change: port `NewestRules` where there is no control store."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def __call__(self) -> Rules:
        """Return the rules."""
        return self._rules

    def newest(self, since_us: int) -> Rules:  # noqa: ARG002 - they are of any time
        """Return the rules."""
        return self._rules


class StoredRules:
    """Port `NewestRules` over the control store.

    Args:
        base: what settings and files say.
        control: gives the store; None while there is none (a SQLite file that nobody has made yet).
        clock: when a look was made.
        facts: told of each change, and of each look that failed.
    """

    def __init__(
        self, base: Rules, control: Callable[[], Control | None], clock: Clock, facts: FactSink
    ) -> None:
        self._base, self._control, self._clock, self._facts = base, control, clock, facts
        self._known = base
        self._revision: int | None = None
        self._looked_us = self._tried_us = self._begun_us = -1
        self._failure: Transient | ConfigProblem | None = None  # of the last look
        self._lock = threading.Lock()
        self._faults: dict[tuple[str, int], tuple[Publication, str]] = {}  # each version is checked once
        self._left_out: frozenset[LeftOut] = frozenset()

    def __call__(self) -> Rules:
        """Return the newest rules known; see the port."""
        now_us = self._clock.now_us()
        due_us = now_us - round(LOOK_SECONDS * 1e6)
        if max(self._looked_us, self._begun_us) <= due_us:
            self._begun_us = now_us
            threading.Thread(target=self._look_beside, args=(due_us,), name="rules", daemon=True).start()
        return self._known

    def newest(self, since_us: int) -> Rules:
        """Return rules as they were at `since_us` or later; see the port."""
        with self._lock:
            if self._looked_us < since_us:
                self._look()
        return self._known

    def _look_beside(self, since_us: int) -> None:
        with suppress(Transient, ConfigProblem):  # told by `_look`
            self.newest(since_us)

    def _look(self) -> None:
        now_us = self._clock.now_us()
        if self._failure is not None and now_us - self._tried_us < _AGAIN_SECONDS * 1e6:
            raise self._failure
        try:
            self._take(self._control())
        except (Transient, OutcomeUnknown, ConfigProblem) as exc:
            self._tried_us = (
                self._clock.now_us()
            )  # after the look: one that hangs takes longer than the pause itself
            self._failure = exc if isinstance(exc, ConfigProblem) else Transient(str(exc))
            self._facts(RulesNotRefreshed(rules=self._known.digest, error=str(exc)))
            raise self._failure from exc
        self._looked_us, self._failure = (
            now_us,
            None,
        )  # as of before the look: what came during it may be missed

    def _take(self, control: Control | None) -> None:
        if control is None:
            return
        if control.revision() == self._revision:
            return
        judged = control.judged()
        # Suspended tenants too: what was acknowledged is archived.
        found = self._sound([tenant.name for tenant in judged.tenants], judged.publications)
        self._revision = judged.revision
        if found.digest != self._known.digest:
            self._known = found
            self._facts(
                RulesChanged(rules=found.digest, tenants=len(found.tenants), event_types=len(found.schemas))
            )

    def _sound(self, tenants: Sequence[str], publications: Sequence[Publication]) -> Rules:
        """Return rules of what may be judged by; tell what may not, once."""
        left_out, sound = [], []
        for one in publications:
            name = one.event_type, one.version
            known, fault = self._faults.get(name, (None, ""))
            if known != one:
                fault = fault_of(one)
                self._faults[name] = one, fault
            if fault:
                left_out.append(LeftOut(*name, fault))
            else:
                sound.append(one)
        found, unfit = fitting(self._base, tenants, sound)
        now = frozenset([*left_out, *unfit])
        for new in sorted(now - self._left_out):
            self._facts(SchemaLeftOut(new.event_type, new.version, new.why))
        self._left_out = now
        return found
