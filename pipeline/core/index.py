"""The entity index: where the rows of one entity are, packed so that one write unit carries tens of entities.

A pointer is one run of rows: of one entity and one event day in one data file. An item holds all pointers of one
segment, tenant and event day whose entity hashes begin with one prefix:

    partition  <tenant>#<prefix>              prefix: 0 to 6 base-4 digits of the entity's hash
    name       <event day>#<tier>#<lineage>#<ordinal>[#<part>]

The prefix is as short as items of about 1 KB allow, chosen for each segment, tenant and day; a look-up asks all
seven prefixes of its entity. Slots come from the same hash, so the items of a long prefix come from one shard.
"""

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.core.days import DAY_US, day_of
from pipeline.core.errors import Corrupt
from pipeline.core.filed import I64, Filed, Words, edges
from pipeline.core.slots import entity_hash
from pipeline.core.tiers import file_key

PREFIX_DIGITS = 6
ITEM_BYTES = 1_000  # a write unit is 1,024 bytes, key and attribute names included
MAX_POINTERS = 4_000  # of one item: far below DynamoDB's 400 KB, also when hashes are chosen to collide
_POINTER_BYTES = 8  # compressed, as measured on the flights
_MAX_ENTITY_BYTES = 200_000  # of the ids in one item, before compression
_SECOND_US = 1_000_000
_COLUMNS = ("entity", "file", "first", "rows", "duplicates", "second", "span")
U64 = npt.NDArray[np.uint64]


class IndexItem(msgspec.Struct, frozen=True):
    """One item of table `entity_index`."""

    partition: str
    name: str
    body: bytes


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
    """An item's value. Columns are little-endian integers as narrow as they fit; an empty one is all zeros."""

    files: list[tuple[str, str]]  # event type and the day in the file's key
    entities: list[str]
    pointers: int
    columns: list[bytes]


@dataclass(frozen=True)
class _Pointers:
    """Pointers as aligned arrays, in the order (tenant, day, hash, file, first)."""

    tenants: I64
    days: I64
    hashes: U64
    entity_codes: I64
    columns: Mapping[str, I64]


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
    bounds = edges(found.tenants, found.days)
    for first, last in _pairs(bounds):
        tenant_id = words.tenants[int(found.tenants[first])]
        dt = day_of(int(found.days[first]) * DAY_US)
        tier = files[int(found.columns["file"][first])][1]
        digits = _digits(found, first, last, words)
        shift = np.uint64(64 - 2 * digits)
        prefixes = found.hashes[first:last] >> shift if digits else np.zeros(last - first, dtype=np.uint64)
        for begin, end in _pairs(edges(prefixes) + first):
            prefix = prefix_of(int(found.hashes[begin]), digits)
            for part, (start, stop) in enumerate(_parts(found, begin, end, words)):
                name = f"{dt}#{tier}#{writer}" + (f"#{part}" if part else "")
                body = _encode(found, start, stop, files, words)
                items.append(IndexItem(f"{tenant_id}#{prefix}", name, body))
    return items


def _pairs(bounds: I64) -> Iterator[tuple[int, int]]:
    return pairwise(bounds.tolist())


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
        seconds = (one.times[at] - days[at] * DAY_US) // _SECOND_US
        span = (one.times[ends] - days[at] * DAY_US) // _SECOND_US - seconds
        duplicates = np.add.reduceat(one.duplicate.astype(np.int64), at)
        parts.append(
            [
                one.tenants[at],
                days[at],
                one.entities[at],
                numbers[at],
                at - begins[at],
                np.diff(bounds),
                duplicates,
                seconds,
                span,
            ]
        )
    tenants, days, entities, *columns = (np.concatenate(list(column)) for column in zip(*parts, strict=True))
    hashes = _hashes(tenants, entities, words)
    order = np.lexsort((columns[1], columns[0], entities, hashes, days, tenants))
    numbered = dict(zip(_COLUMNS[1:], (column[order] for column in columns), strict=True))
    return _Pointers(tenants[order], days[order], hashes[order], entities[order], numbered)


def _hashes(tenants: I64, entities: I64, words: Words) -> U64:
    pairs, inverse = np.unique(tenants * len(words.entities) + entities, return_inverse=True)
    size = len(words.entities)
    found = [entity_hash(words.tenants[pair // size], words.entities[pair % size]) for pair in pairs.tolist()]
    return np.array(found, dtype=np.uint64)[inverse]


def _digits(found: _Pointers, first: int, last: int, words: Words) -> int:
    """Return the shortest prefix whose items have about ITEM_BYTES."""
    codes = found.entity_codes[first:last]
    size = _POINTER_BYTES * (last - first) + _text_bytes(codes, words) // 2
    if size <= ITEM_BYTES:
        return 0
    hashes = found.hashes[first:last]
    for digits in range(1, PREFIX_DIGITS):
        items = len(edges(hashes >> np.uint64(64 - 2 * digits))) - 1
        if size <= ITEM_BYTES * items:
            return digits
    return PREFIX_DIGITS


def _text_bytes(codes: I64, words: Words) -> int:
    chosen = codes[edges(codes)[:-1]]
    return sum(len(words.entities[code]) for code in chosen.tolist())


def _parts(found: _Pointers, first: int, last: int, words: Words) -> Iterator[tuple[int, int]]:
    """Split what one item cannot hold: ids that were made to share a prefix."""
    size = _text_bytes(found.entity_codes[first:last], words)
    parts = max(
        -(-(last - first) // MAX_POINTERS), -(-4 * size // _MAX_ENTITY_BYTES)
    )  # 4: bytes of a character
    step = -(-(last - first) // parts)
    for start in range(first, last, step):
        yield start, min(start + step, last)


def _encode(
    found: _Pointers, first: int, last: int, files: Sequence[tuple[str, str, str]], words: Words
) -> bytes:
    codes = found.entity_codes[first:last]
    begins = edges(codes)[:-1]
    entity = np.zeros(last - first, dtype=np.int64)
    entity[begins[1:]] = 1
    used, local = np.unique(found.columns["file"][first:last], return_inverse=True)
    columns = {name: found.columns[name][first:last] for name in _COLUMNS[1:]}
    columns |= {"entity": np.cumsum(entity), "file": local}
    body = _Body(
        files=[(files[number][0], files[number][2]) for number in used.tolist()],
        entities=[words.entities[code] for code in codes[begins].tolist()],
        pointers=last - first,
        columns=[_narrow(columns[name]) for name in _COLUMNS],
    )
    return zlib.compress(msgspec.msgpack.encode(body), 1)


def _narrow(values: I64) -> bytes:
    highest = int(values.max())
    if not highest:
        return b""
    return values.astype("<u1" if highest < 2**8 else "<u2" if highest < 2**16 else "<u4").tobytes()


def read_item(item: IndexItem) -> list[Entry]:
    """Return the entries of an item.

    Raises:
        Corrupt: its value is not one that a loader writes.
    """
    dt, tier, lineage, ordinal = item.name.split("#")[:4]
    try:
        body = msgspec.msgpack.decode(zlib.decompress(item.body), type=_Body)
        columns = {
            name: _wide(data, body.pointers) for name, data in zip(_COLUMNS, body.columns, strict=True)
        }
        midnight = int(np.datetime64(dt, "s").astype(np.int64))
        keys = [file_key(kind, tier, day, f"{lineage}#{ordinal}") for kind, day in body.files]
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
            for entity, file, first, rows, duplicates, second, span in zip(*columns.values(), strict=True)
        ]
    except (zlib.error, msgspec.MsgspecError, ValueError, LookupError) as exc:
        raise Corrupt(f"index item {item.partition} {item.name} cannot be read: {exc}") from exc


def _wide(data: bytes, count: int) -> list[int]:
    if not data:
        return [0] * count
    width = len(data) // count
    values: list[int] = np.frombuffer(data, dtype=f"<u{width}", count=count).tolist()
    return values
