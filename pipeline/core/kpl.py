"""The KPL aggregate format, strictly: several user records in one Kinesis record.

Layout (amazon-kinesis-producer, aggregation-format.md): 4 magic bytes, a protobuf AggregatedRecord, and the
16-byte MD5 of the protobuf. Decoding checks all three and every index; anything else is the whole record's
fault, so that no part of it is dropped without a word.
"""

import hashlib

from aws_kinesis_agg.deaggregator import messages_pb2
from google.protobuf.message import DecodeError

from pipeline.core.errors import InvalidEvent
from pipeline.core.event import RefusalCode

MAGIC = b"\xf3\x89\x9a\xc2"
_DIGEST_BYTES = 16


def is_aggregate(data: bytes) -> bool:
    """True when `data` begins as an aggregate does; KPL and KCL decide by the same four bytes."""
    return data.startswith(MAGIC)


def split(data: bytes) -> list[bytes]:
    """Return the user records of an aggregate, in order.

    Raises:
        InvalidEvent: bad checksum, not the protobuf, or an index outside its table.
    """
    body = data[len(MAGIC) : -_DIGEST_BYTES]
    if len(data) < len(MAGIC) + _DIGEST_BYTES or hashlib.md5(body).digest() != data[-_DIGEST_BYTES:]:  # noqa: S324 - the format's checksum
        raise InvalidEvent(RefusalCode.BAD_AGGREGATE, "", "the aggregate's MD5 does not match its bytes")
    message = messages_pb2.AggregatedRecord()
    try:
        message.ParseFromString(body)
    except DecodeError as exc:
        raise InvalidEvent(RefusalCode.BAD_AGGREGATE, "", "not an AggregatedRecord message") from exc
    if not message.IsInitialized():  # the parser itself lets a missing required field pass
        raise InvalidEvent(RefusalCode.BAD_AGGREGATE, "", "a record without its key index or its data")
    keys, hashes = len(message.partition_key_table), len(message.explicit_hash_key_table)
    records = message.records
    if not records:
        raise InvalidEvent(RefusalCode.BAD_AGGREGATE, "", "an aggregate without records")
    for record in records:
        if record.partition_key_index >= keys or (
            record.HasField("explicit_hash_key_index") and record.explicit_hash_key_index >= hashes
        ):
            raise InvalidEvent(RefusalCode.BAD_AGGREGATE, "", "a record's key index lies outside the table")
    return [record.data for record in records]


class Aggregate:
    """An aggregate under construction, all its records under one partition key and one hash key."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.size_bytes = 0
        self.count = 0

    def add(self, payload: bytes) -> None:
        """Append one user record."""
        inner = b"\x08\x00\x10\x00\x1a" + _varint(len(payload))  # key index 0, hash index 0, data
        head = b"\x1a" + _varint(len(inner) + len(payload)) + inner
        self._parts += (head, payload)
        self.size_bytes += len(head) + len(payload)
        self.count += 1

    def encode(self, partition_key: str, explicit_hash_key: str) -> bytes:
        """Return the bytes of the Kinesis record."""
        key, hash_key = partition_key.encode(), explicit_hash_key.encode()
        head = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(hash_key)) + hash_key
        body = b"".join((head, *self._parts))
        return b"".join((MAGIC, body, hashlib.md5(body).digest()))  # noqa: S324 - the format's checksum


def _varint(number: int) -> bytes:
    if number < 0x80:
        return number.to_bytes(1)
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
