"""The audit of redrives: each mark has its row in quarantine, each row one mark at most, and the bytes are the same.

Damage to a file itself is named elsewhere, by its digest; here the files are held against each other.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import pyarrow as pa

from pipeline.core.audit import Difference, RecordCount
from pipeline.core.errors import HeadraceError
from pipeline.core.keys import QUARANTINE, REDRIVEN
from pipeline.core.redriven import (
    Mark,
    RefusedPlace,
    RefusedUnit,
    read_marks,
    read_redriven,
    read_refused,
    refused_units,
)
from pipeline.flows.audit_files import split_segment
from pipeline.ports.objects import ObjectInfo

_GZIP = b"\x1f\x8b"  # bytes that are compressed do not hold those of an event
_KEPT_FILES = 4  # of quarantine, decoded: marks lie in their order, file after file
Record = tuple[str, str]  # lineage and sequence number


@dataclass
class RedrivenReport:
    """What disagrees, and how many rows of quarantine are marked, by lineage and record."""

    differences: list[Difference] = field(default_factory=list)
    marked: Counter[Record] = field(default_factory=Counter)


@dataclass
class _Segment:
    """What one segment of a redrive holds."""

    name: str
    source: str
    own: str
    marks: list[Mark] = field(default_factory=list)
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=lambda: defaultdict(list))  # by record


def rejoined(
    records: Mapping[Record, RecordCount], redrives: Mapping[str, str], marked: Mapping[Record, int]
) -> dict[Record, RecordCount]:
    """Return the records with what was redriven put back into the record it came in.

    Args:
        records: as their own segments hold them.
        redrives: short form of each redrive lineage -> of the one whose refused units it takes in.
        marked: rows of quarantine that went through again, which count no more.
    """
    found: dict[Record, RecordCount] = {}
    for (lineage, sequence), one in records.items():
        key, gone = (redrives.get(lineage, lineage), sequence), marked.get((lineage, sequence), 0)
        before = found.get(key, RecordCount(0, 0, 0, 0, one.arrived_us))
        found[key] = RecordCount(
            before.archived + one.archived,
            before.duplicates + one.duplicates,
            before.quarantined + one.quarantined - gone,
            before.distinct + one.distinct - gone,
            min(before.arrived_us, one.arrived_us),
            whole=before.whole or (one.whole and not gone),  # what was redriven was taken apart
        )
    return found


def audit_redriven(
    redrives: Mapping[str, str],
    listed: Mapping[str, Sequence[ObjectInfo]],
    fetch: Callable[[ObjectInfo], bytes],
) -> RedrivenReport:
    """Hold the segments of redrives against the quarantine.

    Args:
        redrives: short form of each redrive lineage -> of the one whose refused units it takes in.
        listed: the data objects by segment.
        fetch: returns an object's bytes.
    """
    report, seen = RedrivenReport(), set[RefusedPlace]()
    there = {info.key: info for infos in listed.values() for info in infos}

    @lru_cache(maxsize=_KEPT_FILES)
    def table_of(key: str) -> pa.Table | None:
        try:
            return read_refused(key, fetch(there[key])) if key in there else None
        except HeadraceError:
            return None  # the file is named for it

    for name in sorted(listed):
        own = split_segment(name)[0]
        if own in redrives:
            found = _read(_Segment(name, redrives[own], own), listed[name], fetch)
            units = {one.place: _unit(one, found, table_of) for one in found.marks}
            report.differences += _check_marks(found, units, seen, report.marked)
            report.differences += _check_places(found)
            report.differences += _check_bytes(found, units)
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


def _unit(mark: Mark, segment: _Segment, table_of: Callable[[str], pa.Table | None]) -> RefusedUnit | None:
    """Return the unit that a mark names; None where quarantine has no such unit of this shard."""
    place, table = mark.place, table_of(mark.place.key)
    writer = split_segment(place.key.rsplit("/", 1)[-1].removesuffix(".parquet"))[0]
    if table is None or not 0 <= place.row < table.num_rows or writer not in {segment.source, segment.own}:
        return None
    (unit,) = refused_units(place.key, table, [place.row])
    said = (mark.code, mark.arrived_us, mark.shard_id, mark.sequence_number, mark.subsequence_number)
    held = (unit.code, unit.arrived_us, unit.shard_id, unit.sequence_number, unit.subsequence_number)
    return unit if said == held else None


def _check_marks(
    segment: _Segment,
    units: Mapping[RefusedPlace, RefusedUnit | None],
    seen: set[RefusedPlace],
    marked: Counter[Record],
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
            writer = split_segment(mark.place.key.rsplit("/", 1)[-1].removesuffix(".parquet"))[0]
            marked[writer, mark.sequence_number] += 1


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
    whole: dict[str, RefusedUnit] = {}
    single: dict[tuple[str, int], RefusedUnit] = {}
    for mark in segment.marks:
        unit = units[mark.place]
        if unit is not None and mark.units == 1:
            single[mark.sequence_number, mark.subsequence_number] = unit
        elif unit is not None:
            whole[mark.sequence_number] = unit
    for sequence, rows in segment.rows.items():
        for row in rows:
            unit = single.get((sequence, row["subsequence_number"])) or whole.get(sequence)
            if unit is not None and not _agrees(row, unit):
                subject = f"{unit.place.key} row {unit.place.row}"
                message = f"segment {segment.name} archived it with other bytes than were refused"
                yield Difference("redriven_altered", subject, message)


def _agrees(row: Mapping[str, Any], unit: RefusedUnit) -> bool:
    """True when a row is one of a refused unit, as far as its bytes show."""
    if "data_json" not in row:  # refused anew
        return True
    names = all(
        getattr(unit, name) is None or getattr(unit, name) == row[name] for name in ("tenant_id", "event_id")
    )
    return names and (row["data_json"].encode() in unit.raw or _GZIP in unit.raw)
