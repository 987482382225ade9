"""Which segments are inside the duplicate window: whole ones, newest first, back to a horizon and up to a cap of ids.

The one that would pass the cap ends the window: nothing older is inside, also where it would fit. A segment comes once and
leaves once, at the cost of a heap's step: a cut does not look at those that stay, of which small segments make thousands.
"""

import heapq
from dataclasses import dataclass

from pipeline.core.keys import SegmentRef


@dataclass(frozen=True)
class SegmentAge:
    """What the window needs to know of a segment to place it: its latest arrival and its number of ids."""

    id: SegmentRef
    max_arrival_us: int
    ids: int

    @property
    def rank(self) -> tuple[int, SegmentRef]:
        """Return how long it stays: more is longer."""
        return self.max_arrival_us, self.id


class Reach:
    """The segments inside, as they come and go."""

    def __init__(self, max_ids: int) -> None:
        self._max_ids = max_ids
        self._inside: dict[SegmentRef, SegmentAge] = {}
        self._oldest: list[tuple[tuple[int, SegmentRef], SegmentAge]] = []  # a heap
        self._beyond: tuple[int, SegmentRef] | None = None  # the newest that the cap left outside
        self.ids = 0

    def __len__(self) -> int:
        return len(self._inside)

    def __contains__(self, segment: SegmentRef) -> bool:
        return segment in self._inside

    @property
    def reached_us(self) -> int:
        """Return the latest arrival of the oldest segment inside; there must be one."""
        return self._oldest[0][1].max_arrival_us

    def add(self, segment: SegmentAge) -> bool:
        """Take in a segment that has ids; True when it is inside now, until the window slides."""
        if segment.id in self._inside:
            return True
        if not segment.ids or (self._beyond is not None and segment.rank <= self._beyond):
            return False
        self._inside[segment.id] = segment
        heapq.heappush(self._oldest, (segment.rank, segment))
        self.ids += segment.ids
        return True

    def slide(self, horizon_us: int) -> list[SegmentRef]:
        """Let go of what lies before the horizon or beyond the cap, and return it; what the horizon took may come back."""
        gone = []
        while self._oldest and self.reached_us < horizon_us:
            gone.append(self._leave())
        while self.ids > self._max_ids:
            self._beyond = self._oldest[0][0]
            gone.append(self._leave())
        return gone

    def _leave(self) -> SegmentRef:
        _, segment = heapq.heappop(self._oldest)
        del self._inside[segment.id]
        self.ids -= segment.ids
        return segment.id
