"""What Kinesis may answer and no emulator does: expired iterators, partial failures, ends of shards."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.stub import ANY, Stubber

from pipeline.aws.kinesis import KinesisCheck, KinesisSink, KinesisStream
from pipeline.core.errors import NotFound, OutcomeUnknown, Transient
from pipeline.core.segment import Position
from pipeline.ports.stream import Batch, OutgoingRecord

CREATED = datetime(2024, 3, 10, 12, 0, 0, 123_000, tzinfo=UTC)
SUMMARY = {
    "StreamDescriptionSummary": {
        "StreamName": "events",
        "StreamARN": "arn:aws:kinesis:us-east-1:000000000000:stream/events",
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": CREATED,
        "EnhancedMonitoring": [],
        "OpenShardCount": 1,
    }
}
KEYS = {"StartingHashKey": "0", "EndingHashKey": "1"}
MADE_ANEW = {
    "StreamDescriptionSummary": {
        **SUMMARY["StreamDescriptionSummary"],
        "StreamCreationTimestamp": CREATED + timedelta(days=1),
    }
}


@pytest.fixture
def played() -> Iterator[tuple[Any, Stubber]]:
    """A client whose answers are written down beforehand."""
    client = boto3.client(
        "kinesis", region_name="us-east-1", aws_access_key_id="x", aws_secret_access_key="x"
    )
    with Stubber(client) as stub:
        stub.add_response("describe_stream_summary", SUMMARY, {"StreamName": "events"})
        yield client, stub
        stub.assert_no_pending_responses()


def _record(number: int) -> dict[str, Any]:
    return {
        "SequenceNumber": str(number),
        "ApproximateArrivalTimestamp": CREATED,
        "Data": b"x",
        "PartitionKey": "key",
    }


def _iterator(stub: Stubber, name: str, after: int | None, summary: dict[str, Any] | None = None) -> None:
    where: dict[str, Any] = {"ShardIteratorType": "TRIM_HORIZON"}
    if after is not None:
        where = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "StartingSequenceNumber": str(after)}
    stub.add_response(
        "get_shard_iterator", {"ShardIterator": name}, {"StreamName": "events", "ShardId": "s-0", **where}
    )
    stub.add_response("describe_stream_summary", summary or SUMMARY, {"StreamName": "events"})


def _records(stub: Stubber, asked: str, *numbers: int, following: str | None, behind: int = 0) -> None:
    answer: dict[str, Any] = {
        "Records": [_record(number) for number in numbers],
        "MillisBehindLatest": behind,
    }
    if following:
        answer["NextShardIterator"] = following
    stub.add_response("get_records", answer, {"ShardIterator": asked, "Limit": ANY})


def test_the_epoch_is_the_creation_in_milliseconds(played: tuple[Any, Stubber]) -> None:
    """It never depends on the clock or zone of the machine."""
    assert KinesisStream(played[0], "events").epoch == "1710072000123"


def test_an_expired_iterator_is_opened_where_it_stood(played: tuple[Any, Stubber]) -> None:
    """After five idle minutes an iterator is void: reading goes on after the last record, with none left out."""
    client, stub = played
    reader = KinesisStream(client, "events").reader("s-0", None)
    _iterator(stub, "a", None)
    _records(stub, "a", 5, 6, following="b", behind=1_500)
    stub.add_client_error("get_records", "ExpiredIteratorException")
    _iterator(stub, "c", 6)
    _records(stub, "c", 7, following="d")
    batch = reader.read()
    assert [one.sequence_number for one in batch.records] == ["5", "6"]
    assert (batch.behind_ms, batch.records[0].arrived_us) == (1_500, 1_710_072_000_123_000)
    assert reader.read() == Batch([], 1, ended=False)  # not at zero lag, for all it knows
    assert [one.sequence_number for one in reader.read().records] == ["7"]


def test_an_expired_iterator_before_any_record(played: tuple[Any, Stubber]) -> None:
    """Where nothing was read yet it is opened at the place it was asked for."""
    client, stub = played
    reader = KinesisStream(client, "events").reader("s-0", Position("4", 2))
    _iterator(stub, "a", 4)
    stub.add_client_error("get_records", "ExpiredIteratorException")
    _iterator(stub, "b", 4)
    _records(stub, "b", 5, following="c")
    assert reader.read().records == []
    assert [one.sequence_number for one in reader.read().records] == ["5"]


def test_the_end_of_a_shard(played: tuple[Any, Stubber]) -> None:
    """No next iterator: the shard is closed and read; it says so from then on, without another call."""
    client, stub = played
    reader = KinesisStream(client, "events").reader("s-0", None)
    _iterator(stub, "a", None)
    _records(stub, "a", 5, following=None)
    batch = reader.read()
    assert (len(batch.records), batch.ended) == (1, True)
    assert reader.read() == Batch([], 0, ended=True)


def test_a_throttled_read_skips_nothing(played: tuple[Any, Stubber]) -> None:
    """A read that fails is Transient, and the next one asks with the same iterator."""
    client, stub = played
    reader = KinesisStream(client, "events").reader("s-0", None)
    _iterator(stub, "a", None)
    stub.add_client_error("get_records", "ProvisionedThroughputExceededException", http_status_code=400)
    _iterator(stub, "a2", None)
    _records(stub, "a2", 5, following="b")
    with pytest.raises(Transient, match="events/s-0"):
        reader.read()
    assert len(reader.read().records) == 1


def test_shards_over_several_pages(played: tuple[Any, Stubber]) -> None:
    """Parents come before children, by their starting number; a parent that has expired keeps its name."""
    client, stub = played
    stub.add_response("describe_stream_summary", SUMMARY, {"StreamName": "events"})
    pages: list[list[tuple[str, int, str | None, str | None]]] = [
        [("c", 30, "a", "b"), ("b", 20, "gone", None)],
        [("a", 3, None, None)],
    ]
    for page, ask, token in zip(
        pages, [{"StreamName": "events"}, {"NextToken": "t"}], ["t", None], strict=True
    ):
        shards = [
            {
                "ShardId": name,
                "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
                "SequenceNumberRange": {"StartingSequenceNumber": str(start)},
                **({"ParentShardId": parent} if parent else {}),
                **({"AdjacentParentShardId": other} if other else {}),
            }
            for name, start, parent, other in page
        ]
        stub.add_response("list_shards", {"Shards": shards, **({"NextToken": token} if token else {})}, ask)
    assert KinesisStream(client, "events").shards() == [
        ("a", ()),
        ("b", ("gone",)),
        ("c", ("a", "b")),
    ]


def test_parents_come_before_children_whatever_their_numbers(played: tuple[Any, Stubber]) -> None:
    """A shard that was split in the second of its birth has its children's number: its place follows from who made whom."""
    client, stub = played
    family = {"s-9": (), "s-1": ("s-9",), "s-2": ("s-9",), "s-0": ("s-1", "s-2")}
    shards = [
        {
            "ShardId": name,
            "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "9"},
            "SequenceNumberRange": {"StartingSequenceNumber": str(9 - generation)},
            **dict(zip(("ParentShardId", "AdjacentParentShardId"), parents, strict=False)),
        }
        for generation, (name, parents) in enumerate(family.items())
    ]
    stream = KinesisStream(client, "events")
    stub.add_response("describe_stream_summary", SUMMARY, {"StreamName": "events"})
    stub.add_response("list_shards", {"Shards": shards[::-1]}, {"StreamName": "events"})
    found = stream.shards()
    assert {one.shard_id: one.parents for one in found} == family
    assert [one.shard_id for one in found] in (["s-9", "s-2", "s-1", "s-0"], ["s-9", "s-1", "s-2", "s-0"])


def test_a_stream_made_anew_is_another_one(played: tuple[Any, Stubber]) -> None:
    """Once the stream was deleted and made again, its shards are not read under the old lineages."""
    client, stub = played
    stream = KinesisStream(client, "events")
    stub.add_response("describe_stream_summary", MADE_ANEW, {"StreamName": "events"})
    with pytest.raises(NotFound, match="made anew"):
        stream.shards()


@pytest.mark.parametrize("refused", [False, True])
def test_no_record_of_a_stream_made_anew_is_read(played: tuple[Any, Stubber], *, refused: bool) -> None:
    """A shard of the same name in a stream made anew is another one, also where the old iterator or position is void."""
    client, stub = played
    reader = KinesisStream(client, "events").reader("s-0", None)
    _iterator(stub, "a", None)
    _records(stub, "a", 5, following="b")
    stub.add_client_error("get_records", "ExpiredIteratorException")
    if refused:
        stub.add_client_error("get_shard_iterator", "InvalidArgumentException")
    _iterator(stub, "c", None if refused else 5, MADE_ANEW)
    stub.add_response("describe_stream_summary", MADE_ANEW, {"StreamName": "events"})
    for _ in range(2 + refused):
        reader.read()
    with pytest.raises(NotFound, match="made anew"):
        reader.read()


def test_partial_failures_are_told_record_by_record(played: tuple[Any, Stubber]) -> None:
    """One answer per record, in order: acknowledged with its place, or refused with its code."""
    client, stub = played
    KinesisStream(client, "events")
    records = [
        {"ShardId": "s-0", "SequenceNumber": "7"},
        {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow"},
        {"ErrorCode": "InternalFailure", "ErrorMessage": "-"},
    ]
    stub.add_response("put_records", {"FailedRecordCount": 2, "Records": records})
    answers = KinesisSink(client, "events").put([OutgoingRecord(b"x", "k", "0")] * 3)
    assert [(one.sequence_number, one.error) for one in answers] == [
        ("7", ""),
        ("", "ProvisionedThroughputExceededException"),
        ("", "InternalFailure"),
    ]


@pytest.mark.parametrize(
    ("code", "status", "error"),
    [
        ("ProvisionedThroughputExceededException", 400, Transient),
        ("InternalFailure", 500, OutcomeUnknown),
        ("ResourceNotFoundException", 400, NotFound),
    ],
)
def test_a_failed_put(played: tuple[Any, Stubber], code: str, status: int, error: type[Exception]) -> None:
    """Nothing stored, perhaps stored, never stored: three errors."""
    client, stub = played
    KinesisStream(client, "events")
    stub.add_client_error("put_records", code, http_status_code=status)
    with pytest.raises(error, match="put to events"):
        KinesisSink(client, "events").put([OutgoingRecord(b"x", "k", "0")])


def test_a_refused_position(played: tuple[Any, Stubber]) -> None:
    """A position whose record was dropped: reading begins at the oldest one, and says so until something came."""
    client, stub = played
    reader = KinesisStream(client, "events").reader("s-0", Position("4", 2))
    stub.add_client_error("get_shard_iterator", "InvalidArgumentException")
    _iterator(stub, "a", None)
    _records(stub, "a", following="b", behind=7)
    _records(stub, "b", 9, following="c")
    _records(stub, "c", following="d")
    assert reader.read() == Batch([], 1, ended=False)
    assert reader.read() == Batch([], 7, ended=False, trimmed=True)
    assert [(len(one.records), one.trimmed) for one in (reader.read(), reader.read())] == [
        (1, True),
        (0, False),
    ]


def test_an_expired_shard(played: tuple[Any, Stubber]) -> None:
    """A shard that the stream lists no more has ended; one that it lists and does not find is an error."""
    client, stub = played
    stream = KinesisStream(client, "events")
    for listed in ([], ["s-0"]):
        stub.add_client_error("get_shard_iterator", "ResourceNotFoundException")
        stub.add_response("describe_stream_summary", SUMMARY, {"StreamName": "events"})
        shards = [
            {
                "ShardId": name,
                "HashKeyRange": {"StartingHashKey": "0", "EndingHashKey": "1"},
                "SequenceNumberRange": {"StartingSequenceNumber": "3"},
            }
            for name in listed
        ]
        stub.add_response("list_shards", {"Shards": shards}, {"StreamName": "events"})
        reader = stream.reader("s-0", Position("4", 2))
        if listed:
            with pytest.raises(NotFound):
                reader.read()
        else:
            assert reader.read() == Batch([], 0, ended=True, trimmed=True)


def test_the_retention(played: tuple[Any, Stubber]) -> None:
    """It is what the stream says now."""
    client, stub = played
    stream = KinesisStream(client, "events")
    stub.add_response("describe_stream_summary", SUMMARY, {"StreamName": "events"})
    assert stream.retention_us() == 24 * 3_600_000_000


def _check(played: tuple[Any, Stubber]) -> tuple[KinesisCheck, Stubber]:
    client, stub = played
    return KinesisCheck(client, "events", KinesisStream(client, "events").epoch), stub


def test_the_same_stream_has_no_successor(played: tuple[Any, Stubber]) -> None:
    """The stream is there still, or it is gone and nothing is in its place: whatever was acknowledged before was its own."""
    check, stub = _check(played)
    stub.add_response("describe_stream_summary", SUMMARY, {"StreamName": "events"})
    stub.add_client_error("describe_stream_summary", "ResourceNotFoundException")
    assert [check.successor(), check.successor()] == [None, None]


def test_a_successor_tells_where_it_begins(played: tuple[Any, Stubber]) -> None:
    """A record in front of the new shard's first number is the old stream's, and so is one of a shard that it does not have."""
    check, stub = _check(played)
    stub.add_response("describe_stream_summary", MADE_ANEW, {"StreamName": "events"})
    shards = [
        {"ShardId": "s-0", "HashKeyRange": KEYS, "SequenceNumberRange": {"StartingSequenceNumber": "10"}}
    ]
    stub.add_response("list_shards", {"Shards": shards}, {"StreamName": "events"})
    found = check.successor()
    assert found is not None
    places = [("s-0", "9"), ("s-0", "10"), ("s-0", "100"), ("s-1", "100")]
    assert [found.may_hold(*place) for place in places] == [False, True, True, False]


@pytest.mark.parametrize(
    "code", ["ResourceNotFoundException", "ResourceInUseException", "AccessDeniedException"]
)
def test_a_successor_whose_shards_are_not_told(played: tuple[Any, Stubber], code: str) -> None:
    """Gone again, being deleted, or closed to this role: any record may be its own."""
    check, stub = _check(played)
    stub.add_response("describe_stream_summary", MADE_ANEW, {"StreamName": "events"})
    stub.add_client_error("list_shards", code)
    found = check.successor()
    assert found is not None
    assert found.may_hold("s-0", "0")


def test_a_successor_that_is_being_made(played: tuple[Any, Stubber]) -> None:
    """It has taken no record yet."""
    check, stub = _check(played)
    summary = {**MADE_ANEW["StreamDescriptionSummary"], "StreamStatus": "CREATING"}
    answer = {"StreamDescriptionSummary": summary}
    stub.add_response("describe_stream_summary", answer, {"StreamName": "events"})
    found = check.successor()
    assert found is not None
    assert not found.may_hold("s-0", "100")


@pytest.mark.parametrize("call", ["describe_stream_summary", "list_shards"])
def test_a_throttled_check_knows_nothing(played: tuple[Any, Stubber], call: str) -> None:
    """Too many questions: asked again later, and nothing is taken for known meanwhile."""
    check, stub = _check(played)
    if call == "list_shards":
        stub.add_response("describe_stream_summary", MADE_ANEW, {"StreamName": "events"})
    stub.add_client_error(call, "LimitExceededException")
    with pytest.raises(Transient):
        check.successor()
