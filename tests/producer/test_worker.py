"""The producer of a user's program, round by round: fates, order, room in memory, receipts."""

import itertools
import random
import tempfile
from array import array
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.kpl import split
from pipeline.core.retry import Backoff
from pipeline.core.slots import BatchLabel
from pipeline.sending.batches import EVENT_OVERHEAD_BYTES, ProducerSettings
from pipeline.sending.fates import BatchFate, Unreported
from tests.producer.stepped import SLOTS, Program, Sink, by_entity, firsts, kinds

_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5)),
        st.tuples(st.just("round"), st.sampled_from([0.0, 0.1, 1.0, 11.0])),
        st.tuples(st.just("flush"), st.integers(0, 3)),
        st.tuples(st.just("mood"), st.sampled_from(["good", "mixed", "bad", "down"])),
        st.tuples(st.just("kill"), st.just(0)),
    ),
    max_size=80,
)
_MOODS = {
    "good": ["stored"],
    "mixed": ["stored", "stored", "throttled", "lost"],
    "bad": ["throttled", "throttled", "throttled", "lost", "stored"],
    "down": ["down"],
}


class _Run:
    """One history: several programs, one after the other, over one stream and one spill folder."""

    def __init__(self, folder: Path | None, seed: int) -> None:
        self.luck, self.mood = random.Random(seed), "good"
        self.folder, self.program, self.runs = folder, Program(), 0
        self.sent: list[bytes] = []
        self.told: dict[tuple[int, int], str] = {}  # run and ticket -> its one fate
        self.payload: dict[tuple[int, int], bytes] = {}
        self.begin()

    def begin(self) -> None:
        before, self.runs = self.program, self.runs + 1
        sink = before.sink
        sink.fate = lambda: self.luck.choice(_MOODS[self.mood])
        self.program = Program(
            f"prod{self.runs}",
            self.folder,
            sink,
            before.receipts,
            before.clock,
            max_spill_bytes=3_000,
            file_bytes=400,
        )

    def step(self, what: str, value: float | str) -> None:
        if what == "put":
            payload = b"door-%d#%d" % (int(value), len(self.sent))
            self.payload[self.runs, self.program.put(f"door-{value}", payload)] = payload
            self.sent.append(payload)
        elif what == "round":
            self.program.rounds(seconds=float(value))
        elif what == "flush":
            self.note(kinds(self.program.flush(int(value))))
        elif what == "mood":
            self.mood = str(value)
        else:
            self.program.kill()
            self.begin()

    def note(self, found: Mapping[int, str]) -> None:
        for ticket, kind in found.items():
            if kind != "waiting":
                assert (self.runs, ticket) not in self.told, "reported twice"
                self.told[self.runs, ticket] = kind

    def promised(self) -> set[bytes]:
        """What was reported as acknowledged or as being on disk, and all of the last program."""
        return {
            payload
            for (run, ticket), payload in self.payload.items()
            if run == self.runs or (run, ticket) in self.told
        }


@given(steps=_STEPS, seed=st.integers(0, 2**32), spilling=st.booleans())
@settings(max_examples=150, deadline=None)
def test_any_history(*, steps: list[tuple[str, float]], seed: int, spilling: bool) -> None:
    """Puts, refusals, lost answers, throttles, spills and kills in any order.

    Every event of a program that closes is stored, and so is whatever was reported before a kill; first copies of an
    entity's events are in order; each fate is reported once; receipts have no hole.
    """
    with tempfile.TemporaryDirectory() as name:
        run = _Run(Path(name) / "spill" if spilling else None, seed)
        for what, value in steps:
            run.step(what, value)
        run.mood = "good"
        if spilling:
            assert run.program.wait("drain", 300)
        run.note(kinds(run.program.close(300)))
        assert run.program.worker.finished
        stored = firsts(run.program.sink.payloads())
        assert run.promised() <= set(stored) <= set(run.sent)
        for numbers in by_entity(stored).values():
            assert numbers == sorted(numbers)
        of_last = {ticket for made, ticket in run.payload if made == run.runs}
        assert {ticket for made, ticket in run.told if made == run.runs} == of_last
        for numbers in run.program.acknowledged().values():
            if spilling:
                assert sorted(set(numbers)) == list(range(max(numbers) + 1))
        if spilling:
            assert list((Path(name) / "spill").glob("*.spill")) == []


def test_a_report_says_where_each_event_is() -> None:
    """Shard, sequence number, and the index in the aggregate; a second report says nothing of it."""
    work = Program()
    tickets = {work.put("door-1", b"door-1#%d" % number): number for number in range(5)}
    report = work.flush()
    assert (report.acknowledged, report.waiting, str(report)) == (5, 0, "5 acknowledged")
    for ticket, number in tickets.items():
        fate = report.of(ticket)
        record = work.sink.stored[int(fate.sequence_number) - 1]
        assert (fate.kind, fate.shard_id) == ("acknowledged", "shardId-000000000000")
        assert split(record.data)[fate.subsequence_number] == b"door-1#%d" % number
    assert list(work.flush().fates()) == []
    with pytest.raises(KeyError):
        work.flush().of(0)


def test_what_did_not_go_out_in_time_waits_and_is_reported_again() -> None:
    """`waiting` is no last word; the reason is in the report."""
    work = Program(sink=Sink(fate=lambda: "throttled"))
    tickets = [work.put(f"door-{number}", b"x") for number in range(6)]
    report = work.flush(rounds=20)
    assert kinds(report) == dict.fromkeys(tickets, "waiting")
    assert "ProvisionedThroughputExceededException" in report.problem
    work.sink.fate = lambda: "stored"
    assert kinds(work.flush()) == dict.fromkeys(tickets, "acknowledged")


def test_nothing_is_sent_before_it_lingered() -> None:
    """A round closes what is old enough, and says when to come again."""
    work = Program()
    work.put("door-1", b"x")
    work.clock.advance(5)
    assert work.worker.round() == pytest.approx(0.2)
    assert work.sink.calls == 0
    work.rounds(seconds=0.25)
    assert work.sink.payloads() == [b"x"]
    assert work.worker.round() == 1.0


def test_memory_is_bounded() -> None:
    """An event that finds no room is refused whole; acknowledged bytes make room; a single large one always passes."""
    cost = 100 + EVENT_OVERHEAD_BYTES
    work = Program(sink=Sink(fate=lambda: "throttled"), max_buffer_bytes=3 * cost)
    for _ in range(3):
        work.put("door-1", b"x" * 100)
    work.rounds(30)
    with pytest.raises(
        Transient, match=r"684 bytes of events are waiting.*not taken.*took nothing in 2 attempts"
    ):
        work.put("door-1", b"y" * 100)
    work.sink.fate = lambda: "stored"
    assert work.flush().acknowledged == 3
    work.put("door-1", b"z" * 10_000)
    work.close()
    assert {payload[:1] for payload in work.sink.payloads()} == {b"x", b"z"}
    assert work.inbox.used_bytes() == 0


def test_after_close_nothing_is_taken() -> None:
    """And everything before is stored, with a last receipt that says so."""
    work = Program()
    work.put("door-1", b"x")
    work.worker.close()
    with pytest.raises(ConfigProblem, match="closed"):
        work.put("door-1", b"y")
    assert work.close().acknowledged == 1
    assert [(one.events, one.closed) for one in work.receipts.all()] == [(1, True)]


def test_what_is_put_while_a_round_begins_is_not_forgotten_by_close() -> None:
    """An event that came after the last collecting and before the close is collected by the next round."""
    work = Program()
    work.rounds()
    take = work.inbox.take

    def take_and_put() -> object:
        found = take()
        work.inbox.take = take  # type: ignore[method-assign]
        work.put("door-1", b"x")
        work.worker.close()
        return found

    work.inbox.take = take_and_put  # type: ignore[method-assign, assignment]
    work.rounds()
    assert not work.worker.finished
    assert work.close().acknowledged == 1


def test_a_stream_that_is_gone_refuses_with_its_reason() -> None:
    """What will never work is told as each event's fate, and by the next put."""
    work = Program(sink=Sink(error=ConfigProblem("stream events: no such stream")))
    tickets = [work.put(f"door-{number}", b"x") for number in range(6)]
    report = work.flush()
    assert kinds(report) == dict.fromkeys(tickets, "refused")
    assert report.of(tickets[0]).why == "stream events: no such stream"
    with pytest.raises(ConfigProblem, match=r"sends nothing more.*no such stream"):
        work.put("door-1", b"x")
    assert work.inbox.used_bytes() == 0
    assert work.close().refused == 0
    assert work.receipts.all() == []


def test_fates_that_nobody_asks_for_are_counted() -> None:
    """Memory for fates is bounded: the oldest are folded into a count, none is lost from it."""
    work = Program(keep_fates=6)
    for number in range(20):
        work.put("door-1", b"%d" % number)
        work.rounds()
    report = work.flush()
    assert report.acknowledged == 20
    assert dict(report.folded) == {"acknowledged": 14}
    assert sorted(kinds(report)) == list(range(14, 20))
    assert work.flush().acknowledged == 0


def test_batches_of_one_event_are_bounded_too() -> None:
    """A slow program that never asks makes nothing but small batches: they weigh seventy times their events."""
    fates, batches = Unreported(32_000), 5_000
    for number in range(batches):
        fates.settle(
            BatchLabel("prod1", 0, number, 1), BatchFate("acknowledged", array("q", [number]), "s", "1")
        )
    report = fates.take((), 0, "")
    assert len(report.batches) == 2_000  # a sixteenth
    assert report.acknowledged == batches
    assert dict(report.folded) == {"acknowledged": batches - 2_000}


def test_a_stream_that_is_down_says_no_more_than_that() -> None:
    """Where batches are is the report's own word: the reason does not tell of batches "still here"."""
    work = Program()
    work.sink.fate = lambda: "down"
    work.put("door-1", b"x")
    assert work.flush(20).problem == "stream events took nothing in 2 attempts: nothing was stored"


def test_batches_are_told_as_they_leave() -> None:
    """A callback gets each batch once, with the tickets of its events."""
    told: list[BatchFate] = []
    work = Program(on_batch=told.append)
    tickets = [work.put(f"door-{number}", b"x") for number in range(9)]
    work.flush()
    assert sorted(ticket for one in told for ticket in one.tickets) == tickets
    assert {one.kind for one in told} == {"acknowledged"}


def test_receipts_wait_for_their_table() -> None:
    """Events go out though no receipt can be written; a close is not done before they are."""
    work = Program()
    put, refuse = work.receipts.put, [True]

    def sometimes(receipt: object) -> None:
        if refuse[0]:
            raise Transient("the table is busy")
        put(receipt)  # type: ignore[arg-type]

    work.receipts.put = sometimes  # type: ignore[method-assign]
    work.put("door-1", b"x")
    report = work.close(rounds=20)
    assert (report.acknowledged, report.unreceipted, work.worker.finished) == (1, 1, False)
    assert "the table is busy" in report.problem
    refuse[0] = False
    assert work.close().unreceipted == 0
    assert [one.closed for one in work.receipts.all()] == [True]


def test_waits_grow_and_a_spent_budget_begins_anew() -> None:
    """Between calls without progress time passes; it never stops trying."""
    work = Program(
        sink=Sink(fate=lambda: "down"),
        settings=ProducerSettings(
            slots=SLOTS, backoff=Backoff(attempts=4, base_seconds=1.0, cap_seconds=9.0)
        ),
    )
    work.put("door-1", b"x")
    calls = []
    for _ in range(400):
        before = work.sink.calls
        work.rounds(seconds=0.1)
        if work.sink.calls > before:
            calls.append(work.clock.monotonic())
    gaps = [round(later - earlier, 1) for earlier, later in itertools.pairwise(calls)]
    assert gaps[:6] == [0.5, 1.0, 2.0, 4.5, 0.5, 1.0]
