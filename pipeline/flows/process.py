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
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from pipeline.core.entity_day import COLUMNS, EntityDay, EntityDayFold, chosen_rows
from pipeline.core.errors import Corrupt, NotFound, OutcomeUnknown, Transient
from pipeline.core.index import Pointer
from pipeline.core.keys import manifest_place
from pipeline.core.replay import Selection, columns_for, matches, scope_of
from pipeline.core.replay_job import UNFINISHED, Chunk, Job, Message, plain, read_message
from pipeline.facts import FactSink, ReplayChunkDone, ReplayMessageRefused
from pipeline.flows.replay import settle
from pipeline.flows.replay_plan import ReadRows
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.entity_days import EntityDays
from pipeline.ports.jobs import ReplayJobs
from pipeline.ports.queue import MessageQueue, Received

_REMEMBERED = 10_000  # chunks known to be done
_WRITE_ROWS = 2_000  # results written between two looks at the time
T = TypeVar("T")


@dataclass(frozen=True)
class ProcessPorts:
    """What processing needs. `each` maps a function over items, in order, a few at once if it likes."""

    queue: MessageQueue
    jobs: ReplayJobs
    days: EntityDays
    read: ReadRows
    each: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
    clock: Clock
    facts: FactSink
    stopping: Callable[[], bool] = lambda: False


@dataclass(frozen=True)
class ProcessLimits:
    """How messages are handled: `visibility_seconds` as the queue's own, `max_attempts` before a message is given up."""

    max_attempts: int = 5
    visibility_seconds: int = 120
    wait_seconds: int = 5  # SQS allows 20; a stop waits so long at most


@dataclass(frozen=True)
class _Group:
    """Messages of one chunk, in hand."""

    job: str
    chunk: int
    messages: list[tuple[Received, Message]]


class Processor:
    """Handles replay messages, one chunk after the other; used by one thread. Any number may share a queue."""

    def __init__(self, ports: ProcessPorts, limits: ProcessLimits | None = None) -> None:
        self._ports, self._limits = ports, limits or ProcessLimits()
        self._done: OrderedDict[tuple[str, int], None] = OrderedDict()
        self._hand: list[str] = []  # receipts of messages that are not dealt with
        self._hidden_at = 0.0

    def run(self, *, drain: bool = False) -> None:
        """Handle messages until asked to stop; with `drain`, until nothing is left in the queue or in other hands."""
        while not self._ports.stopping():
            if self.step(0 if drain else self._limits.wait_seconds) or not drain:
                continue
            if self._ask("depth", self._ports.queue.depth) == 0:
                return
            self._ports.clock.idle(1.0)

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
        poison: list[tuple[Received, str, str]] = []
        for one in received:
            found = read_message(one.body)
            if isinstance(found, str):
                poison.append((one, "", found))
            else:
                group = groups.setdefault((found.job, found.chunk), _Group(found.job, found.chunk, []))
                group.messages.append((one, found))
        self._bury(poison)
        return list(groups.values())

    def _bury(self, messages: Sequence[tuple[Received, str, str]]) -> None:
        """Put messages into the dead-letter queue, with their reason, then delete them."""
        if not messages:
            return
        queue = self._ports.queue
        self._ask("bury", lambda: queue.bury([(one.body, plain(reason)) for one, _, reason in messages]))
        for _, job, reason in messages:
            self._ports.facts(ReplayMessageRefused(job=job, reason=plain(reason)))
        self._delete([one.receipt for one, _, _ in messages])

    def _delete(self, receipts: list[str]) -> None:
        if receipts:
            self._ask("delete", lambda: self._ports.queue.delete(receipts))
            self._hand = [one for one in self._hand if one not in set(receipts)]

    def _handle(self, group: _Group) -> None:
        """Deal with the messages of one chunk (steps 2 to 6)."""
        if (group.job, group.chunk) in self._done:
            self._delete([one.receipt for one, _ in group.messages])
            return
        try:
            job = self._ask("job", lambda: self._ports.jobs.get(group.job))
            chunk = self._ask("chunk", lambda: self._ports.jobs.chunk(group.job, group.chunk))
        except NotFound as exc:
            self._bury([(one, group.job, f"unknown: {exc}") for one, _ in group.messages])
            return
        if chunk.done or job.state in ("stale", "done"):
            settle(job.id, self._ports.jobs, self._ports.clock, self._ports.facts)
            self._forget(group)
            return
        worst = max(one.attempts for one, _ in group.messages)
        if worst > self._limits.max_attempts:  # it ended every process that took it, and no error was seen
            self._fail(group, f"given up after {worst - 1} attempts, none of which was answered")
            return
        try:
            self._process(job, chunk, group)
        except NotFound as exc:
            self._stale(job, f"an object is gone: {exc}")
            self._forget(group)
        except Corrupt as exc:
            self._fail(group, str(exc))
        except (Transient, OutcomeUnknown) as exc:
            if worst >= self._limits.max_attempts:
                self._fail(group, f"given up after {worst} attempts: {exc}")
            else:  # left as they are: they come again when their time has run out
                left = {one.receipt for one, _ in group.messages}
                self._hand = [one for one in self._hand if one not in left]

    def _stale(self, job: Job, reason: str) -> None:
        now_us = self._ports.clock.now_us()
        self._ask("job", lambda: self._ports.jobs.move(job.id, UNFINISHED, "stale", now_us, reason))

    def _fail(self, group: _Group, reason: str) -> None:
        """Give a chunk up: the job says so, its messages go to the dead-letter queue."""
        now_us, move = self._ports.clock.now_us(), self._ports.jobs.move
        said = plain(f"chunk {group.chunk}: {reason}")
        self._ask("job", lambda: move(group.job, UNFINISHED, "failed", now_us, said))
        self._bury([(one, group.job, reason) for one, _ in group.messages])

    def _forget(self, group: _Group) -> None:
        """Delete the messages of a chunk that needs no more, and remember it."""
        self._done[group.job, group.chunk] = None
        if len(self._done) > _REMEMBERED:
            self._done.popitem(last=False)
        self._delete([one.receipt for one, _ in group.messages])

    def _process(self, job: Job, chunk: Chunk, group: _Group) -> None:
        """Do one chunk (steps 3 to 6)."""
        began = self._ports.clock.monotonic()
        pointers = self._ask("pointers", lambda: self._ports.jobs.pointers(chunk))
        strangers = [one for one, message in group.messages if not _belongs(message, pointers)]
        self._bury([(one, job.id, "names rows that are not in its chunk") for one in strangers])
        if len(strangers) == len(group.messages):
            return
        for days in _slices(self._fold(job, chunk, pointers)):
            self._ask("days", lambda days=days: self._ports.days.put_newer(days))  # type: ignore[misc]
            self._hold()
        self._ask("chunk", lambda: self._ports.jobs.finish_chunk(chunk))
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
        settle(job.id, self._ports.jobs, self._ports.clock, self._ports.facts)
        kept = [one for one in group.messages if one[0] not in strangers]
        self._forget(_Group(group.job, group.chunk, kept))

    def _fold(self, job: Job, chunk: Chunk, pointers: Sequence[Pointer]) -> list[EntityDay]:
        """Return a chunk's results: one for each entity and day.

        Raises:
            Corrupt: the rows are not those that were counted when the job was frozen.
        """
        selection, fold = job.selection, EntityDayFold()
        columns = list(dict.fromkeys([*COLUMNS, *columns_for(selection)]))
        files = [(key, list(held)) for key, held in groupby(pointers, key=lambda one: one.key)]

        def read(file: tuple[str, list[Pointer]]) -> tuple[str, pa.Table]:
            return file[0], self._read(file[0], file[1], columns)

        for key, rows in self._ports.each(read, files):
            place = manifest_place(key)
            if place is None:
                raise Corrupt(f"replay job {job.id} points to {key}, which is no data file")
            fold.add(place[0].rsplit("#", 1)[0], _chosen(rows, selection))
            self._hold()
        if fold.events != chunk.events:
            raise Corrupt(
                f"chunk {chunk.number} of replay job {job.id} has {fold.events} events, and {chunk.events} were frozen"
            )
        return fold.results(selection.tenant_id, scope_of(selection, job.id), job.basis, job.id)

    def _read(self, key: str, pointers: Sequence[Pointer], columns: Sequence[str]) -> pa.Table:
        """Return the rows of some pointers into one file, in one read."""
        first = min(one.first_row for one in pointers)
        last = max(one.first_row + one.rows for one in pointers)
        rows = self._ask("rows", lambda: self._ports.read(key, first, last - first, columns))
        if len(pointers) == 1:
            return rows
        wanted = np.zeros(last - first, dtype=np.bool_)
        for one in pointers:
            wanted[one.first_row - first : one.first_row - first + one.rows] = True
        return chosen_rows(rows, wanted)

    def _hold(self) -> None:
        """Keep the messages in hand hidden while the work takes long."""
        now, seconds = self._ports.clock.monotonic(), self._limits.visibility_seconds
        if self._hand and now - self._hidden_at > seconds / 3:
            self._ask("hide", lambda: self._ports.queue.hide(self._hand, seconds))
            self._hidden_at = now


def _chosen(rows: pa.Table, selection: Selection) -> pa.Table:
    return chosen_rows(rows, matches(rows, selection))


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
