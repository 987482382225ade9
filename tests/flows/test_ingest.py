"""Lines to the stream: broken ones by number, the rest goes on, nothing taken is lost."""

import gzip
import io
from typing import BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.event import Limits, Refusal
from pipeline.core.kpl import split
from pipeline.facts import Fact, LinesIngested
from pipeline.flows.ingest import IngestReport, explain, ingest
from pipeline.sending.batches import MAX_EVENT_BYTES
from tests.core.kit import DOOR, cloud_event, event, rules_for, wire
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.flows.deployment import Deployment

LIMIT = 1_000
RULES = rules_for(DOOR, limits=Limits(max_event_bytes=LIMIT))
GOOD = wire(event())


class _Run:
    """One ingest: what it reported and what reached the stream."""

    def __init__(self, lines: BinaryIO | bytes, limit: int = LIMIT) -> None:
        self.house = Deployment()
        self.refused: dict[int, str] = {}
        self.progress: list[int] = []
        rules = (
            RULES
            if limit == LIMIT
            else rules_for(DOOR, limits=Limits(max_event_bytes=limit, max_string_bytes=limit))
        )
        source = io.BytesIO(lines) if isinstance(lines, bytes) else lines
        self.report = IngestReport()
        try:
            self.report = ingest(
                source, rules, self.house.producer(), self.house.clock, self._refused, self._progress
            )
        finally:
            records = [one for shard in self.house.stream.by_id.values() for one in shard.records]
            self.sent = [payload for one in records for payload in split(one.data)]

    def _refused(self, number: int, refusal: Refusal) -> None:
        self.refused[number] = str(refusal.code)

    def _progress(self, report: IngestReport) -> None:
        self.progress.append(report.lines)


def _event(number: int) -> bytes:
    return wire(event(event_id=f"e{number}"))


def test_lines_are_numbered_from_one() -> None:
    """A broken line is refused by its number, empty lines counted; the others go on in order."""
    run = _Run(b"\n".join([_event(1), b"", b"{broken", b"   ", _event(5), b'{"half":', _event(7)]) + b"\n")
    assert run.refused == {3: "not_json", 6: "not_json"}
    assert run.sent == [_event(1), _event(5), _event(7)]
    assert run.report == IngestReport(lines=5, accepted=3, refused=2, last_line=7)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\n\n\n"])
@pytest.mark.parametrize("between", [b"\n", b"\r\n", b"\n\r\n", b" \n\t"])
def test_line_ends(between: bytes, end: bytes) -> None:
    """CRLF, blanks around a line and a missing last newline change nothing."""
    run = _Run(between.join([_event(1), _event(2)]) + end)
    assert (run.sent, run.refused) == ([_event(1), _event(2)], {})


def test_nothing_is_nothing() -> None:
    """An empty input sends nothing and is no error."""
    run = _Run(b"")
    assert (run.sent, run.report) == ([], IngestReport())


def test_rubbish_is_refused_line_by_line() -> None:
    """Bytes of another kind of file are refused; the good line among them is sent."""
    run = _Run(bytes(range(256)) + b"\n\xf3\x89\x9a\xc2aggregate?\n" + GOOD + b"\n\xff\xfe\x00")
    assert run.sent == [GOOD]
    assert set(run.refused.values()) == {"not_json"}
    assert len(run.refused) == 4  # the 256 bytes hold one newline


def test_a_line_is_one_event() -> None:
    """CloudEvents are sent as they are; batches and gzips are for those who write to the stream themselves."""
    cloud = wire(cloud_event())
    batch, packed = b"[" + GOOD + b"," + GOOD + b"]", gzip.compress(GOOD, mtime=0).replace(b"\n", b"")
    run = _Run(b"\n".join([cloud, batch, packed, GOOD]))
    assert (run.sent, run.refused) == ([cloud, GOOD], {2: "bad_envelope", 3: "not_json"})


@pytest.mark.parametrize("extra", [-1, 0, 1, 2, 3, 70_000, 200_000])
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
def test_lines_around_the_limit(extra: int, end: bytes) -> None:
    """A line up to the limit is sent, a longer one refused alone, wherever its reading was cut; its neighbours pass."""
    long = GOOD[:-1] + b" " * (LIMIT + extra - len(GOOD)) + b"}"
    tail = end + _event(3) if end else b""
    run = _Run(_event(1) + b"\n" + long + tail)
    expected = [_event(1), *([long] if extra <= 0 else []), *([_event(3)] if end else [])]
    assert run.sent == expected
    assert run.refused == ({} if extra <= 0 else {2: "too_large"})


@pytest.mark.parametrize("head", [b"", GOOD])
def test_a_long_line_is_not_mistaken_for_its_beginning(head: bytes) -> None:
    """Blanks beyond the limit do not hide what stands behind them: the whole line is refused, not its start taken."""
    run = _Run(_event(1) + b"\n" + head + b" " * 2 * LIMIT + _event(2) + b"\n" + _event(3) + b"\n")
    assert run.sent == [_event(1), _event(3)]
    assert run.refused == {2: "too_large"}


def test_an_event_that_no_record_holds_is_refused_by_number() -> None:
    """Limits wider than Kinesis' own still refuse the line, not the run."""
    rules_limit = 2 * 2**20
    huge = GOOD[:-1] + b" " * (MAX_EVENT_BYTES + 1 - len(GOOD)) + b"}"
    run = _Run(b"\n".join([_event(1), huge, _event(3)]), rules_limit)
    assert run.sent == [_event(1), _event(3)]
    assert run.refused == {2: "too_large"}
    assert (run.report.accepted, run.report.refused) == (2, 1)


class _Interrupted(io.BytesIO):
    """A pipe whose reader presses Ctrl-C after some lines."""

    left = 1_500

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a line, or be interrupted."""
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt
        return super().readline(size)


def test_an_interrupt_flushes_what_was_taken() -> None:
    """Ctrl-C while reading: what was judged before is sent and acknowledged, then the interrupt goes on."""
    source = _Interrupted(b"\n".join(_event(number) for number in range(3_000)))
    house = Deployment()
    producer = house.producer(max_batch_events=10_000, linger_seconds=1e9)
    with pytest.raises(KeyboardInterrupt):
        ingest(source, RULES, producer, house.clock, lambda _number, _refusal: None, lambda _report: None)
    assert producer.events_acknowledged == 1_000


def test_progress_is_told() -> None:
    """Progress comes with every thousand lines and at the end."""
    run = _Run(b"\n".join(_event(number) for number in range(2_500)))
    assert run.progress == [1_000, 2_000, 2_500]


class _Slow(io.BytesIO):
    """A pipe whose lines take their time."""

    def __init__(self, lines: list[bytes], clock: SteppedClock, seconds: float) -> None:
        super().__init__(b"\n".join(lines))
        self._clock, self._seconds = clock, seconds

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a line, later."""
        self._clock.advance(self._seconds)
        return super().readline(size)


def test_facts_tell_what_is_acknowledged() -> None:
    """Once a minute and at the end, each line in one fact; what is accepted then is acknowledged."""
    house, told = Deployment(), FactList()
    producer = house.producer(max_batch_events=10_000, linger_seconds=1e9)
    acknowledged: list[int] = []

    def facts(fact: Fact) -> None:
        told(fact)
        acknowledged.append(producer.events_acknowledged)

    lines = [b"{" if number % 10 == 9 else _event(number) for number in range(2_500)]
    source = _Slow(lines, house.clock, 0.05)  # a thousand lines take 50 s
    ingest(source, RULES, producer, house.clock, lambda *_: None, lambda _: None, facts=facts)
    assert told.told == [
        LinesIngested(lines=2_000, accepted=1_800, refused=200),
        LinesIngested(lines=500, accepted=450, refused=50),
    ]
    assert acknowledged == [1_800, 2_250]


def test_the_clock_judges_event_times() -> None:
    """An event time too far ahead of now is refused as the loader would refuse it."""
    run = _Run(
        wire(event(event_time="2024-03-10T13:00:01Z"))
        + b"\n"
        + wire(event(event_time="2024-03-10T13:00:00Z"))
    )
    assert run.refused == {1: "time_in_future"}


@given(
    st.lists(
        st.sampled_from([GOOD, b"", b"{", b"\xff", b" " * 1_500, GOOD + b" " * 1_200, b"x" * 1_001, b"[]"]),
        max_size=8,
    )
)
@settings(max_examples=60, deadline=None)
def test_every_line_is_sent_refused_or_blank(lines: list[bytes]) -> None:
    """No line disappears: each is sent, refused by its number, or blank within the limit."""
    run = _Run(b"\n".join(lines))
    assert len(run.sent) == lines.count(GOOD)
    expected = {at for at, line in enumerate(lines, 1) if line not in (b"", GOOD)}
    assert set(run.refused) == expected


@pytest.mark.parametrize(
    ("refusal", "text"),
    [
        (Refusal("too_large", "", "1002 bytes", b"", 0, 0), "too_large: an event has at most 1000 bytes"),
        (Refusal("schema_mismatch", "/data/n", "no", b"", 0, 0), "schema_mismatch at /data/n: no"),
        (Refusal("not_json", "", "no", b"", 0, 0), "not_json: no"),
    ],
)
def test_a_line_for_a_person(refusal: Refusal, text: str) -> None:
    """A refusal reads as one line: code, place, message."""
    assert explain(refusal, LIMIT) == text
