"""What was refused: in committed segments only, out of files whose bytes are those that were written.

A unit is named by its arrival day, its segment and its row: `2013-07-04/0001-12/3`.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import NamedTuple, TypeVar

import pyarrow as pa

from pipeline.core.days import day_of
from pipeline.core.errors import ConfigProblem, NotFound
from pipeline.core.keys import QUARANTINE_TABLE, Partition, data_key, data_place, data_segment, manifest_place
from pipeline.core.manifest import DataFile
from pipeline.core.redriven import (
    QUARANTINED,
    Mark,
    RefusedPlace,
    RefusedUnit,
    Wanted,
    is_tier,
    read_refused,
    refused_units,
)
from pipeline.core.segment import settled
from pipeline.facts import FactSink
from pipeline.flows.marks import Marks, verified
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.ledger import Ledger
from pipeline.ports.manifest import Manifest
from pipeline.ports.objects import Objects

T = TypeVar("T")
_GROUPED = ("code", "event_type", "tenant_id")
_NAME = re.compile(r"(\d{4}-\d\d-\d\d)/(\w{1,16})-(\d{1,12})/(\d{1,9})", re.ASCII)


@dataclass(frozen=True)
class QuarantinePorts:
    """What reading the quarantine needs; `progress` is told of files that were read, and how many."""

    ledger: Ledger
    manifest: Manifest
    objects: Objects
    clock: Clock
    facts: FactSink
    progress: Callable[[int], None]

    def call(self, name: str, call: Callable[[], T]) -> T:
        """Call a port, again where that helps."""
        return again(name, call, clock=self.clock, facts=self.facts)


class Group(NamedTuple):
    """What refused units are counted by; None where a unit named no type or tenant."""

    dt: str
    code: str
    event_type: str | None
    tenant_id: str | None


@dataclass
class Tally:
    """Refused units of a group: how many, how many of them were redriven, first and last arrival."""

    units: int
    redriven: int
    first_us: int
    last_us: int


def tally(wanted: Wanted, ports: QuarantinePorts) -> dict[Group, Tally]:
    """Count refused units by day of arrival, code, type and tenant."""
    found: dict[Group, Tally] = {}
    files, marks = _gather(wanted, ports)
    for entry in files:
        columns = [*_GROUPED, "ingested_time"]
        table = read_refused(entry.key, read(entry, ports), columns)
        rows = wanted.rows(table)
        marked = [RefusedPlace(entry.key, row) in marks.of(_day(entry)) for row in rows]
        for group, one in _grouped(entry, table.take(pa.array(rows, pa.int64())), marked):
            before = found.get(group)
            found[group] = one if before is None else _added(before, one)
    return found


def _grouped(entry: DataFile, table: pa.Table, marked: list[bool]) -> Iterator[tuple[Group, Tally]]:
    at = table.column("ingested_time").cast(pa.int64())
    table = table.select(_GROUPED).append_column("at", at)
    table = table.append_column("redriven", pa.array(marked, pa.bool_()).cast(pa.int64()))
    sums = [("at", "count"), ("redriven", "sum"), ("at", "min"), ("at", "max")]
    dt = _day(entry)
    for row in table.group_by(list(_GROUPED)).aggregate(sums).to_pylist():
        group = Group(dt, row["code"], row["event_type"], row["tenant_id"])
        yield group, Tally(row["at_count"], row["redriven_sum"], row["at_min"], row["at_max"])


def _added(one: Tally, other: Tally) -> Tally:
    return Tally(
        one.units + other.units,
        one.redriven + other.redriven,
        min(one.first_us, other.first_us),
        max(one.last_us, other.last_us),
    )


def refused(wanted: Wanted, ports: QuarantinePorts) -> Iterator[tuple[RefusedUnit, Mark | None]]:
    """Yield refused units by day, lineage and position, each with its mark once it was redriven."""
    files, marks = _gather(wanted, ports)
    for entry in files:
        for unit in units_in(entry, wanted, ports):
            yield unit, marks.of(_day(entry)).get(unit.place)


def refused_at(place: RefusedPlace, ports: QuarantinePorts) -> tuple[RefusedUnit, Mark | None]:
    """Return the unit at a place of quarantine.

    Raises:
        NotFound: there is none, or its segment is not committed.
    """
    found = manifest_place(place.key)
    entries = ports.call("manifest", lambda: ports.manifest.files(found[0])) if found else []
    entry = next((one for one in entries if one.key == place.key), None)
    if entry is None or place.row >= entry.rows or not committed([entry], settled_of(ports)):
        raise NotFound(f"no unit {unit_name(place)} in quarantine: `headrace quarantine show` names them")
    table = read_refused(entry.key, read(entry, ports))
    (unit,) = refused_units(entry.key, table, [place.row])
    return unit, marks_from(ports).take(_day(entry), entries).get(place)


def unit_name(place: RefusedPlace) -> str:
    """Return the name of a refused unit, as people write it."""
    found, segment = data_place(place.key), data_segment(place.key)
    if found is None or segment is None:
        return f"{place.key}/{place.row}"
    return f"{found.dt}/{segment.lineage}-{segment.ordinal}/{place.row}"


def parse_unit(field: str, text: str) -> RefusedPlace:
    """Return the place of a named unit; `field` is where it was given, for the message.

    Raises:
        ConfigProblem: it is no such name.
    """
    found = _NAME.fullmatch(text)
    if found is None:
        raise ConfigProblem(
            f"{field} {text!r}: give it as `headrace quarantine show` does, like 2013-07-04/0001-12/3"
        )
    dt, lineage, ordinal, row = found.groups()
    return RefusedPlace(
        data_key(Partition(QUARANTINED, QUARANTINE_TABLE, dt), lineage, int(ordinal)), int(row)
    )


def _gather(wanted: Wanted, ports: QuarantinePorts) -> tuple[list[DataFile], Marks]:
    """Return the quarantine files that may hold wanted units, and the marks of their days."""
    settled_at = settled_of(ports)  # before the manifest: what is committed is in it
    entries = entries_of(wanted, ports)
    marks, found = marks_from(ports), committed(entries, settled_at)
    for dt, files in groupby(found, _day):
        marks.take(dt, files)
    return [one for one in found if is_tier(one, QUARANTINED)], marks


def _day(entry: DataFile) -> str:
    return entry.partition.partition("#")[2]


def settled_of(ports: QuarantinePorts) -> dict[str, int]:
    """Return the newest committed ordinal of each lineage."""
    ledger = ports.ledger
    found = {}
    for one in ports.call("lineages", ledger.lineages):
        opening = ports.call("open", partial(ledger.open, one.short))
        found[one.short] = settled(opening.newest)
    return found


def entries_of(wanted: Wanted, ports: QuarantinePorts) -> list[DataFile]:
    """Return the files of the days that may hold wanted units, marks among them: by day, lineage and ordinal."""
    names = wanted.partitions(ports.call("partitions", ports.manifest.partitions))
    entries = ports.call("manifest", partial(ports.manifest.files, *names))
    return sorted(entries, key=lambda one: (one.partition, *one.segment, one.name))


def committed(entries: Iterable[DataFile], settled_at: dict[str, int]) -> list[DataFile]:
    """Return the files of committed segments."""
    return [one for one in entries if one.segment.ordinal <= settled_at.get(one.segment.lineage, 0)]


def units_in(entry: DataFile, wanted: Wanted, ports: QuarantinePorts) -> list[RefusedUnit]:
    """Return the wanted units of a quarantine file, whole."""
    table = read_refused(entry.key, read(entry, ports))
    return list(refused_units(entry.key, table, wanted.rows(table)))


def read(entry: DataFile, ports: QuarantinePorts) -> bytes:
    """Return a file's bytes.

    Raises:
        Corrupt: it is gone, or not what was written.
    """
    body = verified(entry, lambda one: ports.call("object", lambda: ports.objects.get(one.key)))
    ports.progress(1)
    return body


def marks_from(ports: QuarantinePorts) -> Marks:
    """Return the marks there are, read as they are asked for."""
    return Marks(
        lambda partition: ports.call("manifest", lambda: ports.manifest.files(partition)),
        lambda entry: read(entry, ports),
    )


def days_of(units: Iterable[RefusedUnit]) -> list[str]:
    """Return the arrival days of units."""
    return sorted({day_of(one.arrived_us) for one in units})
