"""Lines of a file or pipe to the stream: judged by the loader's own rules, refused by number, the rest goes on."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Record, Refusal, RefusalCode
from pipeline.core.rules import Rules
from pipeline.facts import FactSink, LinesIngested
from pipeline.ports.clock import Clock
from pipeline.ports.sender import Sender

_LINES = 1_000  # judged at once
_TELL_SECONDS = 60.0  # between two facts of a long pipe: as fine as CloudWatch keeps its numbers


@dataclass
class IngestReport:
    """What became of the lines. `last_line` is the number of the last line that was sent or refused."""

    lines: int = 0
    accepted: int = 0
    refused: int = 0
    last_line: int = 0


class Lines(Protocol):
    """A source of lines."""

    def readline(self, size: int, /) -> bytes | None:
        """Return a line, at most `size` bytes of it, b"" at the end, or None when nothing has come for a while."""
        ...


def ingest(
    lines: Lines,
    rules: Rules,
    producer: Sender,
    clock: Clock,
    refused: Callable[[int, Refusal], None],
    progress: Callable[[IngestReport], None],
    undisturbed: Callable[[], AbstractContextManager[None]] = nullcontext,
    facts: FactSink = lambda _: None,
) -> IngestReport:
    """Send every acceptable line, one event each; on return all of them are acknowledged.

    Args:
        lines: NDJSON of events or CloudEvents; empty lines are passed over. While nothing comes, what has come is sent.
        rules: what the loader will judge by as well.
        producer: flushed, not closed, at the end - also when interrupted.
        clock: for the allowance on event times.
        refused: told of every refused line: its number, from 1, and why.
        progress: told now and then.
        undisturbed: surrounds what must not be torn by Ctrl-C: an event half put is an event lost.
        facts: told of what is acknowledged, once a minute and at the end.
    """
    report, decoder, told = IngestReport(), Decoder(rules), _Told(facts, clock)
    try:
        for chunk in numbered_lines(lines, rules.limits.max_event_bytes):
            with undisturbed():
                _send(chunk, decoder, producer, clock.now_us(), report, refused)
                progress(report)
                producer.tick()
                if told.due():
                    producer.flush()
                    told.tell(report)
    finally:
        with undisturbed():
            producer.flush()
            told.tell(report)
    return report


class _Told:
    """What was told of a report, and when."""

    def __init__(self, facts: FactSink, clock: Clock) -> None:
        self._facts, self._clock = facts, clock
        self._before, self._at = IngestReport(), clock.monotonic()

    def due(self) -> bool:
        return self._clock.monotonic() - self._at >= _TELL_SECONDS

    def tell(self, now: IngestReport) -> None:
        """Tell what is new; everything accepted is acknowledged by now."""
        before, self._before, self._at = self._before, replace(now), self._clock.monotonic()
        self._facts(
            LinesIngested(
                lines=now.lines - before.lines,
                accepted=now.accepted - before.accepted,
                refused=now.refused - before.refused,
            )
        )


def _send(
    chunk: list[tuple[int, bytes]],
    decoder: Decoder,
    producer: Sender,
    now_us: int,
    report: IngestReport,
    refused: Callable[[int, Refusal], None],
) -> None:
    if not chunk:
        return
    decoded, large = Decoded(), 0
    decoder.decode_events([Record("0", "", line, now_us) for _, line in chunk], decoded)
    for refusal in decoded.refusals:
        refused(chunk[refusal.record][0], refusal)
    for row in decoded.rows:
        number, line = chunk[row.record]
        try:
            producer.put(row.envelope.tenant_id, row.envelope.entity_id, line)
        except InvalidEvent as exc:  # the limits allow what no Kinesis record holds
            refused(number, Refusal(exc.code, exc.pointer, exc.message, line, row.record, 0))
            large += 1
    report.lines += len(chunk)
    report.accepted += len(decoded.rows) - large
    report.refused += len(decoded.refusals) + large
    report.last_line = chunk[-1][0]


def numbered_lines(lines: Lines, max_bytes: int) -> Iterator[list[tuple[int, bytes]]]:
    """Yield numbered lines; one that is too long is cut after the limit, so it is refused and costs no memory."""
    chunk: list[tuple[int, bytes]] = []
    number = 0
    while (line := lines.readline(max_bytes + 2)) != b"":
        if line is None:
            yield chunk
            chunk = []
            continue
        number += 1
        if not line.endswith(b"\n") and len(line) > max_bytes:
            _skip_rest(lines)
            chunk.append((number, line))  # as it is: stripped, its beginning might pass for an event
        elif line := line.strip():
            chunk.append((number, line))
        if len(chunk) >= _LINES:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _skip_rest(lines: Lines) -> None:
    while (part := lines.readline(65_536)) != b"":
        if part is not None and part.endswith(b"\n"):
            return


def explain(refusal: Refusal, max_bytes: int) -> str:
    """Return one line for a person: code, place, message."""
    if refusal.code == RefusalCode.TOO_LARGE:
        return f"{refusal.code}: an event has at most {max_bytes} bytes"
    where = f" at {refusal.pointer}" if refusal.pointer else ""
    return f"{refusal.code}{where}: {refusal.message}"
