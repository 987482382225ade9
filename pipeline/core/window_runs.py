"""Sorted runs of fingerprints: searched whole, merged and thinned share by share, so that no run is in memory twice.

A share is a range of high halves. Fingerprints are a hash, so shares are of one size, and a merge gives the pages of
what it has read back to the system while it writes.
"""

import mmap
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.core.filed import I64, U64, Flags

Tags = npt.NDArray[np.uint32]
Ranks = Callable[[Tags], I64]  # how long each tag's segment stays in the window: more is longer

_SHARE_IDS = 65_536  # merged at once; takes three times as much beside the runs: 4 MB
_MAX_SHARES = 64
_MAPPED_IDS = (
    8_192  # from here a column has a map of its own: below, half a page lost at its end would be felt
)
_MARK_EVERY = 256
_FEW = 64  # a look-up of fewer than one in so many entries misses the cache at every step
_MAP = (
    mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
)  # not shared, Python's default: that is a file in memory, and stays
_ENTRY: tuple[np.dtype[Any], ...] = (np.dtype(np.uint64), np.dtype(np.uint64), np.dtype(np.uint32))


class Run:
    """Entries sorted by (high, low), each with the tag of its segment; no two are equal.

    Large columns have maps of their own. Runs live long and go in another order than they came: in malloc's heap half as
    much again is lost between them.
    """

    def __init__(self, room: int) -> None:
        size = room if room >= _MAPPED_IDS else 0
        self._maps = [mmap.mmap(-1, size * kind.itemsize, flags=_MAP) for kind in _ENTRY if size]
        made = [
            np.frombuffer(self._maps[at], kind) if size else np.empty(room, kind)
            for at, kind in enumerate(_ENTRY)
        ]
        self.high: U64 = made[0]
        self.low: U64 = made[1]
        self.tag: Tags = made[2]
        self._length = 0
        self._marks: U64 | None = None  # every 256th high half, once somebody searches

    def __len__(self) -> int:
        return self._length

    @property
    def nbytes(self) -> int:
        """Return the memory held."""
        return self._length * sum(kind.itemsize for kind in _ENTRY)

    def append(self, high: U64, low: U64, tag: Tags) -> None:
        """Write entries that follow those before; there must be room."""
        first, last = self._length, self._length + len(high)
        self.high[first:last], self.low[first:last], self.tag[first:last] = high, low, tag
        self._length, self._marks = last, None

    def append_sorted(self, high: U64, low: U64, tag: Tags, live: Flags, ranks: Ranks) -> None:
        """Write what follows those before, in any order: its living entries, of equal ones that whose segment stays longest."""
        alive = live[tag]
        if not alive.all():
            high, low, tag = high[alive], low[alive], tag[alive]
        order, in_order = order_of(high, low, lambda places: -ranks(tag[places]))
        same = np.flatnonzero(in_order[1:] == in_order[:-1]) + 1
        if len(same):
            order = np.delete(order, same[low[order[same]] == low[order[same - 1]]])
        first, last = self._length, self._length + len(order)
        for column, mine in ((high, self.high), (low, self.low), (tag, self.tag)):
            np.take(
                column, order, out=mine[first:last], mode="clip"
            )  # clip: else it writes into a copy first
        self._length, self._marks = last, None

    def find(self, high: U64, low: U64, live: Flags) -> Flags:
        """Return which fingerprints, sorted by `high`, are here with a living tag."""
        found = np.zeros(len(high), dtype=np.bool_)
        if not self._length:
            return found
        mine = self.high[: self._length]
        at = self._search(mine, high)
        asked = np.flatnonzero(
            mine.take(at, mode="clip") == high
        )  # one above all meets the last, which is less
        at = at[asked]
        while len(asked):  # more than once only for different ids that share 64 bits
            found[asked] |= (self.low[at] == low[asked]) & live[self.tag[at]]
            inside = at + 1 < self._length
            asked, at = asked[inside], at[inside] + 1
            same = mine[at] == high[asked]
            asked, at = asked[same], at[same]
        return found

    def _search(self, mine: U64, high: U64) -> I64:
        """Return `mine.searchsorted(high)`; few in many by way of marks that fit the cache, thrice as fast."""
        if len(high) * _FEW > len(mine):
            return mine.searchsorted(high)
        if self._marks is None:
            self._marks = mine[::_MARK_EVERY].copy()
        at = np.maximum(self._marks.searchsorted(high) - 1, 0) * _MARK_EVERY
        half = _MARK_EVERY // 2
        while half:  # the halves of a block, for all at once
            at += half * (mine.take(at + (half - 1), mode="clip") < high)
            half //= 2
        at += mine.take(at, mode="clip") < high
        found: I64 = np.minimum(at, len(mine))
        return found

    def thin(self, live: Flags) -> None:
        """Drop the entries whose tag is dead, in place."""
        length, self._length, self._marks = self._length, 0, None
        for first in range(0, length, _SHARE_IDS):
            part = slice(first, min(first + _SHARE_IDS, length))
            alive = live[self.tag[part]]
            self.append(self.high[part][alive], self.low[part][alive], self.tag[part][alive])
        self._let_go(self._length, length)

    def cuts(self, shares: int) -> list[int]:
        """Return where each share begins, and the length at the end."""
        bounds = np.arange(1, shares, dtype=np.uint64) * np.uint64(2**64 // shares if shares > 1 else 0)
        return [0, *self.high[: self._length].searchsorted(bounds).tolist(), self._length]

    def take(self, first: int, last: int) -> tuple[U64, U64, Tags]:
        """Return entries first .. last - 1, and let go of the memory of all before; each is asked for once, in order."""
        self._let_go(0, first)
        return self.high[first:last], self.low[first:last], self.tag[first:last]

    def _let_go(self, first: int, last: int) -> None:
        """Give whole pages of entries that nobody will read to the system, where it takes them."""
        if hasattr(mmap, "MADV_DONTNEED"):
            for memory, kind in zip(self._maps, _ENTRY, strict=False):
                begin = -(-first * kind.itemsize // mmap.PAGESIZE) * mmap.PAGESIZE
                end = last * kind.itemsize // mmap.PAGESIZE * mmap.PAGESIZE
                if begin < end:
                    memory.madvise(mmap.MADV_DONTNEED, begin, end - begin)


def merge(runs: Sequence[Run], live: Flags, ranks: Ranks) -> Run:
    """Make one run of several, and use them up: living entries, of equal ones that whose segment stays longest."""
    room = sum(map(len, runs))
    shares = min(-(-room // _SHARE_IDS), _MAX_SHARES) or 1
    made = Run(room)
    for places in zip(*(pairwise(run.cuts(shares)) for run in runs), strict=True):
        parts = [run.take(*place) for run, place in zip(runs, places, strict=True)]
        high, low, tag = (np.concatenate(column) for column in zip(*parts, strict=True))
        made.append_sorted(high, low, tag, live, ranks)
    return made


def sorted_run(high: U64, low: U64, tag: Tags, live: Flags, ranks: Ranks) -> Run:
    """Make a run of entries in any order."""
    made = Run(len(high))
    made.append_sorted(high, low, tag, live, ranks)
    return made


def order_of(
    high: U64, low: U64, then: Callable[[npt.NDArray[np.intp]], I64]
) -> tuple[npt.NDArray[np.intp], U64]:
    """Return the stable order by (high, low, then of the place), and `high` in it.

    Sorting by `high` alone settles nearly all of it, and merges sorted runs in linear time; only ties are looked at.
    """
    order = np.argsort(high, kind="stable")
    ordered = high[order]
    same = ordered[1:] == ordered[:-1]
    if same.any():
        tied = np.zeros(len(high), dtype=np.bool_)
        tied[1:] = same
        tied[:-1] |= same
        group = order[tied]
        order[tied] = group[np.lexsort((then(group), low[group], high[group]))]
    return order, ordered
