"""The producer of a user's program: any thread puts, one thread of its own sends.

What a signal's handler raises can tear nothing: an event is taken in one step (`inbox`), and everything else happens
in the sending thread, where Python runs no handlers. A forked child has no sending thread; it is told so.
"""

import atexit
import os
import threading
import warnings
import weakref
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from queue import Empty, SimpleQueue
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.errors import ConfigProblem, InvalidEvent, Transient
from pipeline.core.event import Record
from pipeline.core.rules import Rules
from pipeline.sending.batches import (
    MAX_EVENT_BYTES,
    Item,
    ProducerSettings,
    Slots,
    check_size,
    slot_of_entity,
)
from pipeline.sending.event import Event, Wire, encode, encode_json
from pipeline.sending.fates import BatchFate, Report
from pipeline.sending.inbox import Inbox
from pipeline.sending.spill import Spill
from pipeline.sending.spill_file import Head
from pipeline.sending.worker import Waiter, Worker, WorkerPorts

FORKED = (
    "this producer belongs to the parent process: its sending thread is not here. Call connect() in each "
    "process, after the fork (gunicorn: post_fork, uWSGI: @postfork)"
)
PUT_SECONDS = 60.0  # a stream that is busy for longer is an incident, and the program should hear of it


@dataclass(frozen=True)
class ProducerOptions:
    """What a program chooses.

    Attributes:
        max_buffer_bytes: events in memory, payload and about 128 bytes each; then `put` waits.
        spill: folder for batches that the stream does not take; None: they stay in memory.
        max_spill_bytes: of all its files.
        keep_fates: settled events whose fate is kept singly until a report, in a sixteenth as many batches; older ones
            are only counted.
        close_seconds: how long the end of a `with` block, and the end of the program, wait for the stream.
    """

    max_buffer_bytes: int = 64 * 2**20
    spill: Path | None = None
    max_spill_bytes: int = 2**30
    keep_fates: int = 1_000_000
    close_seconds: float = 60.0


class Outgoing(Protocol):
    """One event, judged: a complete envelope, and what chooses its slot."""

    @property
    def tenant_id(self) -> str:
        """Return whose event it is."""
        ...

    @property
    def entity_id(self) -> str:
        """Return what it is about."""
        ...

    @property
    def payload(self) -> bytes:
        """Return its bytes."""
        ...


class Threaded(Protocol):
    """A producer with threads of its own, which a forked child does not have."""

    def left_by_fork(self) -> None:
        """In a forked child: it is the parent's."""
        ...


_producers: "weakref.WeakSet[Threaded]" = weakref.WeakSet()


def tell_of_forks(producer: Threaded) -> None:
    """Have a producer told, in each forked child, that it is the parent's."""
    _producers.add(producer)


class EventProducer:
    """Sends events to one stream. `pipeline.producer.connect` makes one; any thread may use it.

    Raises:
        ConfigProblem: the spill folder is another producer's, or for another stream.
        Corrupt: a file of the spill is damaged.
        Transient: AWS did not answer.
    """

    def __init__(
        self,
        producer_id: str,
        stream: tuple[str, str],
        ports: WorkerPorts,
        settings: ProducerSettings,
        options: ProducerOptions,
        max_event_bytes: int = MAX_EVENT_BYTES,
        judged_by: Rules | None = None,
    ) -> None:
        self.producer_id = producer_id
        self.last_report = Report(())
        self._slots, self._close_seconds = settings.slots, options.close_seconds
        self._known_slots = Slots(settings.slots)
        self._max_event_bytes, self._clock = max_event_bytes, ports.clock
        self._decoder = Decoder(judged_by) if judged_by is not None else None
        spill = None
        if options.spill is not None:
            head = Head(producer_id, *stream, settings.slots)
            spill = Spill(options.spill, head, options.max_spill_bytes, ports.facts)
        self._inbox = Inbox(options.max_buffer_bytes, ports.clock)
        ports = replace(ports, on_batch=harmless(ports.on_batch))
        try:
            self._worker = Worker(
                producer_id, stream, self._inbox, ports, settings, spill, options.keep_fates
            )
        except BaseException:
            if spill is not None:
                spill.close()
            raise
        self._forked = False
        self._thread = threading.Thread(target=self._run, name=f"headrace-{producer_id}", daemon=True)
        tell_of_forks(self)
        atexit.register(self._at_exit)
        self._thread.start()

    def put(self, event: Event, timeout: float | None = PUT_SECONDS) -> int:
        """Take one event, to be sent soon; return its ticket, by which a report knows it.

        Args:
            event: the event.
            timeout: how many seconds to wait for room in memory; 0 not at all, None for ever.

        Raises:
            InvalidEvent: names the field at fault; the event was not taken.
            Transient: there was no room in time; the event was not taken.
            ConfigProblem: the producer is closed, belongs to the parent process, or can send nothing any more.
        """
        return self._take(encode(event), timeout)

    def put_json(self, event: bytes | str | Mapping[str, Any], timeout: float | None = PUT_SECONDS) -> int:
        """Take one event that is envelope JSON already (bytes are sent as they are), or a mapping; else like `put`."""
        return self._take(encode_json(event), timeout)

    def ready(self, events: Iterable[Outgoing]) -> list[Item]:
        """Return events that were judged already as `put_ready` takes them."""
        slot_of = self._known_slots
        return [Item(slot_of[one.tenant_id][one.entity_id], one.payload) for one in events]

    def put_ready(self, items: list[Item]) -> int:
        """Take events, all or none, without waiting; return the first one's ticket.

        The tickets of the others follow it. For the HTTP API, which judged the very bytes.

        Raises:
            Transient: there is no room; nothing was taken.
            ConfigProblem: as `put` says.
        """
        if self._forked:
            self._must_be_ours()
        return self._inbox.put_all(items)

    @property
    def refusal(self) -> str | None:
        """Return why no event is taken any more: it is closed, or can send nothing; None while it takes them."""
        return self._inbox.refusal

    def flush(self, timeout: float | None = None) -> Report:
        """Send everything that was put before, and report every fate that was not reported yet.

        On return each event is acknowledged, spilled or refused; after `timeout` seconds the rest is reported as
        waiting, and again by a later report.
        """
        self._wait("flush", timeout)
        return self._report()

    def drain(self, timeout: float | None = None) -> bool:
        """Wait until nothing is in the spill any more; return whether it is so."""
        self._wait("drain", timeout)
        return not self._worker.has_spill()

    def close(self, timeout: float | None = None) -> Report:
        """Take nothing more, send everything, write the last receipt, and report as `flush` does.

        What is in the spill stays there for the next producer with this folder. A close that ran out of time goes on
        in the background; call it again to wait for it.
        """
        self._must_be_ours()
        self._worker.close()
        self._wait("close", timeout)
        # Finished, it lets go of the spill's folder: what comes after this call may want it.
        if self._worker.finished or self._worker.ended:
            self._thread.join()
            atexit.unregister(self._at_exit)
        return self._report()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close.

        Raises:
            Transient: events are not acknowledged, or their receipt is not stored; `last_report` says which.
        """
        report = self.close(self._close_seconds)
        if error is None and (report.waiting or report.refused or report.unreceipted):
            raise Transient(
                f"closed after {self._close_seconds:g} s with {report}; {report.unreceipted} batches without a receipt"
            )

    def _take(self, wire: Wire, timeout: float | None) -> int:
        if self._forked:
            self._must_be_ours()
        if len(wire.payload) > self._max_event_bytes:
            check_size(wire.payload, self._max_event_bytes)
        if self._decoder is not None:
            decoded = Decoded()
            self._decoder.decode_events([Record("0", "", wire.payload, self._clock.now_us())], decoded)
            for refusal in decoded.refusals:
                raise InvalidEvent(refusal.code, refusal.pointer, refusal.message)
        slot = slot_of_entity(wire.tenant_id, wire.entity_id, self._slots)
        return self._inbox.put(Item(slot, wire.payload), timeout)

    def _must_be_ours(self) -> None:
        if self._forked:
            raise ConfigProblem(FORKED)

    def _wait(self, wanted: Literal["flush", "drain", "close"], timeout: float | None) -> None:
        self._must_be_ours()
        waiter = Waiter(wanted, self._inbox.next_ticket(), SimpleQueue())
        try:
            self._worker.wait_for(waiter)
            with suppress(Empty):
                waiter.reply.get(timeout=timeout)
        finally:
            self._worker.forget(waiter)

    def _report(self) -> Report:
        self.last_report = self._worker.report()
        return self.last_report

    def _run(self) -> None:
        run_rounds(self._worker, self._inbox.wake)

    def _at_exit(self) -> None:
        """The program ends and did not close; the sending thread still runs now."""
        if self._forked:
            return
        report = self.close(self._close_seconds)
        if report.waiting or report.refused:
            warnings.warn(
                f"producer {self.producer_id} was not closed, and {report.waiting + report.refused} events are lost with "
                f"this program: use `with connect() as producer`. {self._inbox.problem}",
                ResourceWarning,
                stacklevel=1,
            )

    def left_by_fork(self) -> None:
        """In a forked child: it is the parent's."""
        self._forked = True
        self._worker.left_by_fork()


class Rounds(Protocol):
    """What a sending thread drives."""

    @property
    def finished(self) -> bool:
        """True when all is done."""
        ...

    def round(self) -> float:
        """Do what is to be done; return the seconds until there may be more."""
        ...

    def give_up(self, why: str, cause: BaseException) -> None:
        """Nothing will ever be sent again."""
        ...

    def end(self) -> None:
        """Let go of whoever waits: there will be no further round."""
        ...


def run_rounds(of: Rounds, wake: "SimpleQueue[None]") -> None:
    """Go round until all is done, at once when woken; an unknown error gives up what is left, and ends the thread."""
    try:
        while not of.finished:
            wait = of.round()
            with suppress(Empty):
                if wait and not of.finished:
                    wake.get(timeout=wait)
                while True:
                    wake.get_nowait()
    except BaseException as exc:
        of.give_up(f"its thread ended by {type(exc).__name__}: {exc}", exc)
        raise
    finally:
        of.end()


def harmless(tell: Any) -> Any:
    """Keep a program's callback from ending the sending thread: what it raises goes where threads' errors go."""
    if tell is None:
        return None

    def called(fate: BatchFate) -> None:
        try:
            tell(fate)
        except Exception as exc:  # noqa: BLE001 - foreign code; the traceback is shown, and events go on
            threading.excepthook(
                threading.ExceptHookArgs((type(exc), exc, exc.__traceback__, threading.current_thread()))
            )

    return called


def _in_child() -> None:
    for producer in list(_producers):
        producer.left_by_fork()


os.register_at_fork(after_in_child=_in_child)
