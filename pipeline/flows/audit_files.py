"""The audit's reading of data files: units, records, tenants, and what index and totals must be."""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.aggregate import Known
from pipeline.core.audit import ObjectCount, RecordCount
from pipeline.core.errors import HeadraceError
from pipeline.core.event import RefusalCode
from pipeline.core.keys import QUARANTINE, REDRIVEN, SegmentRef, data_place
from pipeline.core.recount import REFUSED_COLUMNS, ROW_COLUMNS, Recount, StoredRows, recount
from pipeline.core.staging import digest_of
from pipeline.core.window import Fingerprints, fingerprints
from pipeline.flows.audit_others import prints_digest
from pipeline.ports.objects import ObjectInfo

_MARKS_COLUMNS = ("ingested_time",)
_COLUMNS = ("sequence_number", "subsequence_number", "ingested_time")
_GROUP = ["sequence_number"]
_SUMS = ("archived", "duplicates", "quarantined", "whole")


@dataclass(frozen=True)
class Counted:
    """One segment's objects, read again; a Kinesis record never spans two segments.

    `recount` is None when a file could not be read, or stands where no loader writes. `prints` is the digest of the rows'
    fingerprints, `ids` of those stored for them; both "" where there are none. `places` has the numbers of the units of
    those records that were asked for.
    """

    lineage: str
    ordinal: int
    objects: list[ObjectCount]
    records: dict[str, RecordCount]
    recount: Recount | None
    prints: str = ""
    ids: str = ""
    places: dict[str, Counter[int]] = field(default_factory=dict)

    @property
    def ref(self) -> SegmentRef:
        """Return which segment it is."""
        return SegmentRef(self.lineage, self.ordinal)


@dataclass(frozen=True)
class _File:
    count: ObjectCount
    units: pa.Table | None
    rows: pa.Table | None
    prints: Fingerprints | None = None


def count_segment(
    segment: str,
    infos: Sequence[ObjectInfo],
    fetch: Callable[[ObjectInfo], bytes],
    known: Known | None,
    progress: Callable[[int], None],
    apart: Collection[str] = (),
) -> Counted:
    """Read the objects of one segment.

    Args:
        segment: `<lineage>-<ordinal>`.
        infos: its data objects, as they were listed.
        fetch: returns an object's bytes.
        known: tenants and types of the segment's rules; None when they are gone.
        progress: told of every object read.
        apart: sequence numbers of the records whose units' places are wanted.
    """
    files = []
    for info in infos:
        files.append(_read(segment, info, fetch))
        progress(1)
    lineage, ordinal = split_segment(segment)
    units = [file.units for file in files if file.units is not None]
    return Counted(
        lineage,
        ordinal,
        [file.count for file in files],
        _records(units),
        _recount(files, lineage, ordinal, known),
        _prints([file.prints for file in files if file.prints is not None]),
        places=_places(units, apart),
    )


def _places(tables: Sequence[pa.Table], apart: Collection[str]) -> dict[str, Counter[int]]:
    found: dict[str, Counter[int]] = defaultdict(Counter)
    wanted = pa.array(apart, pa.string())
    for table in tables if apart else ():
        chosen = table.filter(pc.is_in(table.column("sequence_number"), wanted))
        columns = (chosen.column(name).to_pylist() for name in ("sequence_number", "subsequence_number"))
        for sequence, number in zip(*columns, strict=True):
            found[sequence][number] += 1
    return found


def _prints(found: Sequence[Fingerprints]) -> str:
    if not found:
        return ""
    halves = (np.concatenate(half) for half in zip(*((one.high, one.low) for one in found), strict=True))
    return prints_digest(Fingerprints(*halves))


def split_segment(name: str) -> SegmentRef:
    """Return the segment of a name; with ordinal 0 for what no loader names so."""
    try:
        return SegmentRef.of_name(name)
    except ValueError:
        return SegmentRef(name.rpartition("-")[0], 0)


def _recount(files: Sequence[_File], lineage: str, ordinal: int, known: Known | None) -> Recount | None:
    stored = []
    for file in files:
        place = data_place(file.count.key)
        if place is None or file.rows is None or (known is None and place.tier == "quarantine"):
            return None
        stored.append(StoredRows(place, file.count.key, file.rows))
    try:
        return recount(stored, lineage, ordinal, known or Known(frozenset(), frozenset()))
    except (pa.ArrowException, LookupError, TypeError, ValueError):
        return None  # the file itself is named for what is odd about it


def _read(segment: str, info: ObjectInfo, fetch: Callable[[ObjectInfo], bytes]) -> _File:
    """Count one object. Whatever is odd about it is its own problem, and the audit goes on."""
    if info.key.startswith(REDRIVEN):
        return _read_marks(segment, info, fetch)
    refused = info.key.startswith(QUARANTINE)
    columns = REFUSED_COLUMNS if refused else ROW_COLUMNS
    try:
        body = fetch(info)
        named = ("code",) if refused else ("event_id",)
        wanted = [*dict.fromkeys([*_COLUMNS, *columns, *named])]
        table = pq.ParquetFile(io.BytesIO(body)).read(columns=wanted)
        counted, rows = _units(table, refused=refused), table.select(columns)
        prints = None if refused else _fingerprints(table)
    except (pa.ArrowException, HeadraceError, LookupError, OSError, TypeError, ValueError) as exc:
        return _unreadable(segment, info, exc)
    units, duplicates = counted.num_rows, pc.sum(counted.column("duplicates")).as_py() or 0
    quarantined = units if refused else 0
    count = ObjectCount(info.key, segment, info.size, units, duplicates, quarantined, digest=digest_of(body))
    return _File(count, counted, rows, prints)


def _fingerprints(table: pa.Table) -> Fingerprints:
    pairs = (table.column(name).to_pylist() for name in ("tenant_id", "event_id"))
    return fingerprints(zip(*pairs, strict=True))


def _read_marks(segment: str, info: ObjectInfo, fetch: Callable[[ObjectInfo], bytes]) -> _File:
    """Count a file of marks; what they mark is looked at by `flows.audit_redriven`."""
    try:
        body = fetch(info)
        table = pq.ParquetFile(io.BytesIO(body)).read(columns=list(_MARKS_COLUMNS))
    except (pa.ArrowException, HeadraceError, LookupError, OSError, TypeError, ValueError) as exc:
        return _unreadable(segment, info, exc)
    rows = table.num_rows
    count = ObjectCount(info.key, segment, info.size, rows, 0, 0, digest=digest_of(body), marks=rows)
    return _File(count, None, table)


def _unreadable(segment: str, info: ObjectInfo, exc: Exception) -> _File:
    problem = f"cannot be read as a data file: {exc}".splitlines()[0]
    return _File(ObjectCount(info.key, segment, info.size, 0, 0, 0, problem), None, None)


def _units(table: pa.Table, *, refused: bool) -> pa.Table:
    """Return a data file's units: position, arrival, and which of the three they are."""
    rows = table.num_rows
    zeros, ones = np.zeros(rows, dtype=np.int64), np.ones(rows, dtype=np.int64)
    flags = zeros if refused else table.column("is_duplicate").cast(pa.int64()).to_numpy()
    whole = (
        pc.equal(table.column("code"), RefusalCode.KILLS_WORKER).cast(pa.int64()).to_numpy()
        if refused
        else zeros
    )
    found = pa.table(
        {
            "sequence_number": table.column("sequence_number").cast(pa.string()),
            "subsequence_number": table.column("subsequence_number").cast(pa.int64()),
            "arrived_us": table.column("ingested_time").cast(pa.int64()),
            "archived": pa.array(zeros if refused else ones - flags, pa.int64()),
            "duplicates": pa.array(flags, pa.int64()),
            "quarantined": pa.array(ones if refused else zeros, pa.int64()),
            "whole": pa.array(whole, pa.int64()),
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
            whole=bool(row["whole_sum"]),
        )
        for row in grouped.to_pylist()
    }
