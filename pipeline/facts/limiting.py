"""What the limiter and the rate-limit service say."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


class LimitStoreFailed(Fact, frozen=True):
    """The table of limits does not answer: requests are let in by each process' own buckets, or refused."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "limit_store_failures",
            "counter",
            "Count",
            "Times, one in ten seconds at most, that the table of limits was told to be down.",
        ),
    )
    store_down: str
    error: str


class LimitStoreAnswered(Fact, frozen=True):
    """The table of limits answers again, after so many seconds."""

    seconds: float


class ClockFoundWrong(Fact, frozen=True):
    """This machine's clock is too far ahead of the table of limits' own (below zero: behind): it takes no leases, and refuses what needs one."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "wrong_clocks",
            "counter",
            "Count",
            "Times, one in ten seconds at most, that a process told that its machine's clock is wrong.",
        ),
    )
    ahead_seconds: int
    allowed_seconds: int


class ClockCorrected(Fact, frozen=True):
    """This machine's clock agrees with the table of limits' own again: leases are taken."""


class AccountFoundAhead(Fact, frozen=True):
    """A stored account is so many seconds ahead of a clock that is right: its month may have begun too early, for all processes."""

    level: ClassVar[Level] = "ERROR"
    tenant: str
    account: str
    ahead_seconds: int


class LimitItemUnreadable(Fact, frozen=True):
    """An account of the table of limits is none of ours: until it is mended, each process counts it by itself, or refuses."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "unreadable_limits",
            "counter",
            "Count",
            "Times, one in ten seconds at most, that an unreadable account of the table of limits was told.",
        ),
    )
    store_down: str
    error: str


class DecisionsDropped(Fact, frozen=True):
    """Decisions of the rate-limit service were not recorded as events: the stream is busy. They hold all the same."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "dropped_decisions",
            "counter",
            "Count",
            "Decisions of the rate-limit service that have no event.",
            "decisions",
        ),
    )
    decisions: int
