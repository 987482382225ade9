"""Lines of a file or pipe to the HTTP API: refused by number, in the server's words; the rest goes on.

What stops one request would stop all (no credential, nobody there): then no further line is read, and it is said how far it is.
"""

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, BinaryIO

from pipeline.cli.answers import printable, say
from pipeline.cli.arriving import Arriving
from pipeline.cli.destination import Destination
from pipeline.cli.progress import Progress
from pipeline.core.errors import ConfigProblem, InvalidEvent, Transient
from pipeline.flows.ingest import IngestReport, numbered_lines
from pipeline.machine.interrupts import Interrupts
from pipeline.producer import HttpProducer, client_credentials, connect_http
from pipeline.sending.batches import MAX_EVENT_BYTES, check_size
from pipeline.sending.fates import BatchFate, Report

if TYPE_CHECKING:
    from pipeline.flows.ingest import Lines

# Codes of fates that say nothing about the lines themselves.
_NOT_THEIRS = frozenset({"unreachable", "given_up"})
_LOOK_SECONDS = 0.2  # between two looks at Ctrl-C while something is waited for
_PATIENCE_SECONDS = 0.1  # lines of a pipe may wait so long for more
_LAST_SECONDS = 5.0  # after Ctrl-C, for what is on its way


class _Stopped(Exception):
    """Nothing more can be sent."""


class _Lines:
    """Which line each ticket is of, and what became of them; told by the sending thread."""

    def __init__(self, refused: Callable[[str], None]) -> None:
        self.report, self.unknown, self.stopped = IngestReport(), 0, None
        self._refused, self._lock = refused, threading.Lock()
        self._next_ticket, self._open = 0, dict[int, int]()

    stopped: BatchFate | None

    def put(self, number: int) -> None:
        """Note the line that is put next: its fate may be told before `put` returns."""
        with self._lock:
            self._open[self._next_ticket] = number
            self._next_ticket += 1

    def not_put(self, number: int, why: InvalidEvent | None) -> None:
        """The line that was noted last was not taken."""
        with self._lock:
            self._next_ticket -= 1
            del self._open[self._next_ticket]
            if why is not None:
                self._refuse(number, why.code, why.pointer, why.message)

    def settled(self, fate: BatchFate) -> None:
        """Take the fate of some lines."""
        with self._lock:
            numbers = [self._open.pop(ticket) for ticket in fate.tickets]
            if fate.kind == "acknowledged":
                self.report.accepted += len(numbers)
            elif fate.kind == "unknown" or fate.status or fate.code in _NOT_THEIRS:
                self.unknown += len(numbers) if fate.kind == "unknown" else 0
                self.stopped = self.stopped or fate
                self._open.update({-1 - number: number for number in numbers})  # they are not done
            else:
                for number in numbers:
                    self._refuse(number, fate.code, fate.pointer, fate.why)

    def done(self) -> str:
        """Say how far it is."""
        last = self.next_line - 1
        unknown = f", {self.unknown:,} may be there or not" if self.unknown else ""
        reach = f"all lines up to {last:,} are done" if last > 0 else "line 1 is not done"
        return f"{self.report.accepted:,} events are acknowledged{unknown}; {reach}"

    @property
    def next_line(self) -> int:
        """Return the first line that is not done."""
        with self._lock:
            return min(self._open.values(), default=self.report.last_line + 1)

    def must_be_done(self, problem: str) -> None:
        """Be sure that each line has an answer, whatever became of the sending thread.

        Raises:
            Transient: some have none.
        """
        if self._open:
            text = (
                f"{len(self._open):,} lines have no answer ({problem or 'no reason is known'}). {self.done()}"
            )
            raise Transient(f"{text}: send line {self.next_line:,} and all after it again")

    def _refuse(self, number: int, code: str, pointer: str, message: str) -> None:
        self.report.refused += 1
        where = f" at {pointer}" if pointer else ""
        self._refused(printable(f"line {number}: {code}{where}: {message}"))


def send_http(
    lines: BinaryIO, destination: Destination, refused: Callable[[str], None], *, arriving: bool
) -> IngestReport:
    """Send every line; return how many were acknowledged and refused.

    Args:
        lines: NDJSON of events or CloudEvents.
        destination: where, and as whom.
        refused: told of each refused line.
        arriving: lines come as somebody writes them.

    Raises:
        ConfigProblem: the URL or the credential is wrong, or the server does not let it send.
        Transient: the server did not answer for as long as is tried.
    """
    noted, interrupts = _Lines(refused), Interrupts()
    source = Arriving(lines, MAX_EVENT_BYTES + 2, _PATIENCE_SECONDS) if arriving else lines
    with Progress("produce", unit="events") as progress, interrupts.installed():
        producer = _connect(destination, noted.settled)
        try:
            _put_all(source, producer, noted, interrupts, progress)
            _finish(producer, noted, interrupts, progress)
        except KeyboardInterrupt:
            interrupts.hold()
            _close(producer, _LAST_SECONDS)
            say(noted.done())
            raise
        except _Stopped:
            interrupts.hold()
            _close(producer, _LOOK_SECONDS)
        interrupts.hold()
    if noted.stopped is not None:
        raise _problem(noted, noted.stopped)
    return noted.report


def _connect(destination: Destination, told: Callable[[BatchFate], None]) -> HttpProducer:
    given = destination
    client = None
    if given.client_id is not None:
        client = client_credentials(
            given.token_url or "",
            given.client_id,
            given.secret or "",
            given.scope,
            plain_http=given.plain_http,
        )
    return connect_http(
        given.url,
        api_key=given.key,
        client=client,
        on_batch=told,
        ca_file=str(given.ca_file) if given.ca_file else None,
        plain_http=given.plain_http,
        keep_fates=0,
        close_seconds=_LOOK_SECONDS,
    )


def _put_all(
    source: "Lines", producer: HttpProducer, noted: _Lines, interrupts: Interrupts, progress: Progress
) -> None:
    for chunk in numbered_lines(source, MAX_EVENT_BYTES):
        with interrupts.held():
            for number, line in chunk:
                _put(number, line, producer, noted, interrupts)
                noted.report.lines += 1
                noted.report.last_line = number
        if noted.stopped is not None:
            raise _Stopped
        progress.update(noted.report.accepted)


def _put(number: int, line: bytes, producer: HttpProducer, noted: _Lines, interrupts: Interrupts) -> None:
    told = ""
    while True:
        noted.put(number)
        try:
            check_size(line)  # first: the beginning of a line that was cut is no JSON
            producer.put_json(line, timeout=_LOOK_SECONDS)
        except InvalidEvent as exc:
            noted.not_put(number, exc)
        except Transient:  # the server is slow, or makes us wait
            noted.not_put(number, None)
            told = _wait_told(told, producer, noted, interrupts)
            continue
        return


def _finish(producer: HttpProducer, noted: _Lines, interrupts: Interrupts, progress: Progress) -> None:
    told = ""
    while _close(producer, _LOOK_SECONDS).waiting and not producer.ended:
        told = _wait_told(told, producer, noted, interrupts)
        progress.update(noted.report.accepted)
    if noted.stopped is not None:
        raise _Stopped
    noted.must_be_done(producer.problem)


def _close(producer: HttpProducer, seconds: float) -> Report:
    """Close, also a producer that an unknown error has ended: it has told a fate for each line, with the error in it."""
    try:
        return producer.close(seconds)
    except ConfigProblem:
        return producer.last_report


def _wait_told(told: str, producer: HttpProducer, noted: _Lines, interrupts: Interrupts) -> str:
    """Say what is waited for, once; raise when there is no use in waiting."""
    if interrupts.asked:
        raise KeyboardInterrupt
    if noted.stopped is not None:
        raise _Stopped
    if producer.problem and producer.problem != told:
        say(printable(f"waiting: {producer.problem}"))
    return producer.problem


def _problem(noted: _Lines, fate: BatchFate) -> ConfigProblem | Transient:
    again = f"send line {noted.next_line:,} and all after it again; one without event_id would become a second event if the first is there"
    text = printable(f"{fate.why}. {noted.done()}: {again}")
    return ConfigProblem(text) if fate.status else Transient(text)
