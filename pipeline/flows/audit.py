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
from pipeline.core.errors import HeadraceError
from pipeline.core.keys import EVENTS, IDS, LATE, QUARANTINE, segment_name
from pipeline.core.staging import digest_of
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
    partitions, manifest = ports.manifest.partitions(), ports.manifest.all_files()
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
    listed = {*partitions, *ports.manifest.partitions()}  # before and after: one may have come in between
    ids = {_ids_segment(info.key): info.size for info in ports.objects.list(IDS)}
    return audit(
        Witnesses(
            lineages, segments, entries, objects, records, receipts, partitions=sorted(listed), ids_bytes=ids
        )
    )


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
    """Count one object. Whatever is odd about it is its own problem, and the audit goes on."""
    segment = _segment_of(info.key)
    refused = info.key.startswith(QUARANTINE)
    try:
        body = fetch(info)
        counted = _units(body, refused=refused)
    except (pa.ArrowException, HeadraceError, LookupError, OSError, TypeError, ValueError) as exc:
        problem = f"cannot be read as a data file: {exc}".splitlines()[0]
        return ObjectCount(info.key, segment, info.size, 0, 0, 0, problem), None
    rows, duplicates = counted.num_rows, pa.compute.sum(counted.column("duplicates")).as_py() or 0
    quarantined = rows if refused else 0
    count = ObjectCount(info.key, segment, info.size, rows, duplicates, quarantined, digest=digest_of(body))
    return count, counted


def _units(body: bytes, *, refused: bool) -> pa.Table:
    """Return a data file's units: position, arrival, and which of the three they are."""
    columns = list(_COLUMNS) if refused else [*_COLUMNS, "is_duplicate"]
    table = pq.ParquetFile(io.BytesIO(body)).read(columns=columns)
    rows = table.num_rows
    zeros, ones = np.zeros(rows, dtype=np.int64), np.ones(rows, dtype=np.int64)
    flags = zeros if refused else table.column("is_duplicate").cast(pa.int64()).to_numpy()
    found = pa.table(
        {
            "sequence_number": table.column("sequence_number").cast(pa.string()),
            "subsequence_number": table.column("subsequence_number").cast(pa.int64()),
            "arrived_us": table.column("ingested_time").cast(pa.int64()),
            "archived": pa.array(zeros if refused else ones - flags, pa.int64()),
            "duplicates": pa.array(flags, pa.int64()),
            "quarantined": pa.array(ones if refused else zeros, pa.int64()),
        }
    )
    if any(column.null_count for column in found.columns):
        raise ValueError("nulls where a loader writes none")
    return found


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


def _ids_segment(key: str) -> str:
    """Return the segment of `ids/<lineage>/<ordinal>.ids`; "" for a key that no loader makes."""
    lineage, _, ordinal = key.removeprefix(IDS).removesuffix(".ids").rpartition("/")
    return segment_name(lineage, int(ordinal)) if ordinal.isascii() and ordinal.isdigit() else ""


def _split(segment: str) -> tuple[str, int]:
    lineage, _, ordinal = segment.rpartition("-")
    return lineage, int(ordinal) if ordinal.isascii() and ordinal.isdigit() else 0
