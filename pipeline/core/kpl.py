"""The KPL aggregate format, strictly: several user records in one Kinesis record.

Layout (amazon-kinesis-producer, aggregation-format.md): 4 magic bytes, a protobuf AggregatedRecord, and the
16-byte MD5 of the protobuf.

    AggregatedRecord   1 partition key: string, repeated    2 hash key: string, repeated    3 record: Record, repeated
    Record             1 partition key's index    2 hash key's index, optional    3 data    4 tag: Tag, repeated
    Tag                1 key: string    2 value: string, optional

Decoding checks magic, MD5 and every index. A protobuf parser passes over fields that it does not know, and lets the
last of a field given twice win; either may hide a record. So the message is read here, and anything else is the whole
record's fault: no part of it is dropped without a word. Keys and tags are not used; what they say is not looked at.
"""

import hashlib
import re
from collections.abc import Iterator
from functools import lru_cache

from pipeline.core.errors import InvalidEvent
from pipeline.core.event import RefusalCode

MAGIC = b"\xf3\x89\x9a\xc2"
MAX_USER_RECORDS = 100_000  # our producer's most; so many events fit into no Kinesis record
_DIGEST_BYTES = 16
MAX_HEAD_BYTES = 14  # what stands before a user record of less than 128 MiB

# Tags of the protobuf: field << 3 | wire type (0 varint, 2 length-delimited).
_STRINGS, _RECORD = (0x0A, 0x12), 0x1A
_KEY_INDEX, _HASH_INDEX, _DATA, _TAG = 0x08, 0x10, 0x1A, 0x22
_TAG_KEY, _TAG_VALUE = 0x0A, 0x12

_VARINT = rb"([\x80-\xff]{0,4}[\x00-\x7f])"
_NUMBER = re.compile(_VARINT)
_PARTS = re.compile(rb"\x1a" + _VARINT + rb"\x08" + _VARINT + rb"(?:\x10" + _VARINT + rb")?\x1a" + _VARINT)
_USUAL = re.compile(_PARTS.pattern.replace(b"([", b"(?:["))  # without groups: half the time


def is_aggregate(data: bytes) -> bool:
    """True when `data` begins as an aggregate does; KPL and KCL decide by the same four bytes."""
    return data.startswith(MAGIC)


def split(data: bytes) -> list[bytes]:
    """Return the user records of an aggregate, in order.

    Raises:
        InvalidEvent: bad checksum, not exactly the message, too many records, or an index outside its table.
    """
    body = data[len(MAGIC) : -_DIGEST_BYTES]
    if len(data) < len(MAGIC) + _DIGEST_BYTES or hashlib.md5(body).digest() != data[-_DIGEST_BYTES:]:  # noqa: S324 - the format's checksum
        raise _bad("the aggregate's MD5 does not match its bytes")
    message = _Message(body)
    if not message.records:
        raise _bad("an aggregate without records")
    if len(message.records) > MAX_USER_RECORDS:
        raise _bad(f"{len(message.records)} records; an aggregate has at most {MAX_USER_RECORDS}")
    if message.last_key >= message.keys or message.last_hash >= message.hashes:
        raise _bad("a record's key index lies outside the table")
    return message.records


def _bad(message: str) -> InvalidEvent:
    return InvalidEvent(RefusalCode.BAD_AGGREGATE, "", message)


class _Message:
    """An AggregatedRecord: its user records, the sizes of its tables, and the highest index into each."""

    def __init__(self, body: bytes) -> None:
        self.records: list[bytes] = []
        self.keys = self.hashes = 0
        self.last_key = self.last_hash = -1
        at = 0
        while at < len(body):
            at = self._usual_records(body, at)
            if at < len(body):
                at = self._field(body, at)

    def _usual_records(self, body: bytes, at: int) -> int:
        """Read records whose fields come in order, without tags; return where something else begins."""
        match, keep, size = _USUAL.match, self.records.append, len(body)
        last_key, last_hash = self.last_key, self.last_hash
        while found := match(body, at):
            start = found.end()
            length, key, hash_ = _usual_head(found[0])
            at_end = start + length
            if length < 0 or at_end > size:
                break
            if key > last_key:  # noqa: PLR1730 - calling max() would cost a tenth of the whole
                last_key = key
            if hash_ > last_hash:  # noqa: PLR1730
                last_hash = hash_
            keep(body[start:at_end])
            at = at_end
        self.last_key, self.last_hash = last_key, last_hash
        return at

    def _field(self, body: bytes, at: int) -> int:
        """Read one field of the message; return where it ends."""
        tag, start, end = _span(body, at, len(body))
        if tag == _STRINGS[0]:
            self.keys += 1
        elif tag == _STRINGS[1]:
            self.hashes += 1
        elif tag == _RECORD:
            self._record(body, start, end)
        else:
            raise _bad("a field that the format does not have")
        return end

    def _record(self, body: bytes, start: int, end: int) -> None:
        """Read a record with its fields in any order, and with tags."""
        seen: dict[int, tuple[int, int]] = {}
        for tag, first, last in _fields(body, start, end):
            if tag == _TAG:
                tags = [one for one, _, _ in _fields(body, first, last)]
                if tags not in ([_TAG_KEY], [_TAG_KEY, _TAG_VALUE], [_TAG_VALUE, _TAG_KEY]):
                    raise _bad("a tag that is not a key and a value")
            elif tag in seen or tag not in (_KEY_INDEX, _HASH_INDEX, _DATA):
                raise _bad("a record with a field that the format does not have, or has once")
            seen[tag] = first, last
        if _KEY_INDEX not in seen or _DATA not in seen:
            raise _bad("a record without its key index or its data")
        self.last_key = max(self.last_key, _number(body[slice(*seen[_KEY_INDEX])]))
        if _HASH_INDEX in seen:
            self.last_hash = max(self.last_hash, _number(body[slice(*seen[_HASH_INDEX])]))
        self.records.append(body[slice(*seen[_DATA])])


def _fields(body: bytes, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield tag, start and end of the value of each field."""
    while at < end:
        tag, start, at = _span(body, at, end)
        yield tag, start, at


def _span(body: bytes, at: int, limit: int) -> tuple[int, int, int]:
    """Return tag, start and end of the value of the field at `at`, all of it before `limit`."""
    tag = body[at]
    found = _NUMBER.match(body, at + 1, limit)
    if found is None or tag & 0b111 not in (0, 2) or tag >= 0x80:
        raise _bad("not an AggregatedRecord message")
    if tag & 0b111 == 0:
        return tag, *found.span()
    start, end = found.end(), found.end() + _number(found[0])
    if end > limit:
        raise _bad("a field that ends after its message")
    return tag, start, end


@lru_cache(maxsize=16_384)  # heads come again and again; a look in the cache takes a tenth of the time
def _usual_head(head: bytes) -> tuple[int, int, int]:
    """Return length of the data, key index and hash index (-1: none); a length of -1 when more follows the data."""
    [(whole, key, hash_, length)] = _PARTS.findall(head)
    rest = len(head) - 1 - len(whole) + _number(length)
    return (
        _number(length) if _number(whole) == rest else -1,
        _number(key),
        _number(hash_) if hash_ else -1,
    )


def _number(varint: bytes) -> int:
    """Return what a varint means: seven bits a byte, the lowest first."""
    return sum((byte & 0x7F) << 7 * place for place, byte in enumerate(varint))


class Aggregate:
    """An aggregate under construction, all its records under one partition key and one hash key.

    Attributes:
        payloads: its user records.
        size_bytes: what they weigh with the longest heads they may have.
    """

    __slots__ = ("payloads", "size_bytes")

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.size_bytes = 0

    @property
    def count(self) -> int:
        """Return how many user records it has."""
        return len(self.payloads)

    def add(self, payload: bytes) -> None:
        """Append one user record."""
        self.payloads.append(payload)
        self.size_bytes += len(payload) + MAX_HEAD_BYTES

    def encode(self, partition_key: str, explicit_hash_key: str) -> bytes:
        """Return the bytes of the Kinesis record."""
        key, hash_key = partition_key.encode(), explicit_hash_key.encode()
        parts = [b"\x0a", _varint(len(key)), key, b"\x12", _varint(len(hash_key)), hash_key]
        for payload in self.payloads:
            parts += (_HEADS[len(payload)], payload)
        body = b"".join(parts)
        return b"".join((MAGIC, body, hashlib.md5(body).digest()))  # noqa: S324 - the format's checksum


class _Heads(dict[int, bytes]):
    """Size of a user record -> what stands before it. Sizes come again and again."""

    def __missing__(self, size: int) -> bytes:
        inner = b"\x08\x00\x10\x00\x1a" + _varint(size)  # key index 0, hash index 0, data
        head = b"\x1a" + _varint(len(inner) + size) + inner
        if len(self) < _HEADS_KEPT:
            self[size] = head
        return head


_HEADS_KEPT = 16_384
_HEADS = _Heads()


def _varint(number: int) -> bytes:
    if number < 0x80:
        return number.to_bytes(1)
    out = bytearray()
    while number >= 0x80:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)
