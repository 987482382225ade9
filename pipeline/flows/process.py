"""The processor of replay messages: a message wakes it, the table tells it what to do.

1. receive up to ten messages; what cannot be read goes to the dead-letter queue, then out of this one
2. group them by job and chunk; a chunk that is done, or whose job is stale, only has its messages deleted
3. read the chunk's frozen pointers, and the rows they name
4. fold them by entity and day; write each result over an equal or older basis
5. mark the chunk as done; when it was the last one, the job
6. delete the messages

Only what is written in steps 4 and 5 lasts, and both may be repeated: a chunk is closed under entity and day, so its
results are whole, and whoever computes them again gets the same.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import compress, groupby
from typing import Literal, TypeVar

import pyarrow as pa

from pipeline.core.entity_day import COLUMNS, EntityDay, EntityDayFold, flagged_rows
from pipeline.core.errors import Corrupt, NotFound, OutcomeUnknown, Transient
from pipeline.core.index import Pointer
from pipeline.core.keys import manifest_place
from pipeline.core.replay import matches, scope_of
from pipeline.core.replay_job import Chunk, Job, JobState, Message, plain, read_message
from pipeline.core.tracing import FinishedSpan, parse_traceparent
from pipeline.facts import FactSink, ReplayChunkDone, ReplayMessageRefused
from pipeline.flows.replay import give_up, settle
from pipeline.flows.replay_rows import RowsGone, read_pointers
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.entity_days import EntityDays
from pipeline.ports.jobs import ReplayJobs
from pipeline.ports.queue import MessageQueue, Received
from pipeline.ports.reading import Each, ReadRows
from pipeline.ports.spans import SpanSink, nowhere

_REMEMBERED = 10_000  # chunks known to be done, and chunks known to be given up
_EMPTY_LOOKS = 3  # in a row until a queue counts as drained: SQS counts its messages only by and by
_STRANGE = "names rows that are not in its chunk"
_LOOK_SECONDS = 0.5  # between them
_WRITE_ROWS = 2_000  # results written between two looks at the time
T = TypeVar("T")
_Refusal = Literal["unreadable", "unknown", "strange rows", "given up"]  # nothing that a sender wrote
_Memory = OrderedDict[tuple[str, int], str]


@dataclass(frozen=True)
class ProcessPorts:
    """What processing needs."""

    queue: MessageQueue
    jobs: ReplayJobs
    days: EntityDays
    read: ReadRows
    each: Each
    clock: Clock
    facts: FactSink
    stopping: Callable[[], bool] = lambda: False
    spans: SpanSink = nowhere


@dataclass(frozen=True)
class ProcessLimits:
    """How messages are handled: `visibility_seconds` as the queue's own, `max_attempts` before a chunk is given up."""

    max_attempts: int = 5
    visibility_seconds: int = 120
    wait_seconds: int = 5  # SQS allows 20; a stop waits so long at most


@dataclass(frozen=True)
class _Group:
    """Messages of one chunk, in hand."""

    job: str
    chunk: int
    messages: list[tuple[Received, Message]]

    @property
    def receipts(self) -> list[str]:
        """Return the receipts of its messages."""
        return [one.receipt for one, _ in self.messages]


class Processor:
    """Handles replay messages, one chunk after the other; used by one thread. Any number may share a queue."""

    def __init__(self, ports: ProcessPorts, limits: ProcessLimits | None = None) -> None:
        self._ports, self._limits = ports, limits or ProcessLimits()
        self._done: _Memory = OrderedDict()
        self._given_up: _Memory = OrderedDict()  # while their jobs are failed, with the reasons
        self._hand: list[str] = []  # receipts of messages that are not dealt with
        self._hidden_at = 0.0

    def run(self, *, drain: bool = False) -> None:
        """Handle messages until asked to stop.

        With `drain`, until nothing is left in the queue or in other hands, three times in a row.
        """
        empty = 0
        while not self._ports.stopping() and empty < _EMPTY_LOOKS:
            if self.step(0 if drain else self._limits.wait_seconds) or not drain:
                empty = 0
                continue
            empty = empty + 1 if self._ask("depth", self._ports.queue.depth) == 0 else 0
            if empty < _EMPTY_LOOKS:
                self._ports.clock.idle(_LOOK_SECONDS)

    def step(self, wait_seconds: int = 0) -> int:
        """Receive once and deal with what came; return how many messages came.

        Asked to stop, it ends after the chunk in hand and gives the other messages back.
        """
        received = self._ask("receive", lambda: self._ports.queue.receive(wait_seconds))
        self._hand, self._hidden_at = [one.receipt for one in received], self._ports.clock.monotonic()
        for group in self._readable(received):
            if self._ports.stopping():
                break
            self._handle(group)
        if self._hand:
            hand, queue = self._hand, self._ports.queue
            self._ask("hide", lambda: queue.hide(hand, 0))
        return len(received)

    def _ask(self, name: str, call: Callable[[], T]) -> T:
        return again(name, call, clock=self._ports.clock, facts=self._ports.facts)

    def _readable(self, received: Sequence[Received]) -> list[_Group]:
        """Return groups of messages, in the order of their first; bury what is no message (step 1)."""
        groups: dict[tuple[str, int], _Group] = {}
        poison: list[tuple[Received, str]] = []
        for one in received:
            found = read_message(one.body)
            if isinstance(found, str):
                poison.append((one, found))
            else:
                group = groups.setdefault((found.job, found.chunk), _Group(found.job, found.chunk, []))
                group.messages.append((one, found))
        self._bury("unreadable", "", poison)
        return list(groups.values())

    def _bury(self, reason: _Refusal, job: str, messages: Sequence[tuple[Received, str]]) -> None:
        """Put messages into the dead-letter queue, each with its reason in words, then delete them."""
        if not messages:
            return
        queue = self._ports.queue
        self._ask("bury", lambda: queue.bury([(one.body, plain(said)) for one, said in messages]))
        self._ports.facts(ReplayMessageRefused(job=job, reason=reason, messages=len(messages)))
        self._delete([one.receipt for one, _ in messages])

    def _delete(self, receipts: list[str]) -> None:
        if receipts:
            self._ask("delete", lambda: self._ports.queue.delete(receipts))
            self._hand = [one for one in self._hand if one not in set(receipts)]

    def _handle(self, group: _Group) -> None:
        """Deal with the messages of one chunk (steps 2 to 6)."""
        name = group.job, group.chunk
        if name in self._done:
            self._delete(group.receipts)
            return
        try:
            job = self._ask("job", lambda: self._ports.jobs.get(group.job))
            chunk = self._ask("chunk", lambda: self._ports.jobs.chunk(group.job, group.chunk))
        except NotFound as exc:
            self._bury("unknown", "", [(one, f"unknown: {exc}") for one, _ in group.messages])
            return
        if job.state == "failed" and name in self._given_up and not chunk.done:
            said = self._given_up[name]
            self._bury("given up", job.id, [(one, said) for one, _ in group.messages])
        elif chunk.done or job.state in ("stale", "done") or self._try(job, chunk, group):
            settle(job.id, self._ports.jobs, self._ports.clock, self._ports.facts)
            _remember(self._done, name, "")
            self._delete(group.receipts)

    def _try(self, job: Job, chunk: Chunk, group: _Group) -> bool:
        """Do one chunk, unless that was tried too often; return whether its messages are needed no more."""
        attempts, most = self._attempts(chunk, group), self._limits.max_attempts
        try:
            if attempts <= most:
                return self._process(job, chunk, group)
            self._fail(group, f"given up after {attempts - 1} attempts, none of which was answered")
        except RowsGone as exc:
            self._give_up(job.id, "stale", f"an object is gone: {exc}")
            return True
        except Corrupt as exc:
            self._fail(group, str(exc))
        except (Transient, OutcomeUnknown) as exc:
            if attempts >= most:
                self._fail(group, f"given up after {attempts} attempts: {exc}")
            else:  # left as they are: they come again when their time has run out
                left = set(group.receipts)
                self._hand = [one for one in self._hand if one not in left]
        return False

    def _attempts(self, chunk: Chunk, group: _Group) -> int:
        """Return how often the chunk was begun, this time included; counted once a message of it comes again.

        Receipts alone say too much: a message that lies in one hand with a deadly one comes again as often as that one.
        Beginnings alone do, too: processors that meet at one chunk all begin it.
        """
        received = max(one.attempts for one, _ in group.messages)
        if received == 1:
            return 1
        return min(received, 1 + self._ask("begin", lambda: self._ports.jobs.begin_chunk(chunk)))

    def _give_up(self, job: str, state: JobState, reason: str) -> None:
        ports = self._ports
        give_up(job, state, reason, ports.jobs, ports.clock, ports.facts)

    def _fail(self, group: _Group, reason: str) -> None:
        """Give a chunk up: the job says so, its messages go to the dead-letter queue."""
        self._give_up(group.job, "failed", f"chunk {group.chunk}: {reason}")
        _remember(self._given_up, (group.job, group.chunk), reason)
        self._bury("given up", group.job, [(one, reason) for one, _ in group.messages])

    def _process(self, job: Job, chunk: Chunk, group: _Group) -> bool:
        """Do one chunk (steps 3 to 5); return whether it was done, as it is for any message of it."""
        began, began_us = self._ports.clock.monotonic(), self._ports.clock.now_us()
        pointers = self._ask("pointers", lambda: self._ports.jobs.pointers(chunk))
        self._bury_strangers(group, pointers)
        if not group.messages:
            return False
        for days in _slices(self._fold(job, chunk, pointers)):
            self._ask("days", lambda days=days: self._ports.days.put_newer(days))  # type: ignore[misc]
            self._hold()
        if self._ask("chunk", lambda: self._ports.jobs.finish_chunk(chunk)):  # of several, one tells it
            self._ports.facts(
                ReplayChunkDone(
                    job=job.id,
                    chunk=chunk.number,
                    events=chunk.events,
                    rows=chunk.rows,
                    messages=chunk.messages,
                    seconds=round(self._ports.clock.monotonic() - began, 3),
                )
            )
            self._tell_span(job, chunk, began_us)
        return True

    def _tell_span(self, job: Job, chunk: Chunk, began_us: int) -> None:
        """Tell of a chunk that is done, where the request that made its job is traced."""
        parent = parse_traceparent(job.traceparent) if job.traceparent else None
        if parent is None or not parent.sampled:
            return
        attributes: dict[str, str | int] = {
            "tenant_id": job.selection.tenant_id,
            "job": job.id,
            "chunk": chunk.number,
            "events": chunk.events,
            "rows": chunk.rows,
        }
        end_us = max(began_us, self._ports.clock.now_us())
        self._ports.spans(FinishedSpan("replay chunk", parent, began_us, end_us, attributes))

    def _bury_strangers(self, group: _Group, pointers: Sequence[Pointer]) -> None:
        """Bury, and take out of a group, what names rows that are not in its chunk."""
        mine = [_belongs(message, pointers) for _, message in group.messages]
        strangers = [one for (one, _), belongs in zip(group.messages, mine, strict=True) if not belongs]
        group.messages[:] = compress(group.messages, mine)
        self._bury("strange rows", group.job, [(one, _STRANGE) for one in strangers])

    def _fold(self, job: Job, chunk: Chunk, pointers: Sequence[Pointer]) -> list[EntityDay]:
        """Return a chunk's results: one for each entity and day.

        Raises:
            Corrupt: the rows are not those that were counted when the job was frozen.
        """
        selection, fold = job.selection, EntityDayFold()
        files = [(key, list(held)) for key, held in groupby(pointers, key=lambda one: one.key)]

        def read(file: tuple[str, list[Pointer]]) -> tuple[str, pa.Table]:
            rows = partial(
                read_pointers, selection, file[1], COLUMNS, self._ports.read, f"replay job {job.id}"
            )
            return file[0], self._ask("rows", rows)

        for key, rows in self._ports.each(read, files):
            place = manifest_place(key)
            if place is None:
                raise Corrupt(f"replay job {job.id} points to {key}, which is no data file")
            fold.add(place[0].rsplit("#", 1)[0], flagged_rows(rows, matches(rows, selection)))
            self._hold()
        if fold.events != chunk.events:
            raise Corrupt(
                f"chunk {chunk.number} of replay job {job.id} has {fold.events} events, and {chunk.events} were frozen"
            )
        return fold.results(selection.tenant_id, scope_of(selection, job.id), job.basis, job.id)

    def _hold(self) -> None:
        """Keep the messages in hand hidden while the work takes long."""
        now, seconds = self._ports.clock.monotonic(), self._limits.visibility_seconds
        if self._hand and now - self._hidden_at > seconds / 3:
            self._ask("hide", lambda: self._ports.queue.hide(self._hand, seconds))
            self._hidden_at = now


def _remember(memory: _Memory, name: tuple[str, int], reason: str) -> None:
    memory[name] = reason
    if len(memory) > _REMEMBERED:
        memory.popitem(last=False)


def _belongs(message: Message, pointers: Sequence[Pointer]) -> bool:
    """True when a message names rows of a chunk."""
    return any(
        one.key == message.key
        and one.first_row <= message.first_row
        and message.first_row + message.rows <= one.first_row + one.rows
        for one in pointers
    )


def _slices(days: list[EntityDay]) -> Iterator[list[EntityDay]]:
    for start in range(0, len(days), _WRITE_ROWS):
        yield days[start : start + _WRITE_ROWS]
