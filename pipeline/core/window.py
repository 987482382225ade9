"""The duplicate window: which accepted ids were seen lately, in 20 bytes each and no per-event call.

A fingerprint is 128 bits of BLAKE2b over (tenant_id, event_id): a hostile producer cannot craft one that hides
another's event. Fingerprints live in sorted arrays ("runs"), each entry tagged with the segment it came from;
runs are merged as they grow (each entry takes part in about log2 n merges). A segment leaves the window whole, by
its tag; its entries go at the next merge.
"""

import hashlib
from bisect import insort
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pipeline.core.errors import Corrupt
from pipeline.core.filed import U64, Flags

_MAGIC = b"hrids1\0\0"
_RATIO = 2  # a run is merged into its elder once it is at least half as long


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


@dataclass(frozen=True, order=True)
class SegmentId:
    """One segment of one lineage, as the window knows it."""

    lineage: str
    ordinal: int


@dataclass(frozen=True)
class SegmentAge:
    """What the window needs to know of a segment to place it: its latest arrival and its number of ids."""

    id: SegmentId
    max_arrival_us: int
    ids: int


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


def choose(segments: Sequence[SegmentAge], horizon_us: int, max_ids: int) -> list[SegmentAge]:
    """Return the segments inside the window: latest arrival at or after the horizon, newest first, up to the cap.

    Whole segments only: one that would pass `max_ids` ends the window.
    """
    chosen: list[SegmentAge] = []
    room = max_ids
    for segment in sorted(segments, key=lambda one: (one.max_arrival_us, one.id), reverse=True):
        if segment.max_arrival_us < horizon_us or segment.ids > room:
            break
        room -= segment.ids
        chosen.append(segment)
    return chosen


@dataclass
class _Run:
    high: U64
    low: U64
    tag: npt.NDArray[np.uint32]


class Window:
    """The fingerprints of some segments, searchable."""

    def __init__(self) -> None:
        self._runs: list[_Run] = []
        self._tags: dict[SegmentId, int] = {}
        self._live: Flags = np.zeros(64, dtype=np.bool_)
        self._by_age: list[
            tuple[int, SegmentId, int]
        ] = []  # (latest arrival, segment, tag), as `choose` sorts
        self._next_tag = 0

    @property
    def segments(self) -> frozenset[SegmentId]:
        """Return the segments inside the window."""
        return frozenset(self._tags)

    @property
    def size_bytes(self) -> int:
        """Return the memory held by the runs."""
        return sum(run.high.nbytes + run.low.nbytes + run.tag.nbytes for run in self._runs)

    def add(self, segment: SegmentAge, ids: Fingerprints) -> None:
        """Remember a segment's fingerprints; a segment already known is left as it is."""
        if segment.id in self._tags:
            return
        tag = self._next_tag
        self._next_tag += 1
        if tag >= len(self._live):
            self._live = np.concatenate([self._live, np.zeros_like(self._live)])
        self._tags[segment.id] = tag
        self._live[tag] = True
        insort(self._by_age, (segment.max_arrival_us, segment.id, tag))
        self._runs.append(self._unique(ids.high, ids.low, np.full(len(ids), tag, dtype=np.uint32)))
        while len(self._runs) > 1 and len(self._runs[-1].high) * _RATIO >= len(self._runs[-2].high):
            younger, elder = self._runs.pop(), self._runs.pop()
            self._runs.append(
                self._unique(
                    np.concatenate([elder.high, younger.high]),
                    np.concatenate([elder.low, younger.low]),
                    np.concatenate([elder.tag, younger.tag]),
                )
            )

    def keep_only(self, segments: Iterable[SegmentId]) -> None:
        """Let every other segment leave the window."""
        kept = set(segments)
        for gone in [segment for segment in self._tags if segment not in kept]:
            self._live[self._tags.pop(gone)] = False
        self._by_age = [one for one in self._by_age if one[1] in kept]

    def seen(self, ids: Fingerprints) -> Flags:
        """Return which fingerprints repeat one of the window, or an earlier one of `ids` itself."""
        order = _order(
            ids.high, ids.low, np.zeros(len(ids), dtype=np.int64)
        )  # stable: the earlier row comes first
        high, low = ids.high[order], ids.low[order]
        found = np.zeros(len(ids), dtype=np.bool_)
        found[1:] = (high[1:] == high[:-1]) & (low[1:] == low[:-1])
        for run in self._runs:
            found |= self._in_run(run, high, low)
        flags = np.zeros_like(found)
        flags[order] = found
        return flags

    def _in_run(self, run: _Run, high: U64, low: U64) -> Flags:
        found = np.zeros(len(high), dtype=np.bool_)
        at = np.searchsorted(run.high, high)
        asked = np.arange(len(high))
        while True:  # more than once only for different ids that share 64 bits
            inside = at < len(run.high)
            asked, at = asked[inside], at[inside]
            same = run.high[at] == high[asked]
            asked, at = asked[same], at[same]
            if not len(asked):
                return found
            found[asked] |= (run.low[at] == low[asked]) & self._live[run.tag[at]]
            at = at + 1

    def _unique(self, high: U64, low: U64, tag: npt.NDArray[np.uint32]) -> _Run:
        """Return a sorted run: live entries only, of equal ones that whose segment stays longest."""
        alive = self._live[tag]
        if not alive.all():
            high, low, tag = high[alive], low[alive], tag[alive]
        rank = np.zeros(self._next_tag, dtype=np.int64)
        rank[[one for _, _, one in self._by_age]] = np.arange(len(self._by_age))
        order = _order(high, low, -rank[tag])
        high, low, tag = high[order], low[order], tag[order]
        first = np.ones(len(high), dtype=np.bool_)
        first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        return _Run(high[first], low[first], tag[first])


def _order(high: U64, low: U64, then: npt.NDArray[np.int64]) -> npt.NDArray[np.intp]:
    """Return the stable order by (high, low, then).

    Sorting by `high` alone settles nearly all of it, and merges sorted runs in linear time; only ties are looked at.
    """
    order = np.argsort(high, kind="stable")
    same = high[order[1:]] == high[order[:-1]]
    if same.any():
        tied = np.zeros(len(high), dtype=np.bool_)
        tied[1:] = same
        tied[:-1] |= same
        group = order[tied]
        order[tied] = group[np.lexsort((then[group], low[group], high[group]))]
    return order
