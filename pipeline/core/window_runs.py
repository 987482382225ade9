"""Sorted runs of fingerprints: searched, merged and thinned piece by piece, so that no run is ever in memory twice.

A run is cut into pieces by the first bits of the high half. Fingerprints are a hash, so the pieces are of one size, and
piece k of one run meets only piece k of another: a merge frees what it has read while it writes.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from pipeline.core.filed import I64, U64, Flags

Tags = npt.NDArray[np.uint32]
Ranks = Callable[[Tags], I64]  # how long each tag's segment stays in the window: more is longer

_PIECE_IDS = 65_536  # up to here a run is one piece: smaller ones cost calls and save nothing
_MAX_PIECES = 32  # the transient memory of a merge is some copies of one piece: a tenth of the largest run


@dataclass(frozen=True)
class Piece:
    """Entries sorted by (high, low), each with the tag of its segment; no two are equal."""

    high: U64
    low: U64
    tag: Tags

    def __len__(self) -> int:
        return len(self.high)

    @property
    def nbytes(self) -> int:
        """Return the memory held."""
        return self.high.nbytes + self.low.nbytes + self.tag.nbytes


_EMPTY = Piece(np.empty(0, np.uint64), np.empty(0, np.uint64), np.empty(0, np.uint32))


@dataclass
class Run:
    """Pieces, a power of two many; each holds an equal share of all possible high halves, in order."""

    pieces: list[Piece]

    def __len__(self) -> int:
        return sum(map(len, self.pieces))

    def find(self, high: U64, low: U64, live: Flags) -> Flags:
        """Return which fingerprints, sorted by `high`, are here with a living tag."""
        found = np.zeros(len(high), dtype=np.bool_)
        cuts = _cuts(high, len(self.pieces))
        for piece, (first, last) in zip(self.pieces, pairwise(cuts), strict=True):
            if first < last and len(piece):
                _find(piece, high[first:last], low[first:last], live, found[first:last])
        return found

    def thin(self, live: Flags) -> None:
        """Drop the entries whose tag is dead."""
        for place, piece in enumerate(self.pieces):
            alive = live[piece.tag]
            if not alive.all():
                self.pieces[place] = Piece(piece.high[alive], piece.low[alive], piece.tag[alive])


def merge(runs: Sequence[Run], live: Flags, ranks: Ranks) -> Run:
    """Make one run of several, and use them up: living entries, of equal ones that whose segment stays longest."""
    count = max(_pieces_for(sum(map(len, runs))), *(len(run.pieces) for run in runs))
    return Run([_join([_take(run, place, count) for run in runs], live, ranks) for place in range(count)])


def sorted_run(high: U64, low: U64, tag: Tags, live: Flags, ranks: Ranks) -> Run:
    """Make a run of entries in any order."""
    return Run([_join([Piece(high, low, tag)], live, ranks)])


def order_of(high: U64, low: U64, then: Callable[[npt.NDArray[np.intp]], I64]) -> npt.NDArray[np.intp]:
    """Return the stable order by (high, low, then of the place).

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
    return order


def _find(piece: Piece, high: U64, low: U64, live: Flags, found: Flags) -> None:
    """Set `found` where a fingerprint is in the piece."""
    at = np.searchsorted(piece.high, high)
    np.minimum(at, len(piece) - 1, out=at)
    asked = np.flatnonzero(piece.high[at] == high)
    at = at[asked]
    while len(asked):  # more than once only for different ids that share 64 bits
        found[asked] |= (piece.low[at] == low[asked]) & live[piece.tag[at]]
        inside = at + 1 < len(piece)
        asked, at = asked[inside], at[inside] + 1
        same = piece.high[at] == high[asked]
        asked, at = asked[same], at[same]


def _pieces_for(ids: int) -> int:
    count = 1
    while count < _MAX_PIECES and ids > count * _PIECE_IDS:
        count *= 2
    return count


def _cuts(high: U64, count: int) -> list[int]:
    """Return where the shares of `count` pieces begin in a sorted array, and its length at the end."""
    shift = np.uint64(64 - (count.bit_length() - 1)) if count > 1 else np.uint64(0)
    bounds = np.arange(1, count, dtype=np.uint64) << shift
    return [0, *np.searchsorted(high, bounds).tolist(), len(high)]


def _take(run: Run, place: int, count: int) -> Piece:
    """Return the run's share of piece `place` of `count`, and let go of a piece whose last share it is."""
    shares = count // len(run.pieces)
    held, part = divmod(place, shares)
    piece = run.pieces[held]
    if shares > 1:
        width = np.uint64(2**64 // count)
        first = int(np.searchsorted(piece.high, np.uint64(place) * width)) if part else 0
        last = (
            int(np.searchsorted(piece.high, np.uint64(place + 1) * width))
            if part + 1 < shares
            else len(piece)
        )
        share = Piece(piece.high[first:last], piece.low[first:last], piece.tag[first:last])
    else:
        share = piece
    if part + 1 == shares:
        run.pieces[held] = _EMPTY
    return share


def _join(pieces: Iterable[Piece], live: Flags, ranks: Ranks) -> Piece:
    """Return sorted pieces, or one in any order, as one; see `merge`."""
    highs, lows, tags = zip(*((one.high, one.low, one.tag) for one in pieces), strict=True)
    high, low, tag = np.concatenate(highs), np.concatenate(lows), np.concatenate(tags)
    alive = live[tag]
    if not alive.all():
        high, low, tag = high[alive], low[alive], tag[alive]
    order = order_of(high, low, lambda places: -ranks(tag[places]))
    high, low = high[order], low[order]
    first = np.ones(len(high), dtype=np.bool_)
    first[1:] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
    if first.all():
        return Piece(high, low, tag[order])
    return Piece(high[first], low[first], tag[order[first]])
