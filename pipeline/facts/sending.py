"""What producers say."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


class LinesIngested(Fact, frozen=True):
    """Lines were judged since it was last told; the stream has acknowledged the accepted ones."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("ingested_events", "counter", "Count", "Events that the stream acknowledged.", "accepted"),
        Metric("refused_lines", "counter", "Count", "Lines refused before they were sent.", "refused"),
    )
    lines: int
    accepted: int
    refused: int


class EventsSpilled(Fact, frozen=True):
    """A producer's stream takes nothing: finished batches went to disk. `bytes` is the size of the spill now."""

    level: ClassVar[Level] = "WARN"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("spilled_events", "counter", "Count", "Events that a producer put on disk.", "events"),
    )
    path: str
    batches: int
    events: int
    bytes: int


class SpillOpened(Fact, frozen=True):
    """A producer goes on with what an earlier one left on disk."""

    path: str
    batches: int
    events: int


class SpillDrained(Fact, frozen=True):
    """Everything in a producer's spill is acknowledged."""

    path: str


class StreamMadeAnew(Fact, frozen=True):
    """A producer's stream was deleted and made anew: it sends nothing more. So many batches may be in the new stream, without a receipt."""

    level: ClassVar[Level] = "ERROR"
    stream: str
    epoch: str
    unreceipted_batches: int


class SpillTorn(Fact, frozen=True):
    """The end of a spill file was cut off: a crash came before anybody was told that it is on disk."""

    level: ClassVar[Level] = "WARN"
    path: str
    bytes: int
