"""The audit: gather the witnesses, count the objects again, let core compare."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.audit import ObjectCount, RecordCount, Report, Witnesses, audit
from pipeline.core.errors import NotFound
from pipeline.core.keys import EVENTS, LATE, QUARANTINE
from pipeline.ports.ledger import Ledger
from pipeline.ports.manifest import Manifest
from pipeline.ports.objects import ObjectInfo, Objects
from pipeline.ports.receipts import Receipts

_COLUMNS = ("sequence_number", "subsequence_number", "ingested_time")
_GROUP = ["sequence_number"]
_SUMS = ("archived", "duplicates", "quarantined")


@dataclass(frozen=True)
class AuditPorts:
    """What the audit reads.

    Attributes:
        fetch: the bytes of a listed object; raises NotFound when it went away meanwhile.
        each: calls a function for every segment's objects, several at once, and yields the answers in any order.
        progress: told of every object read, and how many there are; called from any thread.
    """

    ledger: Ledger
    manifest: Manifest
    objects: Objects
    receipts: Receipts
    fetch: Callable[[ObjectInfo], bytes]
    each: Callable[[Callable[[list[ObjectInfo]], Any], Iterable[list[ObjectInfo]]], Iterable[Any]]
    progress: Callable[[int], None]


@dataclass(frozen=True)
class _Counted:
    """One segment's objects, read again; a Kinesis record never spans two segments."""

    lineage: str
    objects: list[ObjectCount]
    records: dict[str, RecordCount]


def run_audit(ports: AuditPorts) -> Report:
    """Return what agrees and what does not.

    Receipts are read first, then the ledger, the manifest, and last the objects, so what lands meanwhile is on its way,
    never a difference.
    """
    receipts = ports.receipts.all()
    lineages = ports.ledger.lineages()
    segments = [segment for one in lineages for segment in ports.ledger.segments(one.short)]
    manifest = ports.manifest.all_files()
    newest: dict[str, int] = dict.fromkeys((one.short for one in lineages), 0)
    for segment in segments:
        if segment.state == "committed":
            newest[segment.lineage] = max(newest[segment.lineage], segment.ordinal)
    groups: dict[str, list[ObjectInfo]] = defaultdict(list)
    for prefix in (EVENTS, LATE, QUARANTINE):
        for info in ports.objects.list(prefix):
            groups[_segment_of(info.key)].append(info)
    unsettled = _on_their_way(groups, newest, ports.ledger)
    settled = [infos for name, infos in groups.items() if name not in unsettled]
    objects: list[ObjectCount] = []
    records: dict[tuple[str, str], RecordCount] = {}
    for counted in ports.each(lambda infos: _count(infos, ports), settled):
        objects += counted.objects
        for sequence, count in counted.records.items():
            key = (counted.lineage, sequence)
            records[key] = _add(records[key], count) if key in records else count
    entries = [entry for entry in manifest if _segment_of(entry.key) not in unsettled]
    return audit(Witnesses(lineages, segments, entries, objects, records, receipts))


def _count(infos: list[ObjectInfo], ports: AuditPorts) -> _Counted:
    objects, tables = [], []
    for info in infos:
        count, table = _read(info, ports.fetch)
        objects.append(count)
        tables += [table] if table is not None else []
        ports.progress(1)
    lineage = _split(_segment_of(infos[0].key))[0]
    return _Counted(lineage, objects, _records(tables))


def _read(info: ObjectInfo, fetch: Callable[[ObjectInfo], bytes]) -> tuple[ObjectCount, pa.Table | None]:
    segment = _segment_of(info.key)
    refused = info.key.startswith(QUARANTINE)
    try:
        file = pq.ParquetFile(io.BytesIO(fetch(info)))
        table = file.read(columns=list(_COLUMNS) if refused else [*_COLUMNS, "is_duplicate"])
    except (pa.ArrowException, NotFound, OSError, ValueError) as exc:
        problem = f"cannot be read as Parquet: {exc}".splitlines()[0]
        return ObjectCount(info.key, segment, info.size, 0, 0, 0, problem), None
    rows = table.num_rows
    zeros, ones = np.zeros(rows, dtype=np.int64), np.ones(rows, dtype=np.int64)
    flags = zeros if refused else table.column("is_duplicate").cast(pa.int64()).to_numpy()
    counted = pa.table(
        {
            "sequence_number": table.column("sequence_number"),
            "subsequence_number": table.column("subsequence_number"),
            "arrived_us": table.column("ingested_time").cast(pa.int64()),
            "archived": zeros if refused else ones - flags,
            "duplicates": flags,
            "quarantined": ones if refused else zeros,
        }
    )
    quarantined = rows if refused else 0
    return ObjectCount(info.key, segment, info.size, rows, int(flags.sum()), quarantined), counted


def _records(tables: list[pa.Table]) -> dict[str, RecordCount]:
    if not tables:
        return {}
    grouped = (
        pa.concat_tables(tables)
        .group_by(_GROUP)
        .aggregate(
            [(name, "sum") for name in _SUMS]
            + [("subsequence_number", "count_distinct"), ("arrived_us", "min")]
        )
    )
    return {
        row["sequence_number"]: RecordCount(
            row["archived_sum"],
            row["duplicates_sum"],
            row["quarantined_sum"],
            row["subsequence_number_count_distinct"],
            row["arrived_us_min"],
        )
        for row in grouped.to_pylist()
    }


def _add(one: RecordCount, other: RecordCount) -> RecordCount:
    """Add what a stray file holds of the same record; the distinct units are the larger count, so it shows."""
    return RecordCount(
        one.archived + other.archived,
        one.duplicates + other.duplicates,
        one.quarantined + other.quarantined,
        max(one.distinct, other.distinct),
        min(one.arrived_us, other.arrived_us),
    )


def _on_their_way(names: Iterable[str], newest: dict[str, int], ledger: Ledger) -> set[str]:
    """Return the segments that were decided after the ledger was read.

    A plan comes before the first file, so a file that was listed belongs to a segment that the ledger holds by now,
    or to none.
    """
    places = {name: _split(name) for name in names}
    later = {name: place for name, place in places.items() if place[1] > newest.get(place[0], 0)}
    until: dict[str, int] = {}
    for lineage in {lineage for lineage, _ in later.values()}:
        found = ledger.open(lineage).newest
        until[lineage] = found.ordinal if found else 0
    return {name for name, (lineage, ordinal) in later.items() if ordinal <= until[lineage]}


def _segment_of(key: str) -> str:
    return key.rsplit("/", 1)[1].removesuffix(".parquet")


def _split(segment: str) -> tuple[str, int]:
    lineage, _, ordinal = segment.rpartition("-")
    return lineage, int(ordinal) if ordinal.isdigit() else 0
