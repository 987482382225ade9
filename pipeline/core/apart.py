"""What a user record holds: one event, or several, perhaps gzipped.

    gzip      1f 8b 08 ...      inflated, once; then one of the following
    batch     [ ... ]           a JSON array: every element is a unit
    NDJSON    { ... }           several lines of which one at least is an object: every line that is not blank is a unit
    event     anything else     one unit

What cannot be taken apart is one unit, refused whole. An aggregate of such user records could come to fifty times its bytes, or to
hundreds of thousands of units; so there is a limit to what one Kinesis record comes to (`Packed`).

What cannot be taken apart is one unit, refused whole. What is wrong inside an element or a line is its own affair.
"""

import re
import zlib
from itertools import islice

import msgspec

from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Limits, RefusalCode
from pipeline.core.kpl import MAGIC, is_aggregate, split
from pipeline.core.structure import elements, is_one_value

GZIP = b"\x1f\x8b\x08"  # RFC 1952: magic, and deflate, the only method there is
NESTED = "an aggregate inside an aggregate, or one that the consumer could not take apart"
LEAST_COUNTED = 256  # bytes: an event costs so much to judge, however short; a real one is hardly shorter
BYTES_PER_EVENT = 4  # as they travelled; a real event cannot be squeezed below its id
_FEW_EVENTS = 16  # of any record, however short
_COMMAS_PER_EVENT = 32  # of a batch that a parser takes apart, which is faster
_GZIP_WINDOW = 31  # zlib: expect the header and trailer of gzip
_LINE = re.compile(rb"[^ \t\r\n][^\n]*")
_SPACE = b" \t\r\n"

_ONE = msgspec.json.Decoder(msgspec.Raw)
_MANY = msgspec.json.Decoder(list[msgspec.Raw])
_NO_JSON = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def take_apart(data: bytes, limits: Limits) -> list[bytes]:
    """Return the units of a user record; a list of `data` itself when it is one event, or nothing that is known.

    Raises:
        InvalidEvent: it cannot be taken apart: the gzip is broken or too large, there are too many events, or it is
            an aggregate inside an aggregate.
    """
    if is_aggregate(data):
        split(data)  # KCL hands over as it is what it cannot take apart: then this says why
        raise InvalidEvent(RefusalCode.BAD_AGGREGATE, "", NESTED)
    text = _inflate(data, limits) if data.startswith(GZIP) else data
    is_batch = text.lstrip(_SPACE)[:1] == b"["
    most = min(limits.max_record_events, max(_FEW_EVENTS, len(data) // BYTES_PER_EVENT))
    units = (_batch(text, most + 1) if is_batch else []) or _lines(text, most + 1) or [text]
    if is_batch and units == [text] and not text.strip(_SPACE)[1:-1].strip(_SPACE):
        raise InvalidEvent(RefusalCode.BAD_ENVELOPE, "", "an empty batch")
    if is_batch and units == [text] and len(text) > limits.max_event_bytes:
        raise InvalidEvent(RefusalCode.NOT_JSON, "", "a batch that is no JSON array, or has no end")
    if len(units) > most:
        message = f"more than {most} events: as many as a record of {len(data)} bytes may hold"
        raise InvalidEvent(RefusalCode.TOO_MANY_EVENTS, "", message)
    return units


def batch_units(text: bytes, most: int) -> list[bytes]:
    """Return the elements of a JSON array, up to `most` of them; none where it is empty, or no array."""
    return _batch(text, most) if text.lstrip(_SPACE)[:1] == b"[" else []


class Packed:
    """What the packed user records of one Kinesis record come to; those of a record that was taken apart by KCL come one by one.

    The user record that passes the limit is refused whole, and so is every packed one after it in the Kinesis record;
    those that are one event each are judged as ever.

    Args:
        alone: every user record counts for itself: refused ones that go through again.
    """

    def __init__(self, *, alone: bool = False) -> None:
        self._alone, self._record, self._bytes = alone, "", 0

    def take_apart(self, data: bytes, sequence_number: str, limits: Limits) -> list[bytes]:
        """Return what `take_apart` does.

        Raises:
            InvalidEvent: as `take_apart`; or with it the Kinesis record comes to too much.
        """
        if self._alone or sequence_number != self._record:
            self._record, self._bytes = sequence_number, 0
        announced = _announced(data, limits)
        self._count(announced, limits)  # before it is inflated
        units = take_apart(data, limits)
        if units != [data]:
            self._count(sum(max(len(unit), LEAST_COUNTED) for unit in units) - announced, limits)
        return units

    def _count(self, more: int, limits: Limits) -> None:
        self._bytes += max(more, 0)
        if more > 0 and self._bytes > limits.max_packed_bytes:
            message = (
                f"with it the gzips, lines and arrays of this Kinesis record come to more than {limits.max_packed_bytes} "
                f"bytes, {LEAST_COUNTED} at least an event (events.max_packed_bytes): pack less into one, or redrive it"
            )
            raise InvalidEvent(RefusalCode.TOO_MUCH_PACKED, "", message)


def weight(data: bytes, limits: Limits) -> int:
    """Return the bytes that a Kinesis record comes to once it is taken apart, as it announces itself; never too few."""
    if data.startswith(GZIP):
        return max(len(data), _announced(data, limits))
    if is_aggregate(data) and GZIP in data:
        try:
            return sum(max(len(one), _announced(one, limits)) for one in split(data))
        except InvalidEvent:
            return len(data)
    return len(data)


def _announced(data: bytes, limits: Limits) -> int:
    """Return the inflated size that a gzip's trailer announces; 0 when none is, or it is more than is allowed."""
    if not data.startswith(GZIP):
        return 0
    size = int.from_bytes(data[-4:], "little")
    return size if size <= _most_inflated(data, limits) else 0


def _most_inflated(data: bytes, limits: Limits) -> int:
    return min(limits.max_inflated_bytes, limits.max_inflation * len(data))


def _inflate(data: bytes, limits: Limits) -> bytes:
    """Return what is inside: one member, one layer, and no byte more than its trailer announces.

    The announcement is looked at first, so that what is refused costs no memory, and what is inflated was counted.
    """
    size, most = int.from_bytes(data[-4:], "little"), _most_inflated(data, limits)
    if size > most:
        limit = (
            "events.max_inflation times its own"
            if most < limits.max_inflated_bytes
            else "events.max_inflated_bytes"
        )
        message = f"it says that it inflates to {size} bytes, and may to {most} ({limit})"
        raise _bad_gzip(f"{message}; or it is cut short, and has lost its trailer")
    inflater = zlib.decompressobj(_GZIP_WINDOW)
    try:
        text = inflater.decompress(data, size + 1)  # one more: 0 would be no limit at all
    except zlib.error as exc:
        raise _bad_gzip("the compressed bytes are damaged") from exc
    if not inflater.eof or inflater.unused_data or len(text) != size:
        if not inflater.eof and len(text) <= size:
            raise _bad_gzip("it is cut short")
        raise _bad_gzip(
            "not one whole member: it has another size than its trailer says, or something follows"
        )
    if text.startswith((GZIP, MAGIC)):
        raise _bad_gzip("holds a gzip or an aggregate: one layer only, an aggregate outside of it")
    return text


def _bad_gzip(message: str) -> InvalidEvent:
    return InvalidEvent(RefusalCode.BAD_GZIP, "", message)


def _batch(text: bytes, most: int) -> list[bytes]:
    """Return the elements of an array, `most` of them; none where it is empty, or none."""
    if text.count(b",") < most * _COMMAS_PER_EVENT:  # else hostile text would become millions of objects
        try:
            return [bytes(one) for one in islice(_MANY.decode(text), most)]
        except _NO_JSON:
            pass
    try:
        return list(islice(elements(text), most))
    except ValueError:
        return []


def _lines(text: bytes, most: int) -> list[bytes]:
    """Return the lines that are not blank; none where they are not units of their own."""
    if b"\n" not in text.strip(_SPACE) or _is_json(text) or is_one_value(text):
        return []
    lines: list[bytes] = []
    for found in _LINE.finditer(text):
        lines.append(found[0].rstrip(_SPACE))
        if len(lines) == most:
            break
    objects = (line for line in lines if line[:1] == b"{" and _is_json(line))
    # A batch that was cut short has a last line without its comma: that alone makes no NDJSON of it.
    wanted = len(lines) // 2 + 1 if lines[0][:1] == b"[" else 1
    return lines if sum(1 for _ in islice(objects, wanted)) == wanted else []


def _is_json(text: bytes) -> bool:
    try:
        _ONE.decode(text)
    except _NO_JSON:
        return False
    return True
