"""The closed set of facts: everything the workers say about themselves.

One fact is one log line and its metrics. Names are `<Noun><PastVerb>`; a fact speaks of a batch, never of one
event, and never carries a payload. Level: INFO as planned, WARN nothing lost but look, ERROR lost or needs a person.
"""

from typing import ClassVar, Literal, Protocol

import msgspec

Level = Literal["INFO", "WARN", "ERROR"]


class Fact(msgspec.Struct, frozen=True, tag_field="fact", tag=True):
    """One thing that happened."""

    level: ClassVar[Level] = "INFO"


class LoaderOpened(Fact, frozen=True):
    """A loader knows where it goes on: after `ordinal` of its lineage."""

    lineage: str
    shard_id: str
    ordinal: int


class WindowLoaded(Fact, frozen=True):
    """The duplicate window was read back from `ids/`. `reached_us` is the arrival it reaches back to."""

    lineage: str
    segments: int
    ids: int
    bytes: int
    reached_us: int


class SegmentCommitted(Fact, frozen=True):
    """A segment is decided, written and committed."""

    lineage: str
    ordinal: int
    reason: str
    records: int
    rows: int
    duplicates: int
    quarantined: int
    files: int
    bytes: int
    seconds: float


class SegmentFinished(Fact, frozen=True):
    """A segment that somebody had planned and not committed was finished from its staging object."""

    level: ClassVar[Level] = "WARN"
    lineage: str
    ordinal: int
    rows: int
    duplicates: int
    quarantined: int
    files: int
    bytes: int


class PlanRefused(Fact, frozen=True):
    """A plan did not hold; raw records are kept and judged again."""

    level: ClassVar[Level] = "WARN"
    lineage: str
    ordinal: int
    answer: str


class UnitsRefused(Fact, frozen=True):
    """Units went to quarantine, by code."""

    level: ClassVar[Level] = "WARN"
    lineage: str
    ordinal: int
    codes: dict[str, int]


class CallRetried(Fact, frozen=True):
    """A call to the outside will be tried again."""

    level: ClassVar[Level] = "WARN"
    call: str
    attempt: int
    error: str


class ShardEnded(Fact, frozen=True):
    """A closed shard was read to its end, and all of it is committed."""

    lineage: str
    shard_id: str


class ReplayJobStarted(Fact, frozen=True):
    """A replay job is frozen and is being sent, or goes on being sent."""

    job: str
    chunks: int
    messages: int
    events: int


class ReplayChunkDone(Fact, frozen=True):
    """A chunk of a replay job is done: its results are written. `rows` were read, `messages` were in hand."""

    job: str
    chunk: int
    events: int
    rows: int
    messages: int
    seconds: float


class ReplayMessageRefused(Fact, frozen=True):
    """A replay message was put into the dead-letter queue; `job` is empty where it names none."""

    level: ClassVar[Level] = "ERROR"
    job: str
    reason: str


class ReplayJobFinished(Fact, frozen=True):
    """All chunks of a replay job are done. `rows` are those its pointers cover."""

    job: str
    events: int
    rows: int


class WorkerStarted(Fact, frozen=True):
    """A worker process is ready."""

    worker: str
    version: str
    rules: str
    endpoint: str


class WorkerStopped(Fact, frozen=True):
    """A worker process ends in order, everything it had read committed."""

    worker: str


class WorkerCrashed(Fact, frozen=True):
    """A worker process ends because of an unknown error; the ledger makes its restart exact."""

    level: ClassVar[Level] = "ERROR"
    worker: str
    error: str


class FactSink(Protocol):
    """Where facts go. Called from any thread; never raises, never blocks for long."""

    def __call__(self, fact: Fact) -> None:
        """Take one fact."""
        ...
