"""The guards of replay, each with a switch that turns it off."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from pipeline.core.entity_day import EntityDay
from pipeline.core.index import Pointer
from pipeline.core.replay_job import Chunk, Job, JobState
from pipeline.core.segment import settled
from pipeline.flows import replay_basis, replay_plan
from pipeline.flows.process import Processor
from pipeline.flows.replay_basis import Snapshot
from pipeline.ports.ledger import Ledger
from tests.fakes.replay import MemoryEntityDays, MemoryJobs
from tests.sim.broken import patched
from tests.sim.guards import Switches
from tests.sim.invariants import Invariant


@dataclass(frozen=True)
class ReplayGuard(Switches):
    """One way to run replay without a guard; `caught_by` as for the loader's."""

    jobs: Callable[[], MemoryJobs] = MemoryJobs
    days: Callable[[], MemoryEntityDays] = MemoryEntityDays
    processor: type[Processor] = Processor


class BasisNotCompared(MemoryEntityDays):
    """The last result written stays."""

    def gives_way(self, row: EntityDay) -> bool:
        return row is not None


class ChunksCountedAgain(MemoryJobs):
    """A chunk counts whenever somebody says that it is done."""

    def finish_chunk(self, chunk: Chunk) -> bool:
        job = self.get(chunk.job)
        self.chunks_by_key[chunk.job, chunk.number] = msgspec.structs.replace(chunk, done=True)
        done = {"done_chunks": job.done_chunks + 1, "done_events": job.done_events + chunk.events}
        self.jobs[job.id] = msgspec.structs.replace(job, **done)
        return True


class AnyMove(MemoryJobs):
    """A job's state is set whatever it was."""

    def move(
        self, job: str, before: Sequence[JobState], after: JobState, at_us: int, reason: str = ""
    ) -> bool:
        return super().move(job, (*before, self.get(job).state), after, at_us, reason)


class JobFirst(MemoryJobs):
    """The job is there before its chunks are."""

    def parts(self, job: Job, chunks: Sequence[tuple[Chunk, Sequence[Pointer]]]) -> list[Callable[[], None]]:
        return super().parts(job, chunks)[::-1]


class FrozenAgain(MemoryJobs):
    """A repeated freeze writes the chunks again, as they were."""

    def freeze(self, job: Job, chunks: Sequence[tuple[Chunk, Sequence[Pointer]]]) -> None:
        for store in self.parts(job, chunks):
            store()


class DeletedEarly(Processor):
    """Messages are deleted when they come, before their chunk is done."""

    def _handle(self, group: Any) -> None:
        self._delete(group.receipts)
        super()._handle(group)


class DoneEarly(Processor):
    """A chunk is marked as done before its results are written."""

    def _process(self, job: Job, chunk: Chunk, group: Any) -> bool:
        self._ask("chunk", lambda: self._ports.jobs.finish_chunk(chunk))
        return super()._process(job, chunk, group)


@contextmanager
def planned_count() -> Iterator[None]:
    """Planned segments count as if they were committed."""
    with patched(replay_basis, "settled", lambda newest: newest.ordinal if newest else 0):
        yield


def _once(ledger: Ledger, each: Any, _clock: object, _facts: object) -> Snapshot:
    lineages = ledger.lineages()
    newest = zip(lineages, each(lambda one: settled(ledger.open(one.short).newest), lineages), strict=True)
    return Snapshot(ledger.seal_state(), {one.short: number for one, number in newest if number})


@contextmanager
def read_once() -> Iterator[None]:
    """The ledger is read once, lineage by lineage."""
    with patched(replay_plan, "snapshot", _once):
        yield


_I = Invariant
NO_REPLAY_GUARD = ReplayGuard("replay")
REPLAY_GUARDS = {
    one.name: one
    for one in (
        NO_REPLAY_GUARD,
        ReplayGuard("replay: basis compared", frozenset({_I.RESULTS}), days=BasisNotCompared),
        ReplayGuard("replay: chunk counted once", frozenset({_I.CHUNKS}), jobs=ChunksCountedAgain),
        ReplayGuard("replay: state compared", frozenset({_I.CHUNKS}), jobs=AnyMove),
        ReplayGuard("replay: job frozen last", frozenset({_I.FROZEN}), jobs=JobFirst),
        ReplayGuard("replay: frozen once", frozenset({_I.CHUNKS}), jobs=FrozenAgain),
        ReplayGuard("replay: deleted when done", frozenset({_I.MESSAGES}), processor=DeletedEarly),
        ReplayGuard("replay: done when written", frozenset({_I.RESULTS}), processor=DoneEarly),
        ReplayGuard("replay: committed only", frozenset({_I.RESULTS, _I.UNBROKEN}), patches=(planned_count,)),
        ReplayGuard("replay: one moment", frozenset({_I.RESULTS}), patches=(read_once,)),
    )
}
