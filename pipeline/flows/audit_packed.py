"""The audit's witnesses for index and aggregates, read before the ledger so that what lands meanwhile is no difference."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TypeVar

from pipeline.core.aggregate import AggregateKey
from pipeline.core.audit import Difference, PackedReport
from pipeline.core.audit_packed import compare_index, compare_totals
from pipeline.core.errors import Corrupt
from pipeline.core.index import IndexItem
from pipeline.core.keys import Partition
from pipeline.core.recount import Totals
from pipeline.core.staging import digest_of
from pipeline.flows.audit_files import Counted
from pipeline.ports.aggregates import Aggregates
from pipeline.ports.index import EntityIndex

T = TypeVar("T")
_Name = tuple[str, str]


class PackedAudit:
    """Holds index and aggregates against the data files, segment by segment.

    Args:
        index: is read here, item by item; only digests are kept.
        aggregates: is read here.
        settled: the newest committed ordinal of each lineage, read before.
    """

    def __init__(self, index: EntityIndex, aggregates: Aggregates, settled: Mapping[str, int]) -> None:
        self._index, self._settled = index, settled
        self.report = PackedReport([], 0, 0)
        self._totals = {one.key: one for one in self._readable("aggregate", aggregates.all_items())}
        self._items: dict[str, dict[_Name, str]] = defaultdict(dict)
        for item in self._readable("index", index.all_items()):
            self._items[_segment_of(item)][item.partition, item.name] = digest_of(item.body)
        self._expected = Totals()
        self._last: dict[AggregateKey, int] = {}  # the newest segment that counts in an item
        self._damaged: set[tuple[str, str, str]] = set()  # event type, day, lineage; "" for any
        self.report.index_items = sum(len(found) for found in self._items.values())
        self.report.aggregate_rows = len(self._totals)

    def _readable(self, what: str, items: Iterable[T | Corrupt]) -> Iterator[T]:
        """Yield the items that can be read; name the others."""
        for item in items:
            if isinstance(item, Corrupt):
                subject, _, message = str(item).partition(": ")
                self.report.differences.append(Difference(f"{what}_altered", subject, message))
            else:
                yield item

    def damaged(self, lineage: str, places: Iterable[Partition]) -> None:
        """Leave out what a segment's files count in: they are not what was written, and are named for it."""
        for place in places:
            event_type = "" if place.tier == "quarantine" else place.event_type
            self._damaged.add((event_type, "" if place.tier == "late" else place.dt, lineage))

    def take(self, counted: Counted) -> None:
        """Compare a segment's index items, and add up what its rows come to."""
        found = counted.recount
        if found is None:
            return
        lineage, ordinal = counted.lineage, counted.ordinal
        settled = ordinal <= self._settled.get(lineage, 0)
        deltas = {
            key: delta
            for key, delta in found.deltas.items()
            if settled or (key in self._totals and ordinal <= self._totals[key].last_ordinal)
        }
        self._expected.add(deltas)
        self._last |= {key: max(ordinal, self._last.get(key, 0)) for key in deltas}
        if settled:
            self._compare_items(counted.ref.name, found.index)

    def _compare_items(self, segment: str, expected: list[IndexItem]) -> None:
        stored = self._items.get(segment, {})
        if stored != {(item.partition, item.name): digest_of(item.body) for item in expected}:
            self.report.differences += compare_index(segment, expected, self._fetch(stored))

    def _fetch(self, names: Mapping[_Name, str]) -> list[IndexItem]:
        """Read items again: bytes may differ where the entries do not."""
        days: dict[str, set[str]] = defaultdict(set)
        for partition, name in names:
            days[partition].add(name.split("#", 1)[0])
        return [
            item
            for partition, found in sorted(days.items())
            for item in self._index.find([partition], min(found), max(found))
            if (partition, item.name) in names
        ]

    def finish(
        self, decided: Mapping[str, int], planned: Mapping[str, int], segments: Collection[str]
    ) -> PackedReport:
        """Compare the totals, and name items of segments that are none.

        Args:
            decided: the newest committed ordinal of each lineage, read after index and aggregates.
            planned: the newest ordinal of each lineage, committed or not, read with it.
            segments: the names of all segments that are known.
        """
        moving = {
            key
            for key, one in self._totals.items()
            if decided.get(_lineage_of(key), 0) < one.last_ordinal <= planned.get(_lineage_of(key), 0)
        }
        left_out = {key for key in self._totals.keys() | self._expected.sums.keys() if self._in_damage(key)}
        self.report.differences += compare_totals(
            {key: one for key, one in self._expected.sums.items() if key not in moving | left_out},
            {key: one for key, one in self._totals.items() if key not in moving | left_out},
            planned,
            self._last,
        )
        for segment in sorted(self._items.keys() - set(segments)):
            first = min(self._items[segment])
            message = f"{len(self._items[segment])} index items of a segment that the ledger does not hold"
            self.report.differences.append(
                Difference("index_stray", segment, f"{message}, such as {' '.join(first)}")
            )
        return self.report

    def _in_damage(self, key: AggregateKey) -> bool:
        event_type = key.partition.split("#", 1)[1]
        dt, lineage = key.name.split("#", 1)[0], _lineage_of(key)
        return not self._damaged.isdisjoint(
            {(event_type, dt, lineage), ("", dt, lineage), (event_type, "", lineage)}
        )


def _segment_of(item: IndexItem) -> str:
    """Return the segment that an item's name says it is of; the name itself when it is odd."""
    parts = item.name.split("#")
    if len(parts) < len(("dt", "tier", "lineage", "ordinal")):
        return item.name
    return f"{parts[2]}-{parts[3]}"


def _lineage_of(key: AggregateKey) -> str:
    return key.name.rpartition("#")[2]
