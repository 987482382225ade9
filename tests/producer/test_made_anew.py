"""A stream that is deleted and made anew while a producer lives: what the new one took stands in no receipt of the old."""

from pathlib import Path

import pytest

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.kpl import split
from pipeline.core.retry import Backoff
from pipeline.sending import Producer, ProducerSettings
from pipeline.sending.lookout import LOOK_SECONDS
from pipeline.sending.receipting import RECEIPT_SECONDS
from tests.fakes.clock import SteppedClock
from tests.fakes.receipts import MemoryReceipts
from tests.fakes.stream import MemoryStream, NamedStream
from tests.producer.stepped import Program, Sink, kinds


def _program(folder: Path | None = None) -> tuple[Program, NamedStream]:
    clock = SteppedClock()
    name = NamedStream(clock)
    return Program(folder=folder, sink=Sink(name), clock=clock, check=name), name


def _numbers(receipts: MemoryReceipts) -> set[str]:
    assert {one.epoch for one in receipts.all()} <= {"1"}
    return {batch.sequence_number for one in receipts.all() for batch in one.batches}


def _held(stream: MemoryStream) -> set[str]:
    return {record.sequence_number for shard in stream.by_id.values() for record in shard.records}


def _put_and_send(program: Program, *payloads: bytes) -> None:
    for payload in payloads:
        program.put("door", payload)
    program.flush()


def test_only_what_the_old_stream_took_is_receipted() -> None:
    """Acknowledged on both sides of the change and not receipted yet: the old stream's batches are receipted, the new one's are not."""
    program, name = _program()
    _put_and_send(program, b"a")
    name.make_anew()
    _put_and_send(program, b"b")
    program.rounds(3, seconds=RECEIPT_SECONDS)
    assert _numbers(program.receipts) == _held(name.before[0]) != set()
    assert len(_held(name.now)) == 1
    with pytest.raises(ConfigProblem, match=r"made anew.*1 batches.*no receipt.*make a new one"):
        program.put("door", b"c")
    assert [one for one in program.facts.names() if one == "StreamMadeAnew"] == ["StreamMadeAnew"]
    report = program.close()
    assert report.unreceipted == 1
    assert "made anew" in report.problem
    assert not any(one.closed for one in program.receipts.all())


def test_after_a_silence_nothing_goes_to_the_new_stream() -> None:
    """A producer that was silent for longer than a stream takes to be made looks before it sends."""
    program, name = _program()
    _put_and_send(program, b"a")
    program.rounds(3, seconds=RECEIPT_SECONDS)
    name.make_anew()
    program.clock.advance(LOOK_SECONDS)
    ticket = program.put("door", b"b")
    report = program.flush()
    assert kinds(report)[ticket] == "refused"
    assert _held(name.now) == set()
    assert _numbers(program.receipts) == _held(name.before[0])
    assert program.close().unreceipted == 0


def test_without_its_shards_nothing_doubtful_is_receipted() -> None:
    """Where nobody can tell where the new stream begins, whatever follows the last good look stays without a receipt."""
    program, name = _program()
    name.shards_are_told = False
    _put_and_send(program, b"a")
    program.rounds(1, seconds=RECEIPT_SECONDS)
    receipted = _numbers(program.receipts)
    _put_and_send(program, b"b")
    name.make_anew()
    program.rounds(2, seconds=RECEIPT_SECONDS)
    assert _numbers(program.receipts) == receipted != _held(name.before[0])
    assert program.close().unreceipted == 1


def test_what_a_look_confirmed_stays_receiptable() -> None:
    """A receipt that could not be stored is of what a look confirmed before; a later change takes nothing from it."""

    class Failing(MemoryReceipts):
        fails = True

        def put(self, receipt: object) -> None:
            if self.fails:
                raise Transient("the table is away")
            super().put(receipt)  # type: ignore[arg-type]

    program, name = _program()
    name.shards_are_told = False
    receipts = Failing()
    program = Program(sink=Sink(name), clock=program.clock, check=name, receipts=receipts)
    _put_and_send(program, b"a")
    program.rounds(2, seconds=RECEIPT_SECONDS)
    assert name.looks
    name.make_anew()
    receipts.fails = False
    program.rounds(5, seconds=RECEIPT_SECONDS)
    assert _numbers(receipts) == _held(name.before[0]) != set()


def test_a_spill_stays_on_disk(tmp_path: Path) -> None:
    """Batches that wait on disk for the old stream stay there; the new one gets none of them."""
    program, name = _program(tmp_path / "spill")
    _put_and_send(program, b"a")
    program.sink.error = Transient("away")
    program.put("door", b"b")
    program.rounds(30)
    name.make_anew()
    program.clock.advance(LOOK_SECONDS)
    program.sink.error = None
    program.put("gate", b"c")
    program.rounds(30)
    program.close()
    assert _held(name.now) == set()
    assert program.acknowledged()
    left = b"".join(one.read_bytes() for one in (tmp_path / "spill").glob("*.spill"))
    assert b"b" in left
    with pytest.raises(ConfigProblem, match="name another spill folder"):
        Program("prod2", tmp_path / "spill", stream=("events", "2"))


def test_a_producer_that_is_gone_is_not_called_complete(tmp_path: Path) -> None:
    """Its spill went to the new stream before anybody looked: its receipts do not say that nothing is missing."""
    program, name = _program(tmp_path)
    _put_and_send(program, b"a")
    program.sink.error = Transient("away")
    program.put("door", b"b")
    program.rounds(30)
    program.kill()
    later = Program("prod2", tmp_path, Sink(name), program.receipts, program.clock, check=name)
    name.make_anew()
    later.rounds(3, seconds=RECEIPT_SECONDS)
    assert len(_held(name.now)) == 1
    assert _numbers(later.receipts) == _held(name.before[0]) != set()
    assert not any(one.closed for one in later.receipts.all())
    assert later.close().unreceipted == 1


def test_no_receipt_without_a_look() -> None:
    """While nobody answers whether the stream is the same, no receipt is written, and none is lost."""
    program, name = _program()
    name.error = Transient("too many questions")
    program.clock.advance(LOOK_SECONDS)
    _put_and_send(program, b"a")
    program.rounds(5, seconds=RECEIPT_SECONDS)
    assert not program.receipts.stored
    ticket = program.put("door", b"b")
    assert kinds(program.flush())[ticket] == "acknowledged"
    name.error = None
    program.rounds(5, seconds=RECEIPT_SECONDS)
    assert _numbers(program.receipts) == _held(name.now)


def test_a_look_for_each_receipt_and_none_for_a_put() -> None:
    """A busy producer asks once for each receipt, an idle one not at all."""
    program, name = _program()
    for number in range(100):
        program.put("door", b"%d" % number)
        program.rounds()
    assert program.sink.calls >= 50
    assert name.looks == len(program.receipts.stored) == 10
    program.rounds(100)
    assert name.looks <= 11


def _single(name: NamedStream, receipts: MemoryReceipts, clock: SteppedClock) -> Producer:
    settings = ProducerSettings(slots=4, backoff=Backoff(attempts=4))
    return Producer("prod1", ("events", "1"), name, receipts, clock, lambda: 0.5, settings, name)


@pytest.mark.parametrize("silence", [0.0, LOOK_SECONDS])
def test_the_producer_of_one_thread(silence: float) -> None:
    """It raises, receipts what the old stream took, and takes nothing more; after a silence the new stream gets nothing."""
    clock, receipts = SteppedClock(), MemoryReceipts()
    name = NamedStream(clock)
    producer = _single(name, receipts, clock)
    producer.put("acme", "door", b"a")
    producer.flush()
    name.make_anew()
    clock.advance(silence)
    producer.put("acme", "door", b"b")
    with pytest.raises(ConfigProblem, match="made anew"):
        producer.close()
    assert _numbers(receipts) == _held(name.before[0]) != set()
    assert not any(one.closed for one in receipts.all())
    stored = [split(record.data) for shard in name.now.by_id.values() for record in shard.records]
    assert stored == ([] if silence else [[b"b"]])
    with pytest.raises(ConfigProblem, match="made anew"):
        producer.put("acme", "door", b"c")
