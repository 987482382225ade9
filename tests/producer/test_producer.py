"""The producer over a sink that refuses, forgets to answer and has limits: nothing lost, nothing out of order."""

import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import InvalidEvent, OutcomeUnknown, Transient
from pipeline.core.kpl import split
from pipeline.core.receipt import MAX_BATCHES, Receipt
from pipeline.core.retry import Backoff
from pipeline.core.slots import hash_key, parse_label, slot_of
from pipeline.ports.stream import OutgoingRecord, PutAnswer
from pipeline.sending import Producer, ProducerSettings
from pipeline.sending.batches import MAX_EVENT_BYTES, MAX_RECORD_BYTES
from pipeline.sending.lanes import MAX_PUT_BYTES, MAX_PUT_RECORDS
from tests.fakes.clock import SteppedClock
from tests.fakes.receipts import MemoryReceipts


@dataclass
class Sink:
    """Stores records in order; before each call `fate` says what becomes of it."""

    fate: Callable[[int, int], str] = lambda _call, _index: "stored"
    stored: list[OutgoingRecord] = field(default_factory=list)
    calls: list[list[OutgoingRecord]] = field(default_factory=list)

    def put(self, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        """Put records, some of them, or raise before or after."""
        self.calls.append(list(records))
        fates = [self.fate(len(self.calls), index) for index in range(len(records))]
        if "down" in fates:
            raise Transient("nothing was stored")
        answers = []
        for one, fate in zip(records, fates, strict=True):
            if fate == "refused":
                answers.append(PutAnswer("", "", "ProvisionedThroughputExceededException"))
            else:
                self.stored.append(one)
                answers.append(PutAnswer("shardId-000000000000", str(len(self.stored)), ""))
        if "lost" in fates:
            raise OutcomeUnknown("no answer came")
        return answers

    def payloads(self) -> list[bytes]:
        """Return the events stored, in order."""
        return [payload for one in self.stored for payload in split(one.data)]


@dataclass
class Work:
    """A producer and what is around it."""

    sink: Sink = field(default_factory=Sink)
    receipts: MemoryReceipts = field(default_factory=MemoryReceipts)
    clock: SteppedClock = field(default_factory=SteppedClock)

    def producer(self, **settings: Any) -> Producer:
        """Return a producer."""
        chosen = ProducerSettings(**{"slots": 4, "backoff": Backoff(attempts=4), **settings})
        return Producer("prod1", ("events", "7"), self.sink, self.receipts, self.clock, lambda: 0.5, chosen)

    def acknowledged(self) -> set[tuple[int, int, int, str]]:
        """Return (slot, number, events, sequence number) of all receipts."""
        return {
            (b.slot, b.number, b.events, b.sequence_number)
            for one in self.receipts.all()
            for b in one.batches
        }


def _firsts(payloads: list[bytes]) -> list[bytes]:
    """Return payloads without their later copies."""
    return list(dict.fromkeys(payloads))


def _by_entity(payloads: list[bytes]) -> dict[bytes, list[int]]:
    found: dict[bytes, list[int]] = defaultdict(list)
    for payload in payloads:
        entity, number = payload.split(b"#")
        found[entity].append(int(number))
    return found


@given(
    st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=60),
    st.integers(0, 2**32),
    st.sampled_from([0, 30, 70]),
)
@settings(max_examples=80, deadline=None)
def test_an_entity_stays_in_order(puts: list[tuple[int, bool]], seed: int, trouble: int) -> None:
    """Over refusals, failures and lost answers every event is stored, each entity's first copies in order."""
    luck = random.Random(seed)
    fates = [
        *["stored"] * (100 - trouble),
        *["refused"] * (trouble - trouble // 5),
        *["lost"] * (trouble // 5),
        "down",
    ]
    work = Work(Sink(lambda _call, _index: luck.choice(fates)))
    producer = work.producer(max_batch_events=3, backoff=Backoff(attempts=100))
    sent = [b"door-%d#%d" % (entity, number) for number, (entity, _) in enumerate(puts)]
    for payload, (entity, flush) in zip(sent, puts, strict=True):
        producer.put("acme", f"door-{entity}", payload)
        if flush:
            producer.flush()
    producer.close()
    assert sorted(_firsts(work.sink.payloads())) == sorted(sent)
    assert _by_entity(_firsts(work.sink.payloads())) == _by_entity(sent)
    assert producer.events_acknowledged == len(sent) == sum(one.events for one in work.receipts.all())
    _labels_are_contiguous(work)


def _labels_are_contiguous(work: Work) -> None:
    """Every batch has one label; a slot's labels count from 0; receipts say where each was stored."""
    numbers: dict[int, list[int]] = defaultdict(list)
    for slot, number, events, sequence in work.acknowledged():
        record = work.sink.stored[int(sequence) - 1]
        label = parse_label(record.partition_key)
        assert label is not None
        assert (label.producer, label.slot, label.number, label.events) == ("prod1", slot, number, events)
        assert len(split(record.data)) == events
        assert record.explicit_hash_key == hash_key(slot, 4)
        numbers[slot].append(number)
    for found in numbers.values():
        assert sorted(found) == list(range(len(found)))


def test_only_what_was_refused_is_sent_again() -> None:
    """After a partial failure the next call holds the refused records alone, the same bytes under the same label."""
    work = Work(Sink(lambda call, index: "refused" if call == 1 and index == 1 else "stored"))
    producer = work.producer()
    for entity in range(12):
        producer.put("acme", f"door-{entity}", b"x")
    producer.flush()
    first, second = work.sink.calls
    assert second == [first[1]]
    assert len(first) == 4


def test_a_refusal_does_not_let_a_later_batch_pass() -> None:
    """The second batch of a slot waits until the first is stored."""
    work = Work(Sink(lambda call, _index: "refused" if call <= 2 else "stored"))
    producer = work.producer(slots=1, max_batch_events=1)
    for number in range(3):
        producer.put("acme", "door-1", b"%d" % number)
    producer.flush()
    assert work.sink.payloads() == [b"0", b"1", b"2"]
    assert [len(call) for call in work.sink.calls] == [1] * 5


def test_a_lost_answer_repeats_the_batch_under_its_label() -> None:
    """Stored, and no answer: the copy carries the same label, so the loader and the audit know it for one."""
    work = Work(Sink(lambda call, _index: "lost" if call == 1 else "stored"))
    producer = work.producer()
    producer.put("acme", "door-1", b"x")
    producer.close()
    assert len(work.sink.stored) == 2
    assert work.sink.stored[0] == work.sink.stored[1]
    assert {sequence for *_, sequence in work.acknowledged()} == {"2"}
    assert producer.events_acknowledged == 1


def test_a_spent_budget_forgets_nothing() -> None:
    """When the stream takes nothing for long, the caller hears of it; everything is still there and goes out later."""
    fate = ["down"]
    work = Work(Sink(lambda _call, _index: fate[0]))
    producer = work.producer()
    for entity in range(5):
        producer.put("acme", f"door-{entity}", b"door-%d#0" % entity)
    with pytest.raises(Transient, match="call flush"):
        producer.flush()
    assert len(work.sink.calls) == 4  # as many attempts as the budget has
    with pytest.raises(Transient):
        producer.close()
    assert work.receipts.all() == []
    fate[0] = "stored"
    producer.put("acme", "door-0", b"door-0#1")
    producer.close()
    assert _by_entity(work.sink.payloads())[b"door-0"] == [0, 1]
    assert producer.events_acknowledged == 6


def test_progress_renews_the_budget() -> None:
    """As long as something is taken at each call, no number of refusals ends the work."""
    work = Work(Sink(lambda _call, index: "stored" if index == 0 else "refused"))
    producer = work.producer(slots=64, backoff=Backoff(attempts=2))
    for entity in range(200):
        producer.put("acme", f"door-{entity}", b"x")
    producer.flush()
    assert len(work.sink.payloads()) == 200
    assert len(work.sink.calls) > 30


def test_waits_between_attempts_grow() -> None:
    """The pauses are drawn from the back-off, and only taken when nothing went through."""
    work = Work(Sink(lambda call, _index: "down" if call < 4 else "stored"))
    producer = work.producer(backoff=Backoff(attempts=5, base_seconds=1.0, cap_seconds=3.0))
    producer.put("acme", "door-1", b"x")
    producer.flush()
    assert work.clock.monotonic() == 0.5 * (1 + 2 + 3)


def test_limits_of_a_call() -> None:
    """A call holds one batch per slot, at most 500 records and 4.5 MB, also where there are more slots than that."""
    work = Work()
    producer = work.producer(slots=2_000, max_batch_events=10_000)
    for size in (1, 9_000):
        for entity in range(3_000):
            producer.put("acme", f"door-{entity}", b"x" * size)
        producer.flush()
    assert len(work.sink.payloads()) == 6_000
    assert max(map(len, work.sink.calls)) == MAX_PUT_RECORDS
    for call in work.sink.calls:
        slots = [parse_label(one.partition_key) for one in call]
        assert len({label.slot for label in slots if label}) == len(call)
        assert sum(len(one.data) + len(one.partition_key) for one in call) <= MAX_PUT_BYTES


def test_batches_close_at_their_limits() -> None:
    """A batch closes at its number of events or of bytes."""
    work = Work()
    producer = work.producer(slots=1, max_batch_events=3, max_batch_bytes=1_000)
    for size in (1, 1, 1, 1, 990, 1):
        producer.put("acme", "door-1", b"x" * size)
    producer.flush()
    assert [len(split(one.data)) for one in work.sink.stored] == [3, 2, 1]


@pytest.mark.parametrize("size", [MAX_EVENT_BYTES + 1, MAX_RECORD_BYTES, 5 * 2**20])
def test_an_event_that_no_record_holds_is_refused_alone(size: int) -> None:
    """Too large for Kinesis: an error at once, and its neighbours in the batch go out as if nothing had been."""
    work = Work()
    producer = work.producer()
    producer.put("acme", "door-1", b"before")
    with pytest.raises(InvalidEvent, match="Kinesis") as caught:
        producer.put("acme", "door-1", b"x" * size)
    assert (caught.value.code, caught.value.pointer) == ("too_large", "")
    producer.put("acme", "door-1", b"after")
    producer.close()
    assert work.sink.payloads() == [b"before", b"after"]
    assert producer.events_acknowledged == 2


@pytest.mark.parametrize("first", [1, 200_000, 262_143])
@pytest.mark.parametrize("second", [262_144, 900_000, MAX_EVENT_BYTES])
def test_no_record_outgrows_kinesis(first: int, second: int) -> None:
    """A large event does not join a batch that it would make larger than a record may be; order is kept."""
    work = Work()
    producer = work.producer(slots=1)
    payloads = [b"a" * first, b"b" * second, b"c"]
    for payload in payloads:
        producer.put("acme", "door-1", payload)
    producer.close()
    assert work.sink.payloads() == payloads
    for one in work.sink.stored:
        assert len(one.data) + len(one.partition_key.encode()) <= MAX_RECORD_BYTES


class _BusyReceipts(MemoryReceipts):
    """Refuses some calls, and loses the answer of others."""

    def __init__(self, fates: Iterator[str]) -> None:
        super().__init__()
        self._fates = fates

    def put(self, receipt: Receipt) -> None:
        """Store one receipt, perhaps."""
        fate = next(self._fates)
        if fate != "down":
            super().put(receipt)
        if fate != "stored":
            raise (Transient if fate == "down" else OutcomeUnknown)("no")


def test_receipts_survive_a_busy_table() -> None:
    """A receipt that cannot be written is tried again, and its batches are never forgotten."""
    fates = iter(["down", "lost", "stored", "down", "down", "down", "down", "stored"])
    work = Work(receipts=_BusyReceipts(fates))
    producer = work.producer()
    producer.put("acme", "door-1", b"1")
    work.clock.advance(60)
    producer.flush()
    producer.put("acme", "door-1", b"2")
    with pytest.raises(Transient):
        producer.close()
    producer.close()
    assert [(one.number, one.events, one.closed) for one in work.receipts.all()] == [
        (0, 1, False),
        (1, 1, True),
    ]


def test_receipts_are_written_on_an_interval_and_at_the_end() -> None:
    """A crash leaves at most ten seconds unreceipted; the last receipt says that it is the last."""
    work = Work()
    producer = work.producer()
    for number in range(3):
        producer.put("acme", "door-1", b"%d" % number)
        work.clock.advance(9)
        producer.flush()
    assert [one.events for one in work.receipts.all()] == [2]
    producer.close()
    assert [(one.number, one.events, one.closed) for one in work.receipts.all()] == [
        (0, 2, False),
        (1, 1, True),
    ]
    first, last = work.receipts.all()
    assert first.acked_from_us < first.acked_until_us == last.acked_from_us < last.acked_until_us
    assert (first.stream, first.epoch) == ("events", "7")


def test_a_receipt_has_a_bounded_size() -> None:
    """Many batches make several receipts, numbered without a hole."""
    work = Work()
    producer = work.producer(slots=1, max_batch_events=1)
    for number in range(MAX_BATCHES + 3):
        producer.put("acme", "door-1", b"%d" % number)
    producer.close()
    found = work.receipts.all()
    assert [one.number for one in found] == list(range(len(found)))
    assert max(len(one.batches) for one in found) <= MAX_BATCHES
    assert sum(one.events for one in found) == MAX_BATCHES + 3
    assert [one.closed for one in found] == [*[False] * (len(found) - 1), True]


def test_what_lingers_is_sent() -> None:
    """`tick` flushes what has waited for the linger time, and nothing before."""
    work = Work()
    producer = work.producer(linger_seconds=0.2)
    producer.put("acme", "door-1", b"x")
    producer.tick()
    assert work.sink.calls == []
    work.clock.advance(0.25)
    producer.tick()
    assert work.sink.payloads() == [b"x"]


def test_slots_are_those_of_the_entity() -> None:
    """All batches of an entity lie in its slot."""
    work = Work()
    producer = work.producer(slots=64)
    for entity in range(50):
        producer.put("acme", f"door-{entity}", b"door-%d#0" % entity)
    producer.flush()
    for one in work.sink.stored:
        label = parse_label(one.partition_key)
        assert label is not None
        slots = {slot_of("acme", payload.split(b"#")[0].decode(), 64) for payload in split(one.data)}
        assert slots == {label.slot}


def test_an_idle_producer_sends_nothing() -> None:
    """Flush and close without events make no call and leave no receipt: there is nothing to witness."""
    work = Work()
    producer = work.producer()
    producer.flush()
    producer.close()
    assert work.sink.calls == []
    assert work.receipts.all() == []


def test_the_last_receipt_may_be_empty() -> None:
    """A producer whose batches are all receipted still says at its end that nothing is missing."""
    work = Work()
    producer = work.producer()
    producer.put("acme", "door-1", b"x")
    work.clock.advance(60)
    producer.flush()
    producer.close()
    assert [(len(one.batches), one.closed) for one in work.receipts.all()] == [(1, False), (0, True)]
