"""When a loader looks for newer rules, and what it does when nobody can tell it any.

It looks when a unit names a tenant, type or version that its rules do not know, if that unit arrived after the last look: a
tenant is registered before its first event is sent. And it looks every 30 seconds. A store that does not answer holds nobody
up for long: the unit is refused and kept in quarantine, where a redrive takes it up; held back, it would hold back its shard,
and anyone who can write to the stream could stop it with one made-up name.
"""

from collections.abc import Sequence

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.event import Record, Refusal, RefusalCode
from pipeline.core.rules import Rules
from pipeline.flows.rules import LOOK_SECONDS
from pipeline.ports.clock import Clock
from pipeline.ports.rules import NewestRules

_UNKNOWN = frozenset({RefusalCode.UNKNOWN_TENANT, RefusalCode.UNKNOWN_TYPE, RefusalCode.UNKNOWN_VERSION})
_SKEW_US = 5_000_000  # by which Kinesis' clock, which arrivals are of, may be ahead of ours


class RulesLook:
    """The looks of one loader; used by its thread."""

    def __init__(self, newest: NewestRules, clock: Clock) -> None:
        self._newest, self._clock = newest, clock
        self._looked_at = clock.monotonic()
        self._asked = False  # in this batch

    def begin_batch(self) -> None:
        """Call before records are collected: a batch asks once at most."""
        self._asked = False

    def for_unknown(self, refusals: Sequence[Refusal], records: Sequence[Record]) -> Rules | None:
        """Return newer rules when something unknown was refused; None: those that it had are the newest that can be had."""
        arrived_us = [records[one.record].arrived_us for one in refusals if one.code in _UNKNOWN]
        if not arrived_us or self._asked:
            return None
        self._asked = True
        return self._look(min(max(arrived_us) + _SKEW_US, self._clock.now_us()))

    def when_due(self) -> Rules | None:
        """Return the newest rules every 30 seconds, else None."""
        if self._clock.monotonic() - self._looked_at < LOOK_SECONDS:
            return None
        return self._look(self._clock.now_us() - round(LOOK_SECONDS * 1e6))

    def _look(self, since_us: int) -> Rules | None:
        self._looked_at = self._clock.monotonic()
        try:
            return self._newest.newest(since_us)
        except (Transient, ConfigProblem):  # told as a fact where it was tried
            return self._newest()
