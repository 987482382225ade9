"""The KPL aggregate format, against the other implementation of it and against damage."""

import base64
import hashlib

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records, messages_pb2
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.errors import InvalidEvent
from pipeline.core.kpl import MAGIC, MAX_USER_RECORDS, Aggregate, is_aggregate, split
from tests.core.kit import DOOR, event, record, rules_for, wire

_LAMBDA = dict.fromkeys(("eventID", "eventName", "invokeIdentityArn", "awsRegion", "eventSourceARN"), "-")
PAYLOADS = st.lists(st.binary(max_size=300), min_size=1, max_size=20)


def _aggregate(payloads: list[bytes], key: str = "hr1.abcd.3.0.2", hash_key: str = "12345") -> bytes:
    aggregate = Aggregate()
    for payload in payloads:
        aggregate.add(payload)
    return aggregate.encode(key, hash_key)


def _sealed(body: bytes) -> bytes:
    return MAGIC + body + hashlib.md5(body).digest()


@given(PAYLOADS)
def test_round_trip(payloads: list[bytes]) -> None:
    """What is put together comes apart the same, in order."""
    data = _aggregate(payloads)
    assert is_aggregate(data)
    assert split(data) == payloads


@given(st.lists(st.binary(max_size=200), max_size=10))
def test_most_of_the_size_is_known_before_encoding(payloads: list[bytes]) -> None:
    """`size_bytes` and `count` say what the records may take at most, so a batch can be closed in time."""
    aggregate, empty = Aggregate(), len(Aggregate().encode("key", "1"))
    for payload in payloads:
        aggregate.add(payload)
    assert aggregate.count == len(payloads)
    grown = len(aggregate.encode("key", "1")) - empty
    assert grown <= aggregate.size_bytes <= grown + 8 * len(payloads)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 200_000])
def test_lengths_around_a_varint_s_edges(size: int) -> None:
    """A length of one, two or three bytes is read back."""
    assert split(_aggregate([b"x" * size, b"y"])) == [b"x" * size, b"y"]


@given(PAYLOADS)
def test_the_other_deaggregator_reads_ours(payloads: list[bytes]) -> None:
    """aws_kinesis_agg finds the same records, each under our one partition key and hash key."""
    data = base64.b64encode(_aggregate(payloads)).decode()
    whole = {"data": data, "partitionKey": "k", "sequenceNumber": "1", "kinesisSchemaVersion": "1.0"}
    kept = {"approximateArrivalTimestamp": 0, **whole}
    found = deaggregate_records([{"kinesis": kept, "eventSource": "s", "eventVersion": "1", **_LAMBDA}])
    assert [base64.b64decode(one["kinesis"]["data"]) for one in found] == payloads
    assert {(one["kinesis"]["partitionKey"], one["kinesis"]["explicitHashKey"]) for one in found} == {
        ("hr1.abcd.3.0.2", "12345")
    }


@given(PAYLOADS, st.booleans())
def test_we_read_the_other_aggregator_s(payloads: list[bytes], hashed: bool) -> None:
    """Aggregates of aws_kinesis_agg, with several keys and with or without hash keys, come apart in order."""
    aggregator = RecordAggregator()
    for number, payload in enumerate(payloads):
        aggregator.add_user_record(f"key-{number % 3}", payload, str(number % 2) if hashed else None)
    _key, _hash_key, data = aggregator.clear_and_get().get_contents()
    assert split(bytes(data)) == payloads


def _units(data: bytes) -> Decoded:
    decoded = Decoded()
    assert Decoder(rules_for(DOOR)).decode([record(data)], 0, decoded) == len(decoded.rows) + len(
        decoded.refusals
    )
    return decoded


def test_every_flipped_bit_is_seen() -> None:
    """One flipped bit anywhere refuses the whole record with its bytes: never a crash, never a part of it."""
    whole = _aggregate([wire(event()), wire(event(event_id="e2"))])
    decoder = Decoder(rules_for(DOOR))
    for place in range(len(whole) * 8):
        broken = bytearray(whole)
        broken[place // 8] ^= 1 << place % 8
        decoded = Decoded()
        assert decoder.decode([record(bytes(broken))], 0, decoded) == 1
        assert not decoded.rows
        [refusal] = decoded.refusals
        assert refusal.raw == broken
        # Without its magic it is, to KPL and KCL too, one plain record.
        assert refusal.code == ("bad_aggregate" if place >= 8 * len(MAGIC) else "not_json")


def test_every_truncation_is_seen() -> None:
    """An aggregate that was cut short, or grew, is refused whole."""
    whole = _aggregate([wire(event()), wire(event(event_id="e2"))])
    for length in range(len(MAGIC), len(whole)):
        with pytest.raises(InvalidEvent) as caught:
            split(whole[:length])
        assert caught.value.code == "bad_aggregate"
    with pytest.raises(InvalidEvent):
        split(whole + b"\0")


def test_the_whole_is_refused_once() -> None:
    """A broken aggregate is one unit in quarantine, whatever it held."""
    decoded = _units(_aggregate([wire(event())] * 5)[:-1])
    assert [(one.code, one.subsequence_number) for one in decoded.refusals] == [("bad_aggregate", 0)]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        b"\x0a\x01k",  # no records
        b"\x0a\x01k\x1a\x02\x08\x00",  # a record without data
        b"\x0a\x01k\x1a\x02\x1a\x00",  # a record without a key index
        b"\x0a\x01k\x1a\x04\x08\x01\x1a\x00",  # key index outside the table
        b"\x0a\x01k\x1a\x06\x08\x00\x10\x00\x1a\x00",  # hash index without a table
        b"\x0a\x01k\x1a\x0d\x08" + b"\xff" * 9 + b"\x01\x1a\x00",  # key index 2^64 - 1
        b"\x0a\x01\xff\x1a\x04\x08\x00\x1a\x05",  # data that ends early
    ],
)
def test_sealed_nonsense_is_refused(body: bytes) -> None:
    """A right checksum makes no right message: indexes and fields are checked too."""
    with pytest.raises(InvalidEvent) as caught:
        split(_sealed(body))
    assert caught.value.code == "bad_aggregate"


@given(st.binary(max_size=60))
@settings(max_examples=300)
def test_any_sealed_bytes(body: bytes) -> None:
    """Arbitrary bytes under a right checksum are taken apart as the protobuf says, or refused."""
    try:
        found = split(_sealed(body))
    except InvalidEvent:
        return
    assert found == _records(body)


def _records(body: bytes) -> list[bytes]:
    """Return what a protobuf parser finds, if the message is nothing but the format; else nothing."""
    message = messages_pb2.AggregatedRecord()
    try:
        message.ParseFromString(body)
    except DecodeError:
        return []
    message.DiscardUnknownFields()
    return [one.data for one in message.records] if message.ByteSize() == len(body) else []


@given(PAYLOADS, st.lists(st.tuples(st.integers(0), st.binary(max_size=3)), max_size=3), st.booleans())
@settings(max_examples=300)
def test_any_change_under_a_right_checksum(
    payloads: list[bytes], cuts: list[tuple[int, bytes]], hashed: bool
) -> None:
    """However a sealed aggregate is changed, it gives exactly a parser's records, or is refused whole: none is lost."""
    aggregator = RecordAggregator()
    for number, payload in enumerate(payloads):
        aggregator.add_user_record(f"key-{number % 3}", payload, str(number % 2) if hashed else None)
    body = bytearray(aggregator.clear_and_get().get_contents()[2])[len(MAGIC) : -16]
    for place, new in cuts:
        body[place % len(body) : place % len(body) + 1] = new
        if not body:
            break
    sealed = _sealed(bytes(body))
    decoded = _units(sealed)
    if {one.raw for one in decoded.refusals} == {sealed}:
        assert (cuts, [one.code for one in decoded.refusals]) == (cuts or None, ["bad_aggregate"])
        with pytest.raises(InvalidEvent):
            split(sealed)
        return
    found = split(sealed)
    assert found == _records(bytes(body))
    assert len(decoded.refusals) >= len(found)  # none of these is an event


HEAD = b"\x0a\x01k\x12\x010"
ONE = b"\x1a\x05\x08\x00\x1a\x01x"


@pytest.mark.parametrize(
    ("body", "records"),
    [
        (HEAD + ONE, [b"x"]),
        (ONE + HEAD, [b"x"]),  # tables after the records
        (HEAD + HEAD + ONE, [b"x"]),  # the same key twice in the table
        (b"\x0a\x01\xff" + ONE, [b"x"]),  # keys are not used: what they say is not looked at
        (b"\x0a\x00" + ONE, [b"x"]),
        (HEAD + b"\x1a\x05\x1a\x01x\x08\x00", [b"x"]),  # fields in another order
        (HEAD + b"\x1a\x0a\x08\x00\x1a\x01x\x22\x03\x0a\x01t", [b"x"]),  # a tag
        (HEAD + b"\x1a\x0d\x08\x00\x1a\x01x\x22\x06\x0a\x01t\x12\x01v" + ONE, [b"x", b"x"]),
        (HEAD + b"\x1a\x0e\x08\x00\x1a\x01x" + b"\x22\x03\x0a\x01t" * 2 + b"", None),  # a length that lies
        (HEAD + b"\x1a\x09\x08\x00\x1a\x01x\x22\x02\x12\x00", None),  # a tag without its key
        (HEAD + b"\x1a\x0c\x08\x00\x1a\x01x\x22\x05\x0a\x00\x1a\x01v", None),  # a tag with a third field
        (HEAD + ONE + b"\x22\x01x", None),  # a fourth field of the message: perhaps records
        (HEAD + b"\x22\x05\x08\x00\x1a\x01x" + ONE, None),
        (HEAD + ONE + b"\x18\x01", None),  # records as a number
        (HEAD + b"\x1a\x07\x08\x00\x1a\x01x\x28\x01", None),  # a fifth field of a record
        (HEAD + b"\x1a\x08\x08\x00\x1a\x01x\x1a\x01y", None),  # data twice: a parser keeps the last
        (HEAD + b"\x1a\x07\x08\x00\x08\x00\x1a\x01x", None),  # a key index twice
        (HEAD + ONE + b"\x00", None),
        (HEAD + ONE + b"\x0b\x0c", None),  # a group
        (HEAD + ONE + b"\x1a\x05\x08\x00\x1a\x02x", None),  # data beyond its record
        (HEAD + ONE + b"\x1a\xff\xff\xff\xff\x0f", None),
        (HEAD + ONE + b"\x1a\xff\xff\xff\xff\xff\xff\x01", None),
        (HEAD + b"\x1a\x07\x08\x00\x10\x01\x1a\x01x", None),  # hash index outside its table
        (HEAD, None),
    ],
)
def test_every_field(body: bytes, records: list[bytes] | None) -> None:
    """The format's fields in any order, and tags, are read; whatever else might hide a record is refused."""
    if records is not None:
        assert split(_sealed(body)) == records == _records(body)
        return
    with pytest.raises(InvalidEvent) as caught:
        split(_sealed(body))
    assert caught.value.code == "bad_aggregate"


def test_the_number_of_records_is_bounded() -> None:
    """An aggregate of more records than events would fit is one refusal, not a hundred thousand."""
    at_most, beyond = (_aggregate([b""] * (MAX_USER_RECORDS + more)) for more in (0, 1))
    assert len(split(at_most)) == MAX_USER_RECORDS
    with pytest.raises(InvalidEvent, match="at most 100000"):
        split(beyond)


def test_an_aggregate_inside_an_aggregate_spares_its_neighbours() -> None:
    """It is one refused user record, as it is when KCL takes the outer one apart."""
    inner = _aggregate([wire(event())])
    decoded = _units(_aggregate([wire(event()), inner, wire(event(event_id="e2"))]))
    assert [row.envelope.event_id for row in decoded.rows] == ["e1", "e2"]
    assert [(one.code, one.raw, one.subsequence_number) for one in decoded.refusals] == [
        ("bad_aggregate", inner, 1)
    ]


def test_an_aggregate_taken_apart_by_the_consumer_is_not_taken_apart_again() -> None:
    """A record with a sub-sequence number is one unit, whatever its first bytes are."""
    whole, decoded = _aggregate([wire(event())]), Decoded()
    one = record(whole)
    taken = type(one)(one.sequence_number, one.partition_key, one.data, one.arrived_us, subsequence_number=7)
    assert Decoder(rules_for(DOOR)).decode([taken], 0, decoded) == 1
    assert [(refusal.code, refusal.subsequence_number) for refusal in decoded.refusals] == [
        ("bad_aggregate", 7)
    ]
