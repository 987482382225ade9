"""The producer over HTTP for programs with an event loop: `await put`, and a task of its own that sends.

It belongs to the loop on which it was first used. Cancelling a `put` or `flush` tears nothing: an event is taken in one step.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from types import TracebackType
from typing import Any, Self

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.sending.batches import EVENT_OVERHEAD_BYTES, Item, check_size, slot_of_entity
from pipeline.sending.event import Event, Wire, encode
from pipeline.sending.fates import BatchFate, Report, Unreported
from pipeline.sending.http_answer import Lost, Outcome
from pipeline.sending.http_batch import HttpBatch, HttpOptions
from pipeline.sending.http_credential import Credential
from pipeline.sending.http_event import encode_line
from pipeline.sending.http_follow import following
from pipeline.sending.http_parts import outbox
from pipeline.sending.http_sender import given_up
from pipeline.sending.http_target import AsyncRequests, Target
from pipeline.sending.threaded import PUT_SECONDS, harmless

_IDLE_SECONDS = 60.0


class AsyncHttpProducer:
    """Sends events to one HTTP API. `pipeline.producer.connect_http_async` makes one; for one event loop."""

    def __init__(
        self,
        target: Target,
        credential: Credential,
        options: HttpOptions,
        open_requests: Callable[[], AsyncRequests],
        on_batch: Callable[[BatchFate], None] | None = None,
    ) -> None:
        self.last_report = Report(())
        self._target, self._options, self._open_requests = target, options, open_requests
        self._on_batch = harmless(on_batch)
        self._requests = open_requests()
        self._outbox = outbox(options, self._settled, credential)
        self._fates, self._keys, self._tickets = Unreported(options.keep_fates), count(), 0
        self._held_bytes = 0
        self._fresh: list[Item] = []  # taken, not in the outbox yet
        self._room: deque[asyncio.Future[None]] = deque()
        self._waits: list[tuple[int, asyncio.Future[None]]] = []
        self._closing, self._wake = False, asyncio.Event()
        self._cause: Exception | None = None  # why nothing can be sent any more
        self._task: asyncio.Task[None] | None = None
        self._on_way: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"AsyncHttpProducer({self._target.url})"

    async def put(self, event: Event, timeout: float | None = PUT_SECONDS) -> int:  # noqa: ASYNC109 - as the other producers'
        """Take one event, to be sent soon; return its ticket, by which a report knows it.

        Args:
            event: the event; its tenant must be the credential's.
            timeout: how many seconds to wait for room in memory; 0 not at all, None for ever.

        Raises:
            InvalidEvent: names the field at fault; the event was not taken.
            Transient: there was no room in time; the event was not taken.
            ConfigProblem: the producer is closed, or an unknown error, its cause, has ended the sending.
        """
        return await self._take(encode(event), timeout)

    async def put_json(
        self,
        event: bytes | str | Mapping[str, Any],
        timeout: float | None = PUT_SECONDS,  # noqa: ASYNC109 - as the other producers'
    ) -> int:
        """Take one event that is JSON already, an envelope or a CloudEvent, or such a mapping; else like `put`."""
        return await self._take(encode_line(event), timeout)

    async def flush(self, timeout: float | None = None) -> Report:  # noqa: ASYNC109 - as the other producers'
        """Send everything that was put before, and report every fate that was not reported yet.

        On return each event is acknowledged, refused or unknown; after `timeout` seconds the rest is reported as
        waiting, and again by a later report.
        """
        if not self._reached(self._tickets):
            wait = self._tickets, asyncio.get_running_loop().create_future()
            self._waits.append(wait)
            self._wake.set()
            try:
                await asyncio.wait([wait[1]], timeout=timeout)
            finally:
                self._waits.remove(wait)
        return self._report()

    async def close(self, timeout: float | None = None) -> Report:  # noqa: ASYNC109 - as the other producers'
        """Take nothing more, send everything, and report as `flush` does; what is not sent in time is given up.

        Raises:
            ConfigProblem: an unknown error, its cause, has ended the sending; `last_report` says what became of each event.
        """
        report = await self._close(timeout)
        self._must_send()
        return report

    async def _close(self, timeout: float | None) -> Report:  # noqa: ASYNC109
        self._closing = True
        self._tell_room()
        report = await self.flush(timeout)
        tasks = [*self._on_way, *([self._task] if self._task else [])]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._task = None
        await self._requests.close()
        return report

    async def wait_queryable(self, report: Report, timeout: float = 60.0) -> bool:  # noqa: ASYNC109 - as the other producers'
        """Wait until every read finds the acknowledged events of a report; return whether it came to that in time.

        Raises:
            EventsLost: the stream may have dropped some of them unread; `tickets` says which are to be put again.
            ConfigProblem: the credential may not follow these receipts.
            Transient: the API did not answer.
        """
        asked = following(self._target.url, report, timeout, time.monotonic)
        requests = self._open_requests()
        try:
            step = next(asked)
            while True:
                if isinstance(step, float):
                    await asyncio.sleep(step)
                    step = next(asked)
                else:
                    step = asked.send(await requests.send(step))
        except StopIteration as end:
            return bool(end.value)
        finally:
            await requests.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close.

        Raises:
            Transient: events are not acknowledged; `last_report` says which.
            ConfigProblem: as `close` says.
        """
        close = self.close if error is None else self._close
        report = await close(self._options.close_seconds)
        if error is None and (report.waiting or report.refused or report.unknown):
            raise Transient(f"closed with {report}; last_report says which and why")

    async def _take(self, wire: Wire, timeout: float | None) -> int:  # noqa: ASYNC109
        check_size(wire.payload)
        cost = len(wire.payload) + EVENT_OVERHEAD_BYTES
        if not self._has_room(cost):
            await self._wait_for_room(cost, timeout)
        self._must_send()
        if self._closing:
            raise ConfigProblem("the producer is closed: connect again")
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="headrace-http")
        ticket, self._tickets = self._tickets, self._tickets + 1
        self._held_bytes += cost
        slot = slot_of_entity(wire.tenant_id, wire.entity_id, self._options.lanes)
        self._fresh.append(Item(slot, wire.payload))
        if len(self._fresh) == 1:
            self._wake.set()
        return ticket

    def _must_send(self) -> None:
        if self._cause is not None:
            raise ConfigProblem(given_up(_why(self._cause))) from self._cause

    def _take_fresh(self, now: float) -> None:
        fresh, self._fresh = self._fresh, []
        if fresh:
            self._outbox.add(self._tickets - len(fresh), fresh, now)

    def _has_room(self, cost: int) -> bool:
        if self._closing or self._cause is not None or not self._held_bytes:
            return True
        return self._held_bytes + cost <= self._options.max_buffer_bytes

    async def _wait_for_room(self, cost: int, timeout: float | None) -> None:  # noqa: ASYNC109
        try:
            async with asyncio.timeout(timeout):
                while not self._has_room(cost):
                    turn = asyncio.get_running_loop().create_future()
                    self._room.append(turn)
                    await turn
        except TimeoutError as exc:
            problem = f". {self._outbox.problem}" if self._outbox.problem else ""
            raise Transient(
                f"{self._held_bytes:,} bytes of events are waiting, the limit is {self._options.max_buffer_bytes:,}, and the "
                f"server freed no room in {timeout or 0:g} s; this event was not taken: try again, or make room "
                f"(max_buffer_bytes){problem}"
            ) from exc

    def _tell_room(self) -> None:
        while self._room:
            turn = self._room.popleft()
            if not turn.done():
                turn.set_result(None)

    async def _run(self) -> None:
        try:
            await self._rounds()
        except Exception as exc:  # noqa: BLE001 - nobody foresaw it: whoever puts is told
            self._give_up(exc)

    async def _rounds(self) -> None:
        while self._cause is None:
            self._wake.clear()
            at_once, now = self._closing or bool(self._waits), time.monotonic()
            self._take_fresh(now)
            for batch in self._outbox.due(now, at_once=at_once):
                task = asyncio.create_task(self._request(batch))
                self._on_way.add(task)
                task.add_done_callback(self._on_way.discard)
            wait = min(self._outbox.seconds_left(now, at_once=at_once), _IDLE_SECONDS)
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _request(self, batch: HttpBatch) -> None:
        outcome: Outcome
        try:
            outcome = await self._requests.send(self._target.ask(batch))
        except asyncio.CancelledError:
            outcome = Lost("the request was given up: the producer was closed")
        except Exception as exc:  # noqa: BLE001 - nobody foresaw it: whoever puts is told
            self._give_up(exc)
            return
        if self._cause is None:  # else every event has its fate already
            self._outbox.answered(batch, outcome, time.monotonic(), time.time())
            self._tell_waits()

    def _tell_waits(self) -> None:
        self._wake.set()
        for before, done in self._waits:
            if not done.done() and self._reached(before):
                done.set_result(None)

    def _give_up(self, cause: Exception) -> None:
        """Nothing will ever be sent again: each event has its fate now, whoever waits is told, and so are the loop's owners."""
        if self._cause is not None:
            return
        self._cause = cause
        self._take_fresh(time.monotonic())
        self._outbox.give_up(_why(cause))
        self._tell_room()
        self._tell_waits()
        asyncio.get_running_loop().call_exception_handler(
            {"message": f"{self!r} can send nothing any more", "exception": cause}
        )

    def _reached(self, before: int) -> bool:
        self._take_fresh(time.monotonic())
        first = self._outbox.first_ticket()
        return first is None or first >= before

    def _settled(self, fate: BatchFate, cost_bytes: int) -> None:
        self._fates.settle(next(self._keys), fate)
        self._held_bytes -= cost_bytes
        self._tell_room()
        if self._on_batch is not None:
            self._on_batch(fate)

    def _report(self) -> Report:
        self._take_fresh(time.monotonic())
        self.last_report = self._fates.take(self._outbox.tickets(), 0, self._outbox.problem)
        return self.last_report


def _why(cause: Exception) -> str:
    return f"its task ended by {type(cause).__name__}: {cause}"
