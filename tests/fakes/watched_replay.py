"""The ports of replay, every call through one function; see `tests.fakes.watched`."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.core.entity_day import EntityDay
from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.core.index import Pointer
from pipeline.core.replay_job import Chunk, Job, JobState
from pipeline.ports.entity_days import EntityDays
from pipeline.ports.jobs import ReplayJobs
from pipeline.ports.queue import MessageQueue, Received
from tests.fakes.replay import MemoryJobs
from tests.fakes.watched import Effect, Perform


@dataclass(frozen=True)
class WatchedJobs:
    """Port `ReplayJobs`, watched."""

    inner: ReplayJobs
    perform: Perform

    def freeze(self, job: Job, chunks: Sequence[tuple[Chunk, Sequence[Pointer]]]) -> None:
        """Store a job; may be torn where the writes inside can be told apart."""
        writes = self.inner.parts(job, chunks) if isinstance(self.inner, MemoryJobs) else []

        def first(parts: Sequence[int]) -> None:
            for write in writes[: len(parts)]:
                write()

        act = lambda: self.inner.freeze(job, chunks)  # noqa: E731
        torn = first if writes else None
        self.perform(Effect("jobs.freeze", act, OutcomeUnknown, torn=torn, parts=max(len(writes) - 1, 0)))

    def get(self, job: str) -> Job:
        """Return a job."""
        return self.perform(Effect("jobs.get", lambda: self.inner.get(job)))

    def newest(self) -> list[Job]:
        """Return all jobs."""
        return self.perform(Effect("jobs.newest", self.inner.newest))

    def chunks(self, job: str) -> list[Chunk]:
        """Return a job's chunks."""
        return self.perform(Effect("jobs.chunks", lambda: self.inner.chunks(job)))

    def chunk(self, job: str, number: int) -> Chunk:
        """Return a chunk."""
        return self.perform(Effect(f"jobs.chunk {number}", lambda: self.inner.chunk(job, number)))

    def pointers(self, chunk: Chunk) -> list[Pointer]:
        """Return a chunk's pointers."""
        return self.perform(Effect(f"jobs.pointers {chunk.number}", lambda: self.inner.pointers(chunk)))

    def move(
        self, job: str, before: Sequence[JobState], after: JobState, at_us: int, reason: str = ""
    ) -> bool:
        """Move a job."""
        move = self.inner.move
        act = lambda: move(job, before, after, at_us, reason)  # noqa: E731
        return self.perform(Effect(f"jobs.move {after}", act, OutcomeUnknown))

    def note_sent(self, job: str, steps: int, messages: int) -> None:
        """Note how far sending is."""
        act = lambda: self.inner.note_sent(job, steps, messages)  # noqa: E731
        self.perform(Effect(f"jobs.note_sent {steps}", act, OutcomeUnknown))

    def begin_chunk(self, chunk: Chunk) -> int:
        """Begin a chunk."""
        act = lambda: self.inner.begin_chunk(chunk)  # noqa: E731
        return self.perform(Effect(f"jobs.begin_chunk {chunk.number}", act, OutcomeUnknown))

    def finish_chunk(self, chunk: Chunk) -> bool:
        """Finish a chunk."""
        act = lambda: self.inner.finish_chunk(chunk)  # noqa: E731
        return self.perform(Effect(f"jobs.finish_chunk {chunk.number}", act, OutcomeUnknown))


@dataclass(frozen=True)
class WatchedQueue:
    """Port `MessageQueue`, watched."""

    inner: MessageQueue
    perform: Perform

    def ask(self) -> None:
        """Ask whether the queue is there."""
        self.perform(Effect("queue.ask", self.inner.ask))

    def send(self, bodies: Sequence[str]) -> None:
        """Send messages; may be torn."""
        bodies = list(bodies)

        def some(parts: Sequence[int]) -> None:
            self.inner.send([bodies[part] for part in parts])

        act = lambda: self.inner.send(bodies)  # noqa: E731
        self.perform(Effect(f"queue.send {len(bodies)}", act, OutcomeUnknown, torn=some, parts=len(bodies)))

    def receive(self, wait_seconds: int) -> list[Received]:
        """Receive; an answer that is lost hides messages for a while."""
        return self.perform(Effect("queue.receive", lambda: self.inner.receive(wait_seconds), Transient))

    def delete(self, receipts: Sequence[str]) -> None:
        """Delete messages."""
        act = lambda: self.inner.delete(receipts)  # noqa: E731
        self.perform(Effect(f"queue.delete {len(receipts)}", act, OutcomeUnknown))

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Hide messages."""
        act = lambda: self.inner.hide(receipts, seconds)  # noqa: E731
        self.perform(Effect(f"queue.hide {len(receipts)} {seconds}", act, OutcomeUnknown))

    def bury(self, messages: Sequence[tuple[str, str]]) -> None:
        """Bury messages."""
        act = lambda: self.inner.bury(messages)  # noqa: E731
        self.perform(Effect(f"queue.bury {len(messages)}", act, OutcomeUnknown))

    def depth(self) -> int:
        """Return how many messages there are."""
        return self.perform(Effect("queue.depth", self.inner.depth))

    def in_hand(self) -> int:
        """Return how many messages are in somebody's hand."""
        return self.perform(Effect("queue.in_hand", self.inner.in_hand))


@dataclass(frozen=True)
class WatchedEntityDays:
    """Port `EntityDays`, watched."""

    inner: EntityDays
    perform: Perform

    def put_newer(self, rows: Sequence[EntityDay]) -> None:
        """Write rows; may be torn."""

        def some(parts: Sequence[int]) -> None:
            self.inner.put_newer([rows[part] for part in parts])

        act = lambda: self.inner.put_newer(rows)  # noqa: E731
        self.perform(Effect("days.put_newer", act, OutcomeUnknown, torn=some, parts=len(rows)))

    def find(self, tenant_id: str, entity_id: str, first_dt: str, last_dt: str) -> list[EntityDay]:
        """Return rows."""
        find = self.inner.find
        return self.perform(Effect("days.find", lambda: find(tenant_id, entity_id, first_dt, last_dt)))

    def all_rows(self) -> Iterator[EntityDay]:
        """Yield every row."""
        return iter(self.perform(Effect("days.all_rows", lambda: list(self.inner.all_rows()))))
