"""The audit of redrives: each mark has its row in quarantine, each row one mark at most, and the bytes are the same.

Damage to a file itself is named elsewhere, by its digest; here the files are held against each other.
"""

import io
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.apart import GZIP
from pipeline.core.audit import Difference, RecordCount
from pipeline.core.errors import HeadraceError, InvalidEvent
from pipeline.core.keys import QUARANTINE, REDRIVEN, name_in_key
from pipeline.core.kpl import split
from pipeline.core.redriven import (
    Mark,
    RefusedPlace,
    RefusedUnit,
    read_marks,
    read_redriven,
    read_refused,
    refused_units,
)
from pipeline.core.subsequence import user_record
from pipeline.flows.audit_files import split_segment
from pipeline.ports.objects import ObjectInfo

_KEPT_FILES = 4  # of quarantine, decoded: marks lie in their order, file after file
Record = tuple[str, str]  # lineage and sequence number


@dataclass
class RedrivenReport:
    """What disagrees, and what is marked.

    Attributes:
        apart: sequence numbers of records of which a unit came apart, as `came_apart` says.
        marked: how many rows of quarantine are marked, by lineage and record.
        left: the places that redriven units left, of those records only, by the shard's own lineage and record.
    """

    apart: Collection[str] = ()
    differences: list[Difference] = field(default_factory=list)
    marked: Counter[Record] = field(default_factory=Counter)
    left: dict[Record, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))


@dataclass
class _Segment:
    """What one segment of a redrive holds."""

    name: str
    source: str
    own: str
    marks: list[Mark] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))  # by record


def came_apart(
    redrives: Mapping[str, str],
    listed: Mapping[str, Sequence[ObjectInfo]],
    fetch: Callable[[ObjectInfo], bytes],
) -> set[str]:
    """Return the sequence numbers of records of which a redriven unit became several, or none."""
    found: set[str] = set()
    for name, infos in listed.items():
        for info in infos:
            if info.key.startswith(REDRIVEN) and split_segment(name).lineage in redrives:
                try:
                    table = pq.ParquetFile(io.BytesIO(fetch(info))).read(columns=["sequence_number", "units"])
                    several = table.filter(pc.not_equal(table.column("units"), 1))
                    found |= set(several.column("sequence_number").to_pylist())
                except (pa.ArrowException, HeadraceError, LookupError, OSError, TypeError, ValueError):
                    continue  # the file is named for it
    return found


def rejoined(
    records: Mapping[Record, RecordCount],
    redrives: Mapping[str, str],
    report: RedrivenReport,
    places: Mapping[Record, Counter[int]],
) -> dict[Record, RecordCount]:
    """Return the records with what was redriven put back into the record it came in.

    Args:
        records: as their own segments hold them.
        redrives: short form of each redrive lineage -> of the one whose refused units it takes in.
        report: which rows of quarantine went through again: they count no more.
        places: units of the records that came apart by their numbers, as their own segments hold them.
    """
    found: dict[Record, RecordCount] = {}
    for (lineage, sequence), one in records.items():
        key = (redrives.get(lineage, lineage), sequence)
        gone = report.marked.get((lineage, sequence), 0)
        before = found.get(key, RecordCount(0, 0, 0, 0, one.arrived_us))
        found[key] = RecordCount(
            before.archived + one.archived,
            before.duplicates + one.duplicates,
            before.quarantined + one.quarantined - gone,
            before.distinct + one.distinct - gone,
            min(before.arrived_us, one.arrived_us),
            whole=before.whole or (one.whole and not gone),  # what was redriven was taken apart
        )
    for key, distinct in _distinct(redrives, report, places).items():
        found[key] = replace(found[key], distinct=distinct)
    return found


def _distinct(
    redrives: Mapping[str, str], report: RedrivenReport, places: Mapping[Record, Counter[int]]
) -> dict[Record, int]:
    """Return how many places the units of records that came apart have, over the shard and its redrives together.

    One unit in the place of another shows by that: units that came apart got places which nothing else tells.
    """
    together: dict[Record, Counter[int]] = defaultdict(Counter)
    for (lineage, sequence), numbers in places.items():
        together[redrives.get(lineage, lineage), sequence] += numbers
    return {key: len(numbers - report.left[key]) for key, numbers in together.items() if key in report.left}


def audit_redriven(
    redrives: Mapping[str, str],
    listed: Mapping[str, Sequence[ObjectInfo]],
    fetch: Callable[[ObjectInfo], bytes],
    apart: Collection[str],
    progress: Callable[[int], None],
) -> RedrivenReport:
    """Hold the segments of redrives against the quarantine.

    Args:
        redrives: short form of each redrive lineage -> of the one whose refused units it takes in.
        listed: the data objects by segment.
        fetch: returns an object's bytes.
        apart: what `came_apart` said.
        progress: told of redriven units that were looked at, and how many.
    """
    report, seen = RedrivenReport(apart), set[RefusedPlace]()
    there = {info.key: info for infos in listed.values() for info in infos}

    @lru_cache(maxsize=_KEPT_FILES)
    def table_of(key: str) -> pa.Table | None:
        try:
            return read_refused(key, fetch(there[key])) if key in there else None
        except HeadraceError:
            return None  # the file is named for it

    for name in sorted(listed):
        own = split_segment(name).lineage
        if own in redrives:
            found = _read(_Segment(name, redrives[own], own), listed[name], fetch)
            units = _units(found, table_of)
            report.differences += _check_marks(found, units, seen, report)
            report.differences += _check_places(found)
            report.differences += _check_bytes(found, units)
            progress(len(units))
    return report


def _read(segment: _Segment, infos: Iterable[ObjectInfo], fetch: Callable[[ObjectInfo], bytes]) -> _Segment:
    """Read a segment's files; one that cannot be read is named elsewhere, and what it lacks here too."""
    for info in infos:
        try:
            body = fetch(info)
            if info.key.startswith(REDRIVEN):
                segment.marks += read_marks(body)
                continue
            columns = ("sequence_number", "subsequence_number")
            refused = info.key.startswith(QUARANTINE)
            table = read_refused(info.key, body, columns) if refused else read_redriven(body)
        except (pa.ArrowException, HeadraceError, LookupError, OSError, TypeError, ValueError):
            continue
        for row in table.to_pylist():
            segment.rows[row["sequence_number"]].append(row)
    return segment


def _units(
    segment: _Segment, table_of: Callable[[str], pa.Table | None]
) -> dict[RefusedPlace, RefusedUnit | None]:
    """Return the unit that each mark names; None where quarantine has no such unit of this shard."""
    found: dict[RefusedPlace, RefusedUnit | None] = {one.place: None for one in segment.marks}
    files: dict[str, list[Mark]] = defaultdict(list)
    for mark in segment.marks:
        files[mark.place.key].append(mark)
    for key, marks in files.items():
        table = table_of(key)
        if table is None or _writer(key) not in {segment.source, segment.own}:
            continue
        there = [one for one in marks if 0 <= one.place.row < table.num_rows]
        units = refused_units(
            key, table, [one.place.row for one in there]
        )  # all at once: one take of a table is dear
        for mark, unit in zip(there, units, strict=True):
            said = (mark.code, mark.arrived_us, mark.shard_id, mark.sequence_number, mark.subsequence_number)
            held = (unit.code, unit.arrived_us, unit.shard_id, unit.sequence_number, unit.subsequence_number)
            found[mark.place] = unit if said == held else None
    return found


def _writer(key: str) -> str:
    """Return the lineage that wrote a file."""
    return split_segment(name_in_key(key)).lineage


def _check_marks(
    segment: _Segment,
    units: Mapping[RefusedPlace, RefusedUnit | None],
    seen: set[RefusedPlace],
    report: RedrivenReport,
) -> Iterator[Difference]:
    for mark in segment.marks:
        subject = f"{mark.place.key} row {mark.place.row}"
        if units[mark.place] is None:
            message = f"segment {segment.name} says it was redriven; quarantine holds no such unit"
            yield Difference("redriven_stray", subject, message)
        elif mark.place in seen:
            message = f"it was redriven before, and again by segment {segment.name}"
            yield Difference("redriven_twice", subject, message)
        else:
            seen.add(mark.place)
            report.marked[_writer(mark.place.key), mark.sequence_number] += 1
            if mark.sequence_number in report.apart:
                report.left[segment.source, mark.sequence_number][mark.subsequence_number] += 1


def _check_places(segment: _Segment) -> Iterator[Difference]:
    """The units of each record are those that its marks name: one in its own place, or so many of a whole record."""
    named: dict[str, list[Mark]] = defaultdict(list)
    for mark in segment.marks:
        named[mark.sequence_number].append(mark)
    for sequence in sorted(named.keys() | segment.rows.keys()):
        single = Counter(one.subsequence_number for one in named[sequence] if one.units == 1)
        several = sum(one.units for one in named[sequence] if one.units != 1)
        found = Counter(row["subsequence_number"] for row in segment.rows[sequence])
        if single - found or (found - single).total() != several:
            message = (
                f"marks name {single.total() + several} units of this record, the segment holds {found.total()}, "
                "or holds them in other places"
            )
            yield Difference("redriven_unmarked", f"{segment.name} record {sequence}", message)


def _check_bytes(segment: _Segment, units: Mapping[RefusedPlace, RefusedUnit | None]) -> Iterator[Difference]:
    """Each archived row says what the refused bytes said."""
    single: dict[tuple[str, int], RefusedUnit] = {}
    apart: dict[tuple[str, int], tuple[RefusedUnit, bytes]] = {}  # by user record, with its bytes
    for mark in segment.marks:
        unit, place = units[mark.place], (mark.sequence_number, mark.subsequence_number)
        if unit is not None and unit.is_kinesis_record:
            apart |= {(place[0], number): (unit, raw) for number, raw in enumerate(_user_records(unit))}
        elif unit is not None and mark.units == 1:
            single[place] = unit
        elif unit is not None:
            apart[place] = (unit, unit.raw)
    for sequence, rows in segment.rows.items():
        for row in rows:
            number = row["subsequence_number"]
            own = single.get((sequence, number))
            unit, raw = (own, own.raw) if own else apart.get((sequence, user_record(number)), (None, b""))
            if unit is not None and not _agrees(row, unit, raw):
                subject = f"{unit.place.key} row {unit.place.row}"
                message = f"segment {segment.name} archived it with other bytes than were refused"
                yield Difference("redriven_altered", subject, message)


def _user_records(unit: RefusedUnit) -> list[bytes]:
    try:
        return split(unit.raw)
    except InvalidEvent:
        return [unit.raw]  # and none of its rows can agree, unless it is the only one


def _agrees(row: Mapping[str, Any], unit: RefusedUnit, raw: bytes) -> bool:
    """True when a row is one of a refused unit, as far as its bytes show; those of a gzip do not hold its events'."""
    if "data_json" not in row:  # refused anew
        return True
    names = all(
        getattr(unit, name) is None or getattr(unit, name) == row[name] for name in ("tenant_id", "event_id")
    )
    return names and (raw.startswith(GZIP) or row["data_json"].encode() in raw)
