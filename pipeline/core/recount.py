"""What a segment's index and totals must be, made again from its data files: the audit's half of the comparison."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from pipeline.core.aggregate import AggregateKey, Delta, Known, fold_rows, refused_key
from pipeline.core.filed import Filed, FileRange, Words, in_codes, runs, tenant_rows
from pipeline.core.index import IndexItem, build_index
from pipeline.core.keys import Partition, SegmentRef
from pipeline.core.manifest import TenantRows
from pipeline.core.tiers import OPEN

ROW_COLUMNS = ("tenant_id", "entity_id", "source", "event_time", "is_duplicate")
REFUSED_COLUMNS = ("tenant_id", "event_type", "ingested_time")


@dataclass(frozen=True)
class StoredRows:
    """One data file's columns, as far as they count here."""

    place: Partition
    key: str
    table: pa.Table


@dataclass
class Recount:
    """What the data files of one segment come to; tenants, first and last time by the file's key."""

    index: list[IndexItem] = field(default_factory=list)
    deltas: dict[AggregateKey, Delta] = field(default_factory=dict)
    tenants: dict[str, tuple[TenantRows, ...]] = field(default_factory=dict)
    times: dict[str, tuple[int, int]] = field(default_factory=dict)


def recount(files: Sequence[StoredRows], lineage: str, ordinal: int, known: Known) -> Recount:
    """Make index items, deltas and tenants' rows of a segment again.

    Raises:
        ValueError, pa.ArrowException: a column is not as a loader writes it.
    """
    rows = [one for one in files if one.place.tier not in {"quarantine", "redriven"}]
    found = Recount()
    if rows:
        filed, words = _refile(rows)
        found.index = build_index(filed, words, SegmentRef(lineage, ordinal).writer)
        found.deltas = fold_rows(filed, words, lineage)
        found.tenants = _tenants(rows, filed, words)
    for one in files:
        refused = one.place.tier == "quarantine"
        by_arrival = refused or one.place.tier == "redriven"
        times = one.table.column("ingested_time" if by_arrival else "event_time").cast(pa.int64()).to_numpy()
        if len(times):
            found.times[one.key] = (int(times.min()), int(times.max()))
        if refused:
            found.tenants[one.key] = ()
            _add_refused(found.deltas, one.table, lineage, known)
    return found


def _refile(files: Sequence[StoredRows]) -> tuple[list[Filed], Words]:
    """Put the files in the order the loader had them in: by type, the late tier first, then by day."""
    files = sorted(files, key=_order)
    whole = pa.concat_tables([one.table for one in files])
    rows, words = in_codes(whole, whole.column("is_duplicate").to_numpy(zero_copy_only=False))
    filed: list[Filed] = []
    first = 0
    for begin, end in runs(np.array([one.place.event_type for one in files])):
        ranges, start = [], first
        for one in files[begin:end]:
            size = one.table.num_rows
            ranges.append(FileRange(one.place.tier, one.place.dt, first - start, first - start + size))
            first += size
        event_type = files[begin].place.event_type
        filed.append(replace(rows.take(slice(start, first)), event_type=event_type, files=tuple(ranges)))
    return filed, words


def _order(one: StoredRows) -> tuple[str, bool, str]:
    return one.place.event_type, one.place.tier == OPEN, one.place.dt


def _tenants(
    files: Sequence[StoredRows], filed: Sequence[Filed], words: Words
) -> dict[str, tuple[TenantRows, ...]]:
    """Return each file's runs of tenants, by its key."""
    keys = {(one.place.event_type, one.place.tier, one.place.dt): one.key for one in files}
    return {
        keys[one.event_type, file.tier, file.day]: tenant_rows(one.take(slice(file.first, file.last)), words)
        for one in filed
        for file in one.files
    }


def _add_refused(deltas: dict[AggregateKey, Delta], table: pa.Table, lineage: str, known: Known) -> None:
    grouped = zip(*(table.column(name).to_pylist() for name in REFUSED_COLUMNS[:2]), strict=True)
    arrived = table.column("ingested_time").cast(pa.int64()).to_pylist()
    for (tenant_id, event_type), arrived_us in zip(grouped, arrived, strict=True):
        key = refused_key(tenant_id, event_type, arrived_us, lineage, known)
        deltas.setdefault(key, Delta()).quarantined += 1


class Totals:
    """Deltas of many segments added up, key by key."""

    def __init__(self) -> None:
        self.sums: dict[AggregateKey, Delta] = {}

    def add(self, deltas: Mapping[AggregateKey, Delta]) -> None:
        """Add a segment's deltas."""
        for key, delta in deltas.items():
            before = self.sums.get(key, Delta())
            sources = dict(before.sources)
            for source, count in delta.sources.items():
                sources[source] = sources.get(source, 0) + count
            self.sums[key] = Delta(
                before.duplicates + delta.duplicates,
                before.quarantined + delta.quarantined,
                tuple(a + b for a, b in zip(before.hours, delta.hours, strict=True)),
                sources,
            )
