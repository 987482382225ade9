"""Replay jobs (table `replay_jobs`): frozen once, moved by compare-and-set."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.core.index import Pointer
from pipeline.core.replay_job import Chunk, Job, JobState


class ReplayJobs(Protocol):
    """Jobs, their chunks and pointers. Called by whoever starts a job and by any number of processors."""

    def freeze(self, job: Job, chunks: Sequence[tuple[Chunk, Sequence[Pointer]]]) -> None:
        """Store a job: first its pointers and chunks, then, unless it is there, the job itself.

        May be repeated with the same arguments, also when its chunks are worked on already: what is done stays done. On
        return all of it is there. A job that was not stored to its end does not exist: nobody lists it.

        Raises:
            Transient, OutcomeUnknown: some may be stored; repeat the whole call.
        """
        ...

    def get(self, job: str) -> Job:
        """Return a job, in a consistent read.

        Raises:
            NotFound: there is none of this id.
            Transient: try again.
        """
        ...

    def newest(self) -> list[Job]:
        """Return all jobs, newest first."""
        ...

    def chunks(self, job: str) -> list[Chunk]:
        """Return a job's chunks, by number; consistent."""
        ...

    def chunk(self, job: str, number: int) -> Chunk:
        """Return one chunk; consistent.

        Raises:
            NotFound: there is none of this number.
            Transient: try again.
        """
        ...

    def pointers(self, chunk: Chunk) -> list[Pointer]:
        """Return a chunk's pointers, file by file.

        Raises:
            Corrupt: a part of them is gone or unreadable.
            Transient: try again.
        """
        ...

    def move(
        self, job: str, before: Sequence[JobState], after: JobState, at_us: int, reason: str = ""
    ) -> bool:
        """Set a job's state, if it is one of `before`; `ended_us` becomes `at_us` where `after` is an end, else None.

        Returns:
            True when this call moved it. False says only that it is in another state now, perhaps by an earlier try of
            the very same call.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def note_sent(self, job: str, steps: int, messages: int) -> None:
        """Store how far sending is, in steps and in messages; may be repeated.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def begin_chunk(self, chunk: Chunk) -> int:
        """Count that work on a chunk begins, and return how often it did; a repeated call may count twice.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...

    def finish_chunk(self, chunk: Chunk) -> bool:
        """Mark a chunk as done and count it in its job, both or neither, once: a chunk that is done is left as it is.

        Returns:
            True when this call did it; False also when an earlier try of the very same call did.

        Raises:
            Transient, OutcomeUnknown: repeat the call.
        """
        ...
