"""What a fact is: one thing that happened, told by whoever did it."""

from typing import ClassVar, Literal, Protocol

import msgspec

from pipeline.core.metric import Metric

Level = Literal["INFO", "WARN", "ERROR"]


class Fact(msgspec.Struct, frozen=True, tag_field="fact", tag=True):
    """One thing that happened.

    A sampled fact is told at every look: a page shows it at once, the log has a line now and then.
    """

    level: ClassVar[Level] = "INFO"
    metrics: ClassVar[tuple[Metric, ...]] = ()
    sampled: ClassVar[bool] = False


class FactSink(Protocol):
    """Where facts go. Called from any thread; never raises, never blocks for long."""

    def __call__(self, fact: Fact) -> None:
        """Take one fact."""
        ...
