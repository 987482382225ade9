"""Behaviour of the ports `Stream`, `ShardReader` and `RecordSink`, the same in every world."""

import time

import pytest

from pipeline.aws.kinesis import KinesisCheck, KinesisStream, create_stream
from pipeline.core.errors import ConfigProblem
from pipeline.core.event import Record
from pipeline.core.segment import Position
from pipeline.core.slots import hash_key
from pipeline.ports.stream import Batch, OutgoingRecord, ShardReader, Stream
from pipeline.sending.receipting import RECEIPT_SECONDS
from tests.aws.backends import Aws, Faulty, World
from tests.fakes.stream import MemoryStream
from tests.producer.stepped import Program, Sink, kinds

FIRST = "shardId-000000000000"
RESHARDING = (
    "moto hands a closed shard's records to its children and ministack forgets the parent's iterator; "
    "the fake stream splits as Kinesis does"
)


def _records(count: int, size: int = 1, slots: int = 1) -> list[OutgoingRecord]:
    return [
        OutgoingRecord(b"%d-" % n + b"x" * size, f"key-{n}", hash_key(n % slots, slots)) for n in range(count)
    ]


def _drain(reader: ShardReader, expected: int) -> list[Record]:
    """Read until so many records have come; Kinesis may answer with none in between."""
    found: list[Record] = []
    for _ in range(200):
        found += reader.read().records
        if len(found) >= expected:
            break
    return found


def _read(stream: Stream, shard_id: str, expected: int, after: Position | None = None) -> list[Record]:
    return _drain(stream.reader(shard_id, after), expected)


def test_records_come_back_in_order(place: World) -> None:
    """Bytes, partition key and sequence number as acknowledged, in the order of the call; whole, not taken apart."""
    stream, sink = place.stream(1)
    # Not 0 and 2^128 - 1, which Kinesis takes: moto's only shard ends one before the last key, and it crashes.
    sent = [OutgoingRecord(b"\x00\xff", "first", "1"), OutgoingRecord(b"two", "zwei-\u00e9", str(2**128 - 2))]
    answers = sink.put(sent)
    found = _read(stream, FIRST, 2)
    assert [(one.data, one.partition_key) for one in found] == [(one.data, one.partition_key) for one in sent]
    assert [one.sequence_number for one in found] == [one.sequence_number for one in answers]
    assert [(one.shard_id, bool(one.error)) for one in answers] == [(FIRST, False)] * 2
    assert {one.subsequence_number for one in found} == {None}
    numbers = [int(one.sequence_number) for one in found]
    assert numbers == sorted(set(numbers))


def test_the_hash_key_chooses_the_shard(place: World) -> None:
    """Every slot lies in one shard, low ones before high ones, whatever the partition key."""
    stream, sink = place.stream(4)
    answers = sink.put([OutgoingRecord(b"x", "same", hash_key(slot, 64)) for slot in range(64)])
    assert [one.shard_id for one in answers] == [f"shardId-{slot // 16:012d}" for slot in range(64)]
    for number in range(4):
        assert len(_read(stream, f"shardId-{number:012d}", 16)) == 16


def test_reading_goes_on_after_a_position(place: World) -> None:
    """After a position comes the next record, whatever sub-sequence number it has; without one the oldest."""
    stream, sink = place.stream(1)
    answers = sink.put(_records(10))
    for subsequence in (0, 7):
        after = Position(answers[3].sequence_number, subsequence)
        assert [one.data for one in _read(stream, FIRST, 6, after)] == [one.data for one in _records(10)[4:]]
    last = stream.reader(FIRST, Position(answers[-1].sequence_number, 0))
    assert last.read().records == []
    sink.put(_records(1))
    assert [one.data for one in _drain(last, 1)] == [b"0-x"]


def test_an_open_shard_has_no_end(place: World) -> None:
    """Nothing to read is an empty batch, again and again, not behind and not ended."""
    stream, sink = place.stream(1)
    reader = stream.reader(FIRST, None)
    for _ in range(3):
        batch = reader.read()
        assert (batch.records, batch.ended) == ([], False)
    sink.put(_records(3))
    assert len(_drain(reader, 3)) == 3
    assert reader.read() == Batch([], 0, ended=False)


def test_many_records_are_all_read(place: World) -> None:
    """Several calls' worth come out once each, in order, over several reads."""
    stream, sink = place.stream(1)
    for start in range(0, 1_500, 500):
        sink.put(_records(1_500)[start : start + 500])
    found = _read(stream, FIRST, 1_500)
    assert [one.data for one in found] == [one.data for one in _records(1_500)]


def test_large_records(place: World) -> None:
    """Records of several hundred kilobytes come back whole."""
    stream, sink = place.stream(1)
    sent = _records(6, size=700_000)
    sink.put(sent)
    assert [one.data for one in _read(stream, FIRST, 6)] == [one.data for one in sent]


def test_arrival_is_told_in_microseconds(place: World) -> None:
    """The arrival lies around now, in UTC."""
    stream, sink = place.stream(1)
    sink.put(_records(1))
    [found] = _read(stream, FIRST, 1)
    if isinstance(place, Aws):
        assert abs(found.arrived_us / 1e6 - time.time()) < 3_600
    assert found.arrived_us > 1_700_000_000_000_000


def test_shards_and_names(place: World) -> None:
    """All shards in order, without parents at first; name and epoch tell streams apart."""
    stream, _sink = place.stream(3)
    assert [(one.shard_id, one.parents) for one in stream.shards()] == [
        (f"shardId-{n:012d}", ()) for n in range(3)
    ]
    assert stream.name
    assert stream.epoch.isdigit()
    if isinstance(place, Aws):
        assert KinesisStream(place.kinesis, stream.name).epoch == stream.epoch  # as another process sees it


def test_a_recreated_stream_is_another_one(place: World) -> None:
    """Deleted and made again under its name, a stream has another epoch."""
    if not isinstance(place, Aws):
        pytest.skip("a stream in memory is not deleted")
    if place.name == "ministack":
        pytest.skip(
            "ministack tells the creation in whole seconds, AWS in milliseconds: made anew at once it looks the same"
        )
    stream, _sink = place.stream(1)
    place.kinesis.delete_stream(StreamName=stream.name)
    place.kinesis.get_waiter("stream_not_exists").wait(
        StreamName=stream.name, WaiterConfig={"Delay": 1, "MaxAttempts": 9}
    )
    create_stream(place.kinesis, stream.name, 1, 24)
    assert KinesisStream(place.kinesis, stream.name).epoch != stream.epoch


def test_a_stream_made_anew_tells_what_may_be_its_own(place: World) -> None:
    """What was acknowledged before the change is surely the old stream's, what came after may be the new one's."""
    if not isinstance(place, Aws):
        pytest.skip("a stream in memory is not deleted")
    stream, sink = place.stream(2)
    check = KinesisCheck(place.kinesis, stream.name, stream.epoch)
    before = sink.put(_records(8, slots=2))
    assert check.successor() is None
    while check.successor() is None:  # ministack tells the creation in whole seconds
        place.kinesis.delete_stream(StreamName=stream.name)
        assert check.successor() is None
        create_stream(place.kinesis, stream.name, 2, 24)
    after = sink.put(_records(8, slots=2))
    found = check.successor()
    assert found is not None
    assert found.epoch == KinesisStream(place.kinesis, stream.name).epoch
    assert all(found.may_hold(one.shard_id, one.sequence_number) for one in after if not one.error)
    if place.name != "moto":  # its numbers begin anew with each stream
        assert not any(found.may_hold(one.shard_id, one.sequence_number) for one in before if not one.error)


def test_a_producer_receipts_nothing_of_a_stream_made_anew(place: World) -> None:
    """Events on both sides of the change: receipts of the old stream hold the first alone, and the producer gives up."""
    if place.name != "ministack" or isinstance(place, Faulty):
        pytest.skip(
            "one stack that numbers records as Kinesis does is enough; the steps are tested in memory"
        )
    assert isinstance(place, Aws)
    stream, sink = place.stream(2)
    check = KinesisCheck(place.kinesis, stream.name, stream.epoch)
    work = Program(sink=Sink(sink), stream=(stream.name, stream.epoch), check=check)
    first = work.put("door", b"before")
    assert kinds(work.flush())[first] == "acknowledged"
    while check.successor() is None:
        place.kinesis.delete_stream(StreamName=stream.name)
        create_stream(place.kinesis, stream.name, 2, 24)
    second = work.put("door", b"after")
    assert kinds(work.flush())[second] == "acknowledged"
    work.rounds(3, seconds=RECEIPT_SECONDS)
    assert [(one.epoch, one.events, one.closed) for one in work.receipts.all()] == [(stream.epoch, 1, False)]
    with pytest.raises(ConfigProblem, match="made anew"):
        work.put("door", b"later")
    assert work.close().unreceipted == 1


def test_creating_a_stream_again_changes_nothing(place: World) -> None:
    """`create_stream` leaves a stream that is there as it is, also with other numbers."""
    if not isinstance(place, Aws):
        pytest.skip("a stream in memory is always made anew")
    stream, _sink = place.stream(2)
    create_stream(place.kinesis, stream.name, 5, 48)
    assert len(stream.shards()) == 2


def test_a_split_shard_ends(place: World) -> None:
    """After a split the parent is read to its end, then says so for ever; its children name it."""
    if isinstance(place, Aws):
        pytest.skip(RESHARDING)
    stream, sink = place.stream(1)
    assert isinstance(stream, MemoryStream)
    sink.put(_records(3))
    children = stream.split(FIRST)
    assert [(one.shard_id, one.parents) for one in stream.shards()] == [
        (FIRST, ()),
        *((child, (FIRST,)) for child in children),
    ]
    reader = stream.reader(FIRST, None)
    batch = reader.read()
    assert (len(batch.records), batch.ended) == (3, True)
    assert reader.read() == Batch([], 0, ended=True)
