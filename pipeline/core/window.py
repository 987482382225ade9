"""The duplicate window: which accepted ids were seen lately, in 20 bytes each and no per-event call.

A fingerprint is 128 bits of BLAKE2b over (tenant_id, event_id): a hostile producer cannot craft one that hides
another's event. Fingerprints live in sorted arrays ("runs", `core/window_runs.py`), each entry tagged with the
segment it came from; runs are merged as they grow (each entry takes part in about log2 n merges). A segment leaves the
window whole, by its tag; its entries go at the next merge, or when a twentieth of all entries is dead.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from pipeline.core.errors import Corrupt
from pipeline.core.filed import I64, U64, Flags
from pipeline.core.keys import SegmentRef
from pipeline.core.window_reach import SegmentAge
from pipeline.core.window_runs import Run, Tags, merge, order_of, sorted_run

_MAGIC = b"hrids1\0\0"
_RATIO = 2  # runs are merged with an elder that is at most twice as long as they are together
_MAX_HELD = 1.05  # entries held for each id inside: thinning out costs a pass over all, a twentieth at a time is cheap


@dataclass(frozen=True)
class Fingerprints:
    """Fingerprints as two aligned arrays of 64-bit halves, in the order of the rows they came from."""

    high: U64
    low: U64

    def __len__(self) -> int:
        return len(self.high)


def holds(ids: Fingerprints, wanted: Fingerprints) -> bool:
    """True when an ids file, sorted by the high halves, holds the first fingerprint of `wanted`."""
    first = int(np.searchsorted(ids.high, wanted.high[0], side="left"))
    last = int(np.searchsorted(ids.high, wanted.high[0], side="right"))
    return bool((ids.low[first:last] == wanted.low[0]).any())


def fingerprints(pairs: Iterable[tuple[str, str]]) -> Fingerprints:
    """Return the fingerprints of (tenant_id, event_id) pairs, in order."""
    blake = hashlib.blake2b
    packed = b"".join([blake(f"{a}\0{b}".encode(), digest_size=16).digest() for a, b in pairs])
    halves = np.frombuffer(packed, dtype="<u8").reshape(-1, 2)
    return Fingerprints(np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1]))


def encode_ids(found: Fingerprints) -> bytes:
    """Return the bytes of an ids file: magic, count, then the halves, sorted by the first."""
    order = np.argsort(found.high, kind="stable")
    head = _MAGIC + len(found).to_bytes(8, "little")
    return b"".join((head, found.high[order].tobytes(), found.low[order].tobytes()))


def ids_size(count: int) -> int:
    """Return the size in bytes of an ids file of so many fingerprints."""
    return 16 + 16 * count


def decode_ids(data: bytes) -> Fingerprints:
    """Read an ids file.

    Raises:
        Corrupt: not such a file, or cut short.
    """
    count = int.from_bytes(data[8:16], "little")
    if not data.startswith(_MAGIC) or len(data) != ids_size(count):
        raise Corrupt(f"not a whole ids file: {len(data)} bytes for {count} ids")
    halves = np.frombuffer(data, dtype="<u8", offset=16)
    return Fingerprints(halves[:count], halves[count:])


class Window:
    """The fingerprints of some segments, searchable.

    Memory: 20 bytes for each id of the segments inside, at most a twentieth more for those that left, and the transient of a
    merge.
    """

    def __init__(self) -> None:
        self._runs: list[Run] = []
        self._tags: dict[SegmentRef, int] = {}
        self._ages: dict[int, SegmentAge] = {}  # by tag
        self._live: Flags = np.zeros(64, dtype=np.bool_)
        self._next_tag = 0
        self._inside = 0  # ids of the segments inside; entries are fewer where ids repeat

    def __contains__(self, segment: SegmentRef) -> bool:
        return segment in self._tags

    @property
    def size_bytes(self) -> int:
        """Return the memory held by the runs."""
        return sum(run.nbytes for run in self._runs)

    def add(self, segment: SegmentAge, ids: Fingerprints) -> None:
        """Remember a segment's fingerprints; a segment already known is left as it is."""
        if segment.id in self._tags:
            return
        tag = self._next_tag
        self._next_tag += 1
        if tag >= len(self._live):
            self._live = np.concatenate([self._live, np.zeros_like(self._live)])
        self._tags[segment.id], self._ages[tag], self._live[tag] = tag, segment, True
        self._inside += segment.ids
        tags = np.full(len(ids), tag, dtype=np.uint32)
        self._runs.append(sorted_run(ids.high, ids.low, tags, self._live, self._ranks))
        self._merge()

    def leave(self, segments: Iterable[SegmentRef]) -> None:
        """Let segments leave the window; those that are not inside are passed over."""
        for gone in segments:
            tag = self._tags.pop(gone, None)
            if tag is not None:
                self._inside -= self._ages.pop(tag).ids
                self._live[tag] = False
        if sum(map(len, self._runs)) > self._inside * _MAX_HELD:
            for run in self._runs:
                run.thin(self._live)

    def seen(self, ids: Fingerprints) -> Flags:
        """Return which fingerprints repeat one of the window, or an earlier one of `ids` itself."""
        order, high = order_of(
            ids.high, ids.low, lambda places: places
        )  # stable: the earlier row comes first
        low = ids.low[order]
        found = np.zeros(len(ids), dtype=np.bool_)
        found[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        for run in self._runs:
            found |= run.find(high, low, self._live)
        flags = np.zeros_like(found)
        flags[order] = found
        return flags

    def _merge(self) -> None:
        """Merge the youngest runs at once, as far back as an elder is at most twice as long as all younger ones."""
        first = len(self._runs) - 1
        younger = len(self._runs[first])
        while first and len(self._runs[first - 1]) <= younger * _RATIO:
            first -= 1
            younger += len(self._runs[first])
        if first < len(self._runs) - 1:
            merged = merge(self._runs[first:], self._live, self._ranks)
            self._runs[first:] = [merged]

    def _ranks(self, tags: Tags) -> I64:
        """Return how long each tag's segment stays, as `Reach` lets them go."""
        distinct, where = np.unique(tags, return_inverse=True)
        ages = [self._ages[tag].rank for tag in distinct.tolist()]
        ranks = np.empty(len(ages), dtype=np.int64)
        ranks[sorted(range(len(ages)), key=ages.__getitem__)] = np.arange(len(ages))
        return ranks[where]
