"""The entity index: where the rows of one entity are, packed so that one write unit carries tens of entities.

A pointer is one run of rows: of one entity and one event day in one data file. An item holds all pointers of one
segment, tenant and event day whose entity hashes begin with one prefix:

    partition  <tenant>#<prefix>              prefix: 0 to 6 base-4 digits of the entity's hash
    name       <event day>#<tier>#<lineage>#<ordinal>[#<part>]

The prefix is as short as items of about 1 KB allow, chosen for each segment, tenant and day; a look-up asks all
seven prefixes of its entity. Slots come from the same hash, so the items of a long prefix come from one shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.core.days import DAY_US, SECOND_US, day_of
from pipeline.core.errors import Corrupt
from pipeline.core.filed import I64, U64, Filed, Flags, Words, edges
from pipeline.core.keys import SegmentRef
from pipeline.core.slots import entity_hash
from pipeline.core.tiers import file_key

PREFIX_DIGITS = 6
ITEM_BYTES = 1_000  # a write unit is 1,024 bytes, key and attribute names included
MAX_POINTERS = 4_000  # of one item: far below DynamoDB's 400 KB, also when hashes are chosen to collide
_POINTER_BYTES = 9  # compressed; as measured, with the ids not compressed at all
_MAX_BODY_BYTES = 2**20  # of an item that a loader writes, uncompressed
_WIDTHS = (1, 2, 4)  # bytes of an integer in a column
_MAX_ENTITY_BYTES = 200_000  # of the ids in one item, before compression


class IndexItem(msgspec.Struct, frozen=True):
    """One item of table `entity_index`."""

    partition: str
    name: str
    body: bytes

    @property
    def segment(self) -> SegmentRef:
        """Return the segment that wrote it, by its name.

        Raises:
            ValueError: no item of ours has such a name.
        """
        return SegmentRef.of_writer("#".join(self.name.split("#")[2:4]))  # without the part's number


class Pointer(msgspec.Struct, frozen=True, array_like=True):
    """A run of rows in one data file: rows first_row .. first_row + rows - 1, counted from 0."""

    key: str
    first_row: int
    rows: int


class Entry(NamedTuple):
    """What the index says of one run of rows.

    Times are whole seconds since the epoch, rounded down: every row lies in [first_second, last_second + 1).
    """

    entity_id: str
    event_type: str
    dt: str
    tier: str
    pointer: Pointer
    duplicates: int
    first_second: int
    last_second: int


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """An item's value: MessagePack, compressed with LZ4, after 4 bytes of its uncompressed length.

    Columns are little-endian unsigned integers of one width: entity and file (places in the lists above), first row,
    rows, duplicates, first second of the day, seconds from the first row to the last.
    """

    files: list[tuple[str, str]]  # event type and the day in the file's key
    entities: list[str]
    pointers: int
    columns: list[bytes]


@dataclass(frozen=True)
class _Pointers:
    """Pointers as aligned arrays, in the order (tenant, day, hash, entity, file, first row)."""

    tenants: I64
    days: I64
    hashes: U64
    entities: I64
    begins: Flags  # where another entity begins
    lengths: I64  # of the entity's id, in characters
    files: I64
    columns: list[npt.NDArray[np.generic]]  # the last five of `_Body.columns`


def prefix_of(value: int, digits: int) -> str:
    """Return the first base-4 digits of a 64-bit hash."""
    return "".join(str(value >> (62 - 2 * place) & 3) for place in range(digits))


def partitions_of(tenant_id: str, entity_id: str) -> list[str]:
    """Return the partitions in which an entity's items may be, shortest prefix first."""
    value = entity_hash(tenant_id, entity_id)
    return [f"{tenant_id}#{prefix_of(value, digits)}" for digits in range(PREFIX_DIGITS + 1)]


def build_index(filed: Sequence[Filed], words: Words, writer: str) -> list[IndexItem]:
    """Return the items of a segment.

    Args:
        filed: its rows, type by type.
        words: what their codes stand for.
        writer: `<lineage>#<ordinal, 12 digits>`.
    """
    files = [(one.event_type, file.tier, file.day) for one in filed for file in one.files]
    if not files:
        return []
    found = _pointers(filed, words)
    items: list[IndexItem] = []
    for first, last in pairwise(edges(found.tenants, found.days).tolist()):
        tenant_id = words.tenants[int(found.tenants[first])]
        dt = day_of(int(found.days[first]) * DAY_US)
        tier = files[int(found.files[first])][1]
        digits = _digits(found, first, last)
        for begin, end in _by_prefix(found, first, last, digits):
            partition = f"{tenant_id}#{prefix_of(int(found.hashes[begin]), digits)}"
            for part, (start, stop) in enumerate(_parts(found, begin, end)):
                name = f"{dt}#{tier}#{writer}" + (f"#{part}" if part else "")
                items.append(IndexItem(partition, name, _encode(found, start, stop, files, words)))
    return items


def _pointers(filed: Sequence[Filed], words: Words) -> _Pointers:
    """Find the runs of all files."""
    parts: list[list[npt.NDArray[np.generic]]] = []
    fileno = 0
    for one in filed:
        sizes = [file.last - file.first for file in one.files]
        begins = np.repeat(np.array([file.first for file in one.files]), sizes)
        numbers = np.repeat(np.arange(fileno, fileno + len(sizes)), sizes)
        fileno += len(sizes)
        days = one.times // DAY_US
        bounds = edges(numbers, one.tenants, one.entities, days)
        at, ends = bounds[:-1], bounds[1:] - 1
        seconds = (one.times[at] - days[at] * DAY_US) // SECOND_US
        span = (one.times[ends] - days[at] * DAY_US) // SECOND_US - seconds
        duplicates = np.add.reduceat(one.duplicate.astype(np.int64), at)
        counted = [at - begins[at], np.diff(bounds), duplicates, seconds, span]
        parts.append([one.tenants[at], days[at], one.entities[at], numbers[at], *counted])
    tenants, days, entities, files, *columns = (
        np.concatenate(list(column)) for column in zip(*parts, strict=True)
    )
    hashes = _hashes(tenants, entities, words)
    order = np.lexsort((columns[0], files, entities, hashes, days, tenants))
    entities = entities[order]
    return _Pointers(
        tenants=tenants[order],
        days=days[order],
        hashes=hashes[order],
        entities=entities,
        begins=np.concatenate([np.ones(1, dtype=np.bool_), entities[1:] != entities[:-1]]),
        lengths=np.fromiter(map(len, words.entities), np.int64, len(words.entities))[entities],
        files=files[order],
        columns=[_narrow(column[order]) for column in columns],
    )


def _hashes(tenants: I64, entities: I64, words: Words) -> U64:
    pairs, inverse = np.unique(tenants * len(words.entities) + entities, return_inverse=True)
    size = len(words.entities)
    found = [entity_hash(words.tenants[pair // size], words.entities[pair % size]) for pair in pairs.tolist()]
    return np.array(found, dtype=np.uint64)[inverse]


def _digits(found: _Pointers, first: int, last: int) -> int:
    """Return the shortest prefix whose items have about ITEM_BYTES."""
    size = _POINTER_BYTES * (last - first) + _text_size(found, first, last)
    if size <= ITEM_BYTES:
        return 0
    hashes = found.hashes[first:last]
    for digits in range(1, PREFIX_DIGITS):
        items = len(edges(hashes >> np.uint64(64 - 2 * digits))) - 1
        if size <= ITEM_BYTES * items:
            return digits
    return PREFIX_DIGITS


def _by_prefix(found: _Pointers, first: int, last: int, digits: int) -> list[tuple[int, int]]:
    if not digits:
        return [(first, last)]
    return [
        (first + begin, first + end)
        for begin, end in pairwise(edges(found.hashes[first:last] >> np.uint64(64 - 2 * digits)).tolist())
    ]


def _text_size(found: _Pointers, first: int, last: int) -> int:
    """Return how many characters the ids of some pointers have, each id once."""
    return int((found.lengths[first:last] * found.begins[first:last]).sum())


def _parts(found: _Pointers, first: int, last: int) -> list[tuple[int, int]]:
    """Split what one item cannot hold: ids that were made to share a prefix."""
    size = 4 * _text_size(found, first, last)  # a character has 4 bytes at most
    parts = max(-(-(last - first) // MAX_POINTERS), -(-size // _MAX_ENTITY_BYTES))
    step = -(-(last - first) // parts)
    return [(start, min(start + step, last)) for start in range(first, last, step)]


def _encode(
    found: _Pointers, first: int, last: int, files: Sequence[tuple[str, str, str]], words: Words
) -> bytes:
    begins = found.begins[first:last].copy()
    begins[0] = True
    entities = found.entities[first:last][begins].tolist()
    numbers = found.files[first:last].tolist()
    used = sorted(set(numbers))
    local = {number: place for place, number in enumerate(used)}
    body = _Body(
        files=[(files[number][0], files[number][2]) for number in used],
        entities=[words.entities[code] for code in entities],
        pointers=last - first,
        columns=[
            _places(np.cumsum(begins) - 1, len(entities)),
            _places(np.array([local[number] for number in numbers]), len(used)),
            *[column[first:last].tobytes() for column in found.columns],
        ],
    )
    packed = msgspec.msgpack.encode(body)
    compressed: bytes = pa.compress(packed, codec="lz4_raw", asbytes=True)
    return len(packed).to_bytes(4, "little") + compressed


def _places(values: I64, size: int) -> bytes:
    """Return places in a list of `size` values."""
    return values.astype("<u1" if size <= 2**8 else "<u2").tobytes()


def _narrow(values: I64) -> npt.NDArray[np.generic]:
    """Return the values as unsigned integers of one, two or four bytes."""
    highest = int(values.max())
    return values.astype("<u1" if highest < 2**8 else "<u2" if highest < 2**16 else "<u4")


def read_item(item: IndexItem, entity_id: str | None = None) -> list[Entry]:
    """Return the entries of an item, or only those of one entity.

    Raises:
        Corrupt: its value is not one that a loader writes.
    """
    try:
        return _read(item, entity_id)
    except (
        pa.ArrowException,
        OSError,
        msgspec.MsgspecError,
        ArithmeticError,
        ValueError,
        LookupError,
    ) as exc:
        raise Corrupt(
            f"index item {item.partition} {item.name} cannot be read: {exc}; run `headrace audit`"
        ) from exc


def _read(item: IndexItem, entity_id: str | None) -> list[Entry]:
    dt, tier = item.name.split("#")[:2]
    size = int.from_bytes(item.body[:4], "little")
    if size > _MAX_BODY_BYTES:
        raise ValueError(f"{size} bytes")
    packed = pa.decompress(item.body[4:], size, codec="lz4_raw", asbytes=True)
    body = msgspec.msgpack.decode(packed, type=_Body)
    owners = _wide(body.columns[0], body.pointers)
    chosen = slice(0, body.pointers)
    if entity_id is not None:
        if entity_id not in body.entities:
            return []
        place = body.entities.index(entity_id)
        chosen = slice(*np.searchsorted(owners, [place, place + 1]).tolist())
    columns = [_wide(column, body.pointers)[chosen].tolist() for column in body.columns]
    midnight = int(np.datetime64(dt, "s").astype(np.int64))
    writer = item.segment.writer
    keys = [file_key(kind, tier, day, writer) for kind, day in body.files]
    return [
        Entry(
            body.entities[entity],
            body.files[file][0],
            dt,
            tier,
            Pointer(keys[file], first, rows),
            duplicates,
            midnight + second,
            midnight + second + span,
        )
        for entity, file, first, rows, duplicates, second, span in zip(*columns, strict=True)
    ]


def _wide(data: bytes, count: int) -> npt.NDArray[np.generic]:
    width = len(data) // count
    if width not in _WIDTHS or width * count != len(data):
        raise ValueError(f"a column of {len(data)} bytes for {count} pointers")
    return np.frombuffer(data, dtype=f"<u{width}")
