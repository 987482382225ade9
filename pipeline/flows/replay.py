"""A replay job's life: freeze the plan, send its messages, see it done.

1. freeze: pointers, chunks, then the job; from here on it means these rows, whatever lands later
2. frozen -> sending
3. send the first message of every chunk, then the rest chunk by chunk: processors that share the queue then begin with
   different chunks, and the rest of a chunk usually finds it done; one that is done meanwhile is not sent to its end
4. sending -> sent; processors work since the first message (`flows.process`)
5. sending or sent -> done, by whoever sees the last chunk done: a sender that was stopped has nothing left to send then

Any step may be repeated: a message that is sent twice finds its chunk done.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import TypeVar

import msgspec
import numpy as np

from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.core.index import Pointer
from pipeline.core.replay import matches
from pipeline.core.replay_job import UNFINISHED, Chunk, Job, JobState, Message, job_id, plain, write_message
from pipeline.facts import FactSink, ReplayJobFinished, ReplayJobStarted, ReplayJobStopped
from pipeline.flows.replay_pace import Pace
from pipeline.flows.replay_plan import Plan, messages_of
from pipeline.flows.replay_rows import RowsGone, read_pointers
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.jobs import ReplayJobs
from pipeline.ports.queue import MessageQueue
from pipeline.ports.reading import ReadRows

SEND_MESSAGES = 1_000  # held at once, and what a crash sends again
_MAY_BE_DONE: tuple[JobState, ...] = ("sending", "sent", "failed")
T = TypeVar("T")


@dataclass(frozen=True)
class ReplayPorts:
    """What starting a job needs.

    Attributes:
        new_id: returns letters and digits that nobody had before.
        max_ahead_messages: see `flows.replay_pace`.
    """

    jobs: ReplayJobs
    queue: MessageQueue
    read: ReadRows
    new_id: Callable[[], str]
    clock: Clock
    facts: FactSink
    max_ahead_messages: int | None = None

    def ask(self, name: str, call: Callable[[], T]) -> T:
        """Make a call that may be repeated."""
        return again(name, call, clock=self.clock, facts=self.facts)


def start(plan: Plan, ports: ReplayPorts, progress: Callable[[int], None] = lambda _sent: None) -> Job:
    """Freeze a plan as a job and send it; return the job as it is then.

    Raises:
        Transient, OutcomeUnknown: the job is frozen, and `resume` goes on sending it.
    """
    return resume(freeze(plan, ports).id, ports, progress)


def freeze(plan: Plan, ports: ReplayPorts, name: str | None = None, traceparent: str | None = None) -> Job:
    """Store a plan's pointers under a new job (step 1); the job's list of rows never changes again.

    Args:
        plan: what the job is about.
        ports: what that needs.
        name: the job's id, of `job_id`, that nobody used before, not even for a job that was never stored to its end.
        traceparent: of a traced request: the job's chunks become spans of its trace.
    """
    now_us = ports.clock.now_us()
    job = name or job_id(now_us, ports.new_id())
    chunks = _chunks(job, plan)
    frozen = Job(
        id=job,
        selection=plan.selection,
        granularity=plan.granularity,
        basis=plan.basis,
        chunks=len(chunks),
        events=plan.events,
        rows=plan.rows,
        messages=plan.messages,
        bytes=plan.bytes,
        first_us=plan.first_us,
        last_us=plan.last_us,
        created_us=now_us,
        traceparent=traceparent,
    )
    ports.ask("freeze", lambda: ports.jobs.freeze(frozen, chunks))
    return frozen


def _chunks(job: str, plan: Plan) -> list[tuple[Chunk, Sequence[Pointer]]]:
    return [
        (
            Chunk(
                job=job,
                number=one.number,
                first_dt=one.first_dt,
                last_dt=one.last_dt,
                events=one.events,
                rows=sum(pointer.rows for pointer in one.pointers),
                messages=messages_of(one, plan.granularity),
            ),
            one.pointers,
        )
        for one in plan.chunks
    ]


def resume(job_id: str, ports: ReplayPorts, progress: Callable[[int], None] = lambda _sent: None) -> Job:
    """Send what is not sent yet of a job (steps 2 to 5); return the job as it is then.

    A job that was sent, or has failed, is sent again, all its chunks that are not done: messages do not live for ever.
    Rows that are gone make it stale, rows that contradict it failed.

    Raises:
        NotFound: there is no such job.
        ConfigProblem: it is stale.
    """
    job = ports.ask("job", lambda: ports.jobs.get(job_id))
    if job.state == "stale":
        raise ConfigProblem(f"replay job {job_id} is stale: {job.reason}; start a new one")
    if job.state == "done":
        return job
    if job.state in ("sent", "failed"):
        ports.ask("note", lambda: ports.jobs.note_sent(job_id, 0, 0))
        job = msgspec.structs.replace(job, sent_messages=0)
    now_us = ports.clock.now_us()
    ports.ask("job", lambda: ports.jobs.move(job_id, UNFINISHED, "sending", now_us))
    chunks = [one for one in ports.ask("chunks", lambda: ports.jobs.chunks(job_id)) if not one.done]
    ports.facts(ReplayJobStarted(job=job_id, chunks=len(chunks)))
    try:
        _send(job, chunks, 0 if job.state in ("sent", "failed") else job.sent_steps, ports, progress)
    except RowsGone as exc:
        return _end(job_id, "stale", f"an object is gone: {exc}", ports)
    except Corrupt as exc:
        return _end(job_id, "failed", str(exc), ports)
    ports.ask("job", lambda: ports.jobs.move(job_id, ("sending",), "sent", now_us))
    return settle(job_id, ports.jobs, ports.clock, ports.facts)


def _end(job_id: str, state: JobState, reason: str, ports: ReplayPorts) -> Job:
    """Give a job up; return it as it is then."""
    give_up(job_id, state, reason, ports.jobs, ports.clock, ports.facts)
    return ports.ask("job", lambda: ports.jobs.get(job_id))


def give_up(
    job_id: str, state: JobState, reason: str, jobs: ReplayJobs, clock: Clock, facts: FactSink
) -> None:
    """Make a job stale or failed, and tell it; one that is so already keeps its first reason."""
    now_us, before = clock.now_us(), [one for one in UNFINISHED if one != state]
    move = partial(jobs.move, job_id, before, state, now_us, plain(reason))
    if again("job", move, clock=clock, facts=facts):
        facts(ReplayJobStopped(job=job_id, state=state))


def settle(job_id: str, jobs: ReplayJobs, clock: Clock, facts: FactSink) -> Job:
    """Move a job whose chunks are all done to done (step 5), its sender stopped or not; return it as it is then."""
    job = again("job", lambda: jobs.get(job_id), clock=clock, facts=facts)
    if job.state not in _MAY_BE_DONE or job.done_chunks < job.chunks:
        return job
    now_us = clock.now_us()
    if again("job", lambda: jobs.move(job_id, _MAY_BE_DONE, "done", now_us), clock=clock, facts=facts):
        seconds = round((now_us - job.created_us) / 1e6, 3)
        facts(ReplayJobFinished(job=job_id, chunks=job.chunks, seconds=seconds))
    return again("job", lambda: jobs.get(job_id), clock=clock, facts=facts)


def _send(
    job: Job, chunks: Sequence[Chunk], begin: int, ports: ReplayPorts, progress: Callable[[int], None]
) -> None:
    """Send steps `begin` and on (step 3). Step k < chunks: the head of chunk k + 1; after those: the rest of each."""
    held: list[str] = []
    sent, pace = 0, Pace(ports.queue, ports.clock, ports.max_ahead_messages)
    left = {one.number: one for one in chunks}
    for step in range(begin, 2 * job.chunks):
        number, head = step % job.chunks + 1, step < job.chunks
        chunk = left.get(number)
        if chunk is not None:
            found = _messages(job, chunk, ports)
            for text in islice(found, 1) if head else islice(found, 1, None):
                held.append(text)
                if len(held) >= SEND_MESSAGES:
                    sent += _flush(job, held, (step, sent), ports)
                    progress(sent)
                    if not head and pace.wait(partial(_is_done, job, number, ports)):
                        break  # the rest would be dropped unread
    sent += _flush(job, held, (2 * job.chunks, sent), ports)
    progress(sent)


def _is_done(job: Job, number: int, ports: ReplayPorts) -> bool:
    return bool(ports.ask("chunk", lambda: ports.jobs.chunk(job.id, number)).done)


def _flush(job: Job, held: list[str], far: tuple[int, int], ports: ReplayPorts) -> int:
    """Send what is held, and return how much it was; only then is it noted.

    Args:
        job: as it was when this sending began.
        held: messages.
        far: the first step that is not sent to its end, and how many messages this sending has sent before.
        ports: where to.
    """
    more, (steps, before) = len(held), far
    if held:
        ports.ask("send", lambda: ports.queue.send(held))
        held.clear()
    messages = min(job.sent_messages + before + more, job.messages)  # resumed, it sends some twice
    ports.ask("note", lambda: ports.jobs.note_sent(job.id, steps, messages))
    return more


def _messages(job: Job, chunk: Chunk, ports: ReplayPorts) -> Iterator[str]:
    """Yield a chunk's messages, in order, one pointer's rows in memory at a time."""
    pointers = ports.ask("pointers", lambda: ports.jobs.pointers(chunk))
    for one in pointers:
        if job.granularity == "pointer":
            yield write_message(Message(1, job.id, chunk.number, one.key, one.first_row, one.rows))
            continue
        for row, event_id in _events(job, one, ports):
            yield write_message(Message(1, job.id, chunk.number, one.key, row, 1, event_id))


def _events(job: Job, pointer: Pointer, ports: ReplayPorts) -> Iterator[tuple[int, str]]:
    """Yield the row and id of each event of a pointer."""
    read = partial(read_pointers, job.selection, [pointer], ["event_id"], ports.read, f"replay job {job.id}")
    table = ports.ask("rows", read)
    hits = np.flatnonzero(matches(table, job.selection))
    ids = table.column("event_id").to_pylist()
    for place in hits.tolist():
        yield pointer.first_row + place, ids[place]
