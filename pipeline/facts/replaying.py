"""What replay says."""

from typing import ClassVar

from pipeline.core.metric import Metric
from pipeline.facts.fact import Fact, Level


class ReplayJobStarted(Fact, frozen=True):
    """A replay job begins or goes on: `chunks` are left of it."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("started_replays", "counter", "Count", "Replay jobs started or resumed."),
        Metric("planned_replay_chunks", "counter", "Count", "Chunks these jobs had before them.", "chunks"),
    )
    job: str
    chunks: int


class ReplayChunkDone(Fact, frozen=True):
    """One chunk of a replay job is done, for good."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("replay_chunks", "counter", "Count", "Chunks of replay jobs done."),
        Metric("replay_events", "counter", "Count", "Events replayed.", "events"),
        Metric("replay_rows", "counter", "Count", "Rows that replay read.", "rows"),
        Metric("replay_messages", "counter", "Count", "Messages that replay sent.", "messages"),
        Metric("replay_seconds", "counter", "Seconds", "Time spent on chunks of replay jobs.", "seconds"),
    )
    job: str
    chunk: int
    events: int
    rows: int
    messages: int
    seconds: float


class ReplayMessageRefused(Fact, frozen=True):
    """Messages of a replay job could not be handled and will not be tried again.

    `reason` is unreadable, unknown, strange rows or given up; in the dead-letter queue each message has its own.
    """

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "refused_replay_messages",
            "counter",
            "Count",
            "Messages of replay jobs that were given up.",
            "messages",
        ),
    )
    job: str
    reason: str
    messages: int


class ReplayJobFinished(Fact, frozen=True):
    """A replay job is through all of its chunks."""

    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("finished_replays", "counter", "Count", "Replay jobs that are through all of their chunks."),
    )
    job: str
    chunks: int
    seconds: float


class ReplayJobStopped(Fact, frozen=True):
    """A replay job goes no further by itself: `state` is stale or failed; the job has the reason."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric(
            "stopped_replays", "counter", "Count", "Replay jobs that became stale or failed.", label="state"
        ),
    )
    job: str
    state: str


class ReplaySendingFailed(Fact, frozen=True):
    """Messages of a replay job that the API started or resumed could not all be sent: the job waits until it is resumed."""

    level: ClassVar[Level] = "ERROR"
    metrics: ClassVar[tuple[Metric, ...]] = (
        Metric("failed_sendings", "counter", "Count", "Times that a replay job was not sent to its end."),
    )
    job: str
    error: str
