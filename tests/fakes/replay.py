"""Ports `ReplayJobs`, `MessageQueue` and `EntityDays` in memory."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from pipeline.core.entity_day import EntityDay
from pipeline.core.errors import NotFound, StoreUnusable
from pipeline.core.index import Pointer
from pipeline.core.replay_job import ENDED, Chunk, Job, JobState
from pipeline.ports.clock import Clock
from pipeline.ports.queue import Received

_BATCH = 10


class MemoryJobs:
    """Jobs, chunks and pointers by name; each condition is one `if`."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.chunks_by_key: dict[tuple[str, int], Chunk] = {}
        self.frozen: dict[tuple[str, int], list[Pointer]] = {}
        self.begun: Counter[tuple[str, int]] = Counter()

    def freeze(self, job: Job, chunks: Sequence[tuple[Chunk, Sequence[Pointer]]]) -> None:
        """Store pointers, chunks, then the job, unless it is there."""
        if job.id not in self.jobs:
            for store in self.parts(job, chunks):
                store()

    def parts(self, job: Job, chunks: Sequence[tuple[Chunk, Sequence[Pointer]]]) -> list[Callable[[], None]]:
        """Return the writes of freezing, in their order."""

        def store(chunk: Chunk, pointers: Sequence[Pointer]) -> None:
            key = (chunk.job, chunk.number)
            self.frozen[key], self.chunks_by_key[key] = list(pointers), chunk

        def store_job() -> None:
            self.jobs.setdefault(job.id, job)

        return [*(partial(store, *one) for one in chunks), store_job]

    def get(self, job: str) -> Job:
        """Return a job."""
        if job not in self.jobs:
            raise NotFound(f"no replay job {job}")
        return self.jobs[job]

    def newest(self) -> list[Job]:
        """Return all jobs, newest first."""
        return [self.jobs[name] for name in sorted(self.jobs, reverse=True)]

    def chunks(self, job: str) -> list[Chunk]:
        """Return a job's chunks, by number."""
        return [self.chunks_by_key[key] for key in sorted(self.chunks_by_key) if key[0] == job]

    def chunk(self, job: str, number: int) -> Chunk:
        """Return one chunk."""
        if (job, number) not in self.chunks_by_key:
            raise NotFound(f"no chunk {number} of replay job {job}")
        return self.chunks_by_key[job, number]

    def pointers(self, chunk: Chunk) -> list[Pointer]:
        """Return a chunk's pointers."""
        return list(self.frozen[chunk.job, chunk.number])

    def move(
        self, job: str, before: Sequence[JobState], after: JobState, at_us: int, reason: str = ""
    ) -> bool:
        """Set a job's state by compare-and-set."""
        found = self.get(job)
        if found.state not in before:
            return False
        ended_us = at_us if after in ENDED else None
        self.jobs[job] = msgspec.structs.replace(found, state=after, reason=reason, ended_us=ended_us)
        return True

    def note_sent(self, job: str, steps: int, messages: int) -> None:
        """Store how far sending is."""
        self.jobs[job] = msgspec.structs.replace(self.get(job), sent_steps=steps, sent_messages=messages)

    def begin_chunk(self, chunk: Chunk) -> int:
        """Count that work on a chunk begins."""
        self.begun[chunk.job, chunk.number] += 1
        return self.begun[chunk.job, chunk.number]

    def finish_chunk(self, chunk: Chunk) -> bool:
        """Mark a chunk as done and count it, once."""
        if self.chunk(chunk.job, chunk.number).done:
            return False
        job = self.get(chunk.job)
        self.chunks_by_key[chunk.job, chunk.number] = msgspec.structs.replace(chunk, done=True)
        self.jobs[job.id] = msgspec.structs.replace(
            job, done_chunks=job.done_chunks + 1, done_events=job.done_events + chunk.events
        )
        return True


@dataclass
class Waiting:
    """A message in the queue."""

    body: str
    receipt: str = ""
    attempts: int = 0
    hidden_until: float = 0.0


class MemoryQueue:
    """Messages in the order they came; tests may shuffle, repeat or read `waiting`."""

    def __init__(self, clock: Clock, visibility_seconds: int = 120) -> None:
        self._clock, self._visibility_seconds = clock, visibility_seconds
        self._receipts = 0
        self.waiting: list[Waiting] = []
        self.there = True  # False: somebody deleted the queue
        self.buried: list[tuple[str, str]] = []

    def ask(self) -> None:
        """Ask whether the queue is there."""
        if not self.there:
            raise StoreUnusable("queue replay: there is none", ("replay queue",))

    def send(self, bodies: Sequence[str]) -> None:
        """Put messages."""
        self.ask()
        self.waiting += [Waiting(body) for body in bodies]

    def receive(self, wait_seconds: int) -> list[Received]:
        """Return up to ten visible messages and hide them."""
        now = self._clock.monotonic()
        found = [one for one in self.waiting if one.hidden_until <= now][:_BATCH]
        if not found:
            self._clock.idle(wait_seconds)
        for one in found:
            self._receipts += 1
            one.receipt, one.attempts = f"r{self._receipts}", one.attempts + 1
            one.hidden_until = now + self._visibility_seconds
        return [Received(one.body, one.receipt, one.attempts) for one in found]

    def delete(self, receipts: Sequence[str]) -> None:
        """Remove received messages."""
        self.waiting = [one for one in self.waiting if not one.receipt or one.receipt not in receipts]

    def hide(self, receipts: Sequence[str], seconds: int) -> None:
        """Change how long received messages stay hidden."""
        now = self._clock.monotonic()
        for one in self.waiting:
            if one.receipt in receipts and one.hidden_until > now:
                one.hidden_until = now + seconds

    def bury(self, messages: Sequence[tuple[str, str]]) -> None:
        """Put messages with their reasons into the dead-letter queue."""
        self.buried += messages

    def depth(self) -> int:
        """Return how many messages there are."""
        return len(self.waiting)

    def in_hand(self) -> int:
        """Return how many messages are hidden."""
        return sum(one.hidden_until > self._clock.monotonic() for one in self.waiting)


class MemoryEntityDays:
    """Results by key; the fence is one method."""

    def __init__(self) -> None:
        self.rows: dict[tuple[str, str, str, str], EntityDay] = {}

    def put_newer(self, rows: Sequence[EntityDay]) -> None:
        """Write each row over an equal or older basis."""
        for row in rows:
            if self.gives_way(row):
                self.rows[row.tenant_id, row.entity_id, row.dt, row.scope] = row

    def gives_way(self, row: EntityDay) -> bool:
        """True when the row there is not of a newer basis, or none is there."""
        before = self.rows.get((row.tenant_id, row.entity_id, row.dt, row.scope))
        return before is None or before.basis <= row.basis

    def find(self, tenant_id: str, entity_id: str, first_dt: str, last_dt: str) -> list[EntityDay]:
        """Return an entity's rows of some days, by day and scope."""
        found = [self.rows[key] for key in sorted(self.rows)]
        mine = [one for one in found if (one.tenant_id, one.entity_id) == (tenant_id, entity_id)]
        return [one for one in mine if first_dt <= one.dt <= last_dt]

    def all_rows(self) -> Iterator[EntityDay]:
        """Yield every row."""
        return iter([self.rows[key] for key in sorted(self.rows)])
