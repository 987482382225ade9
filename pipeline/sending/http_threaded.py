"""The producer of a user's program, over HTTP: any thread puts, threads of its own send.

As over the stream: what a signal's handler raises can tear nothing, since an event is taken in one step (`inbox`) and all else
happens in threads where Python runs no handlers. A forked child has no such threads; it is told so.
"""

import atexit
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Self

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.ports.clock import Clock, SystemClock
from pipeline.sending.batches import Item, check_size, slot_of_entity
from pipeline.sending.event import Event, Wire, encode
from pipeline.sending.fates import BatchFate, Report
from pipeline.sending.http_batch import HttpBatch, HttpOptions
from pipeline.sending.http_credential import Credential
from pipeline.sending.http_event import encode_line
from pipeline.sending.http_follow import following
from pipeline.sending.http_parts import outbox
from pipeline.sending.http_sender import HttpSender, Wait
from pipeline.sending.http_target import Requests, Target
from pipeline.sending.threaded import FORKED, PUT_SECONDS, harmless, run_rounds, tell_of_forks


class HttpProducer:
    """Sends events to one HTTP API. `pipeline.producer.connect_http` makes one; any thread may use it."""

    def __init__(
        self,
        target: Target,
        credential: Credential,
        options: HttpOptions,
        open_requests: Callable[[], Requests],
        on_batch: Callable[[BatchFate], None] | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.last_report = Report(())
        self._target, self._options, self._open_requests = target, options, open_requests
        self._requests = open_requests()
        self._sender = HttpSender(
            options,
            self._send,
            lambda settled: outbox(options, settled, credential),
            clock or SystemClock(),
            harmless(on_batch),
        )
        self._inbox, self._forked = self._sender.inbox, False
        self._thread = threading.Thread(target=self._run, name="headrace-http", daemon=True)
        tell_of_forks(self)
        atexit.register(self._at_exit)
        self._thread.start()

    def __repr__(self) -> str:
        return f"HttpProducer({self._target.url})"

    def put(self, event: Event, timeout: float | None = PUT_SECONDS) -> int:
        """Take one event, to be sent soon; return its ticket, by which a report knows it.

        Args:
            event: the event; its tenant must be the credential's.
            timeout: how many seconds to wait for room in memory; 0 not at all, None for ever.

        Raises:
            InvalidEvent: names the field at fault; the event was not taken.
            Transient: there was no room in time; the event was not taken.
            ConfigProblem: the producer is closed, belongs to the parent process, or can send nothing any more.
        """
        return self._take(encode(event), timeout)

    def put_json(self, event: bytes | str | Mapping[str, Any], timeout: float | None = PUT_SECONDS) -> int:
        """Take one event that is JSON already, an envelope or a CloudEvent, or such a mapping; else like `put`.

        `tenant_id` may be missing: it is the credential's. A missing `event_id` or time is filled in before it is sent.
        """
        return self._take(encode_line(event), timeout)

    @property
    def problem(self) -> str:
        """Return what keeps events from going out; "" when nothing does."""
        return self._inbox.problem

    def flush(self, timeout: float | None = None) -> Report:
        """Send everything that was put before, and report every fate that was not reported yet.

        On return each event is acknowledged, refused or unknown; after `timeout` seconds the rest is reported as
        waiting, and again by a later report.
        """
        self._wait(timeout)
        return self._report()

    def close(self, timeout: float | None = None) -> Report:
        """Take nothing more, send everything, and report as `flush` does.

        A close that ran out of time goes on in the background; call it again to wait for it.

        Raises:
            ConfigProblem: an unknown error, its cause, has ended the sending; `last_report` says what became of each event.
        """
        report = self._close(timeout)
        if self._inbox.cause is not None:
            raise ConfigProblem(self._inbox.refusal) from self._inbox.cause
        return report

    def _close(self, timeout: float | None) -> Report:
        self._must_be_ours()
        self._sender.close()
        self._wait(timeout)
        if self._sender.finished or self._sender.ended:
            self._thread.join()
            self._requests.close()
            atexit.unregister(self._at_exit)
        return self._report()

    def wait_queryable(self, report: Report, timeout: float = 60.0) -> bool:
        """Wait until every read finds the acknowledged events of a report; return whether it came to that in time.

        Works after `close` too.

        Raises:
            EventsLost: the stream may have dropped some of them unread; `tickets` says which are to be put again.
            ConfigProblem: the credential may not follow these receipts.
            Transient: the API did not answer.
        """
        self._must_be_ours()
        asked = following(self._target.url, report, timeout, time.monotonic)
        with closing(self._open_requests()) as requests:
            try:
                step = next(asked)
                while True:
                    if isinstance(step, float):
                        time.sleep(step)
                        step = next(asked)
                    else:
                        step = asked.send(requests.send(step))
            except StopIteration as end:
                return bool(end.value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close.

        Raises:
            Transient: events are not acknowledged; `last_report` says which.
            ConfigProblem: as `close` says.
        """
        close = self.close if error is None else self._close
        report = close(self._options.close_seconds)
        if error is None and (report.waiting or report.refused or report.unknown):
            raise Transient(f"closed with {report}; last_report says which and why")

    def _take(self, wire: Wire, timeout: float | None) -> int:
        self._must_be_ours()
        check_size(wire.payload)
        slot = slot_of_entity(wire.tenant_id, wire.entity_id, self._options.lanes)
        return self._inbox.put(Item(slot, wire.payload), timeout)

    def _must_be_ours(self) -> None:
        if self._forked:
            raise ConfigProblem(FORKED)

    @property
    def ended(self) -> bool:
        """Nothing more is sent: it is closed and all is settled, or its thread ended by an error (`problem`)."""
        return self._sender.ended

    def _send(self, batch: HttpBatch) -> Any:
        return self._requests.send(self._target.ask(batch))

    def _wait(self, timeout: float | None) -> None:
        self._must_be_ours()
        wait = Wait(self._inbox.next_ticket(), SimpleQueue())
        try:
            self._sender.wait_for(wait)
            with suppress(Empty):
                wait.reply.get(timeout=timeout)
        finally:
            self._sender.forget(wait)

    def _report(self) -> Report:
        self.last_report = self._sender.report()
        return self.last_report

    def _run(self) -> None:
        run_rounds(self._sender, self._inbox.wake)

    def _at_exit(self) -> None:
        """The program ends and did not close; the sending threads still run now."""
        if self._forked:
            return
        report = self._close(self._options.close_seconds)
        lost = report.waiting + report.refused + report.unknown
        if lost:
            warnings.warn(
                f"{self!r} was not closed, and {lost} events are lost with this program: use `with connect_http(...) as "
                f"producer`. {self._inbox.problem}",
                ResourceWarning,
                stacklevel=1,
            )

    def left_by_fork(self) -> None:
        """In a forked child: it is the parent's."""
        self._forked = True
