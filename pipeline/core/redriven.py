"""Refused units that go through again: the unit as quarantine holds it, and the mark that says it went.

A quarantine file is never changed. Beside the rows, a redrive's segment writes one file per arrival day of marks, each
naming one row of one quarantine file; a row that is marked is redriven, once, for it is chosen by the marks there are.
"""

import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.apart import NESTED
from pipeline.core.columns import MICROS, quarantine_schema, redriven_schema
from pipeline.core.days import day_of
from pipeline.core.decode import Decoded, Decoder, refused_name
from pipeline.core.encode import Place, write_parquet
from pipeline.core.errors import Corrupt
from pipeline.core.event import Record, RefusalCode
from pipeline.core.keys import QUARANTINE_TABLE, Partition, data_key
from pipeline.core.kpl import is_aggregate
from pipeline.core.manifest import DataFile, file_name, partition_name
from pipeline.core.span import Span
from pipeline.core.staging import digest_of
from pipeline.core.subsequence import user_record

_HELD = ("sequence_number", "subsequence_number", "tenant_id", "event_id", "data_json")
_NOT_TAKEN_APART = frozenset(  # such a unit's bytes are a whole user record
    {
        RefusalCode.BAD_AGGREGATE,
        RefusalCode.BAD_GZIP,
        RefusalCode.TOO_MANY_EVENTS,
        RefusalCode.TOO_MUCH_PACKED,
        RefusalCode.KILLS_WORKER,
    }
)
QUARANTINED, REDRIVEN = "quarantine", "redriven"  # tiers of the manifest's partitions `_quarantine#<dt>`


class RefusedPlace(NamedTuple):
    """One row of one quarantine file."""

    key: str
    row: int


@dataclass(frozen=True)
class RefusedUnit:
    """A refused unit as quarantine holds it; what it says of itself is not to be trusted."""

    place: RefusedPlace
    code: str
    pointer: str
    message: str
    tenant_id: str | None
    event_type: str | None
    event_id: str | None
    arrived_us: int
    partition_key: str
    shard_id: str
    sequence_number: str
    subsequence_number: int
    raw: bytes

    @property
    def record(self) -> Record:
        """Return what has to be judged again, in its old place and of its old arrival.

        What was taken apart once is one event for good: its neighbours have the places that it would come apart into.
        The first unit of a batch has the number of the whole user record, so the number alone does not tell: a code
        does that is given only to what nobody took apart.
        """
        number = self.subsequence_number
        is_event = self.code not in _NOT_TAKEN_APART or user_record(number) != number
        inner = None if self.is_kinesis_record else number
        return Record(self.sequence_number, self.partition_key, self.raw, self.arrived_us, inner, is_event)

    @property
    def is_kinesis_record(self) -> bool:
        """True for an aggregate that was refused before its user records were looked at: there is nothing beside it."""
        first, broken = self.subsequence_number == 0, self.code == RefusalCode.BAD_AGGREGATE
        return first and (
            (broken and self.message != NESTED)
            or (self.code == RefusalCode.KILLS_WORKER and is_aggregate(self.raw))
        )


@dataclass(frozen=True)
class Wanted:
    """Which refused units: None is any; `arrived` is a span of arrival times; not `deadly` leaves kills_worker out."""

    code: str | None = None
    tenant_id: str | None = None
    event_type: str | None = None
    arrived: Span = field(default_factory=Span)
    deadly: bool = True

    def survivable(self) -> "Wanted":
        """Return the same without what kills a process that judges it, unless just that is wanted."""
        return replace(self, deadly=self.code == RefusalCode.KILLS_WORKER)

    def partitions(self, known: Iterable[str]) -> list[str]:
        """Return those of the manifest's partitions that may hold such units, by day."""
        days = (name.partition("#")[2] for name in known if name.startswith(QUARANTINE_TABLE + "#"))
        chosen = (dt for dt in days if self.arrived.first_dt <= dt <= self.arrived.last_dt)
        return [partition_name(QUARANTINE_TABLE, dt) for dt in sorted(chosen)]

    def rows(self, table: pa.Table) -> list[int]:
        """Return the rows of a quarantine file's table that are wanted."""
        arrived = table.column("ingested_time").cast(pa.int64())
        chosen = pc.and_(
            pc.greater_equal(arrived, self.arrived.from_us), pc.less(arrived, self.arrived.until_us)
        )
        for name in ("code", "tenant_id", "event_type"):
            value = getattr(self, name)
            if value is not None:
                same = pc.equal(table.column(name), refused_name(value))
                chosen = pc.and_(chosen, pc.fill_null(same, fill_value=False))
        if not self.deadly:
            chosen = pc.and_(chosen, pc.not_equal(table.column("code"), RefusalCode.KILLS_WORKER))
        found: list[int] = pc.indices_nonzero(chosen).to_pylist()
        return found


class Mark(NamedTuple):
    """One row of quarantine that went through again: in which segment, when, and as how many units."""

    place: RefusedPlace
    code: str
    arrived_us: int
    shard_id: str
    sequence_number: str
    subsequence_number: int
    units: int
    redriven_as: str
    redriven_us: int


def is_tier(entry: DataFile, tier: str) -> bool:
    """True when the manifest has a file in a tier."""
    return entry.name.startswith(f"{tier}#")


def marks_of(units: Iterable[tuple[RefusedUnit, int]], place: Place, now_us: int) -> list[Mark]:
    """Return the marks of units that a segment takes in; beside each, how many units it became."""
    segment = place.segment.name
    return [
        Mark(
            one.place,
            one.code,
            one.arrived_us,
            one.shard_id,
            one.sequence_number,
            one.subsequence_number,
            count,
            segment,
            now_us,
        )
        for one, count in units
    ]


def encode_marks(marks: Iterable[Mark], place: Place) -> list[tuple[DataFile, bytes]]:
    """Return the files of a segment's marks: one per arrival day."""
    by_day: dict[str, list[Mark]] = {}
    for mark in marks:
        by_day.setdefault(day_of(mark.arrived_us), []).append(mark)
    return [_marks_file(dt, found, place) for dt, found in sorted(by_day.items())]


def _marks_file(dt: str, marks: Sequence[Mark], place: Place) -> tuple[DataFile, bytes]:
    arrived = [one.arrived_us for one in marks]
    columns = {
        "code": [one.code for one in marks],
        "ingested_time": pa.array(arrived, pa.int64()).cast(MICROS),
        "shard_id": [one.shard_id for one in marks],
        "sequence_number": [one.sequence_number for one in marks],
        "subsequence_number": [one.subsequence_number for one in marks],
        "quarantine_file": [one.place.key for one in marks],
        "quarantine_row": [one.place.row for one in marks],
        "units": [one.units for one in marks],
        "redriven_as": [one.redriven_as for one in marks],
        "redriven_time": pa.array([one.redriven_us for one in marks], pa.int64()).cast(MICROS),
    }
    lineage, ordinal = place.lineage, place.ordinal
    metadata = {"headrace.lineage": lineage.name, "headrace.ordinal": str(ordinal)}
    body = write_parquet(pa.table(columns, schema=redriven_schema()), metadata)
    entry = DataFile(
        partition=partition_name(QUARANTINE_TABLE, dt),
        name=file_name(REDRIVEN, lineage.short, ordinal),
        key=data_key(Partition(REDRIVEN, QUARANTINE_TABLE, dt), lineage.short, ordinal),
        rows=len(marks),
        duplicates=0,
        bytes=len(body),
        min_event_time_us=min(arrived),
        max_event_time_us=max(arrived),
        tenants=(),
        digest=digest_of(body),
    )
    return entry, body


def read_marks(body: bytes) -> Iterator[Mark]:
    """Yield the marks of a file.

    Raises:
        pa.ArrowException, LookupError, ValueError: it is no such file.
    """
    table = _plain(pq.ParquetFile(io.BytesIO(body)).read(columns=redriven_schema().names))
    for row in table.to_pylist():
        place = RefusedPlace(row["quarantine_file"], row["quarantine_row"])
        yield Mark(
            place,
            row["code"],
            row["ingested_time"],
            row["shard_id"],
            row["sequence_number"],
            row["subsequence_number"],
            row["units"],
            row["redriven_as"],
            row["redriven_time"],
        )


def read_refused(key: str, body: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """Return a quarantine file's columns, by default all of them.

    Raises:
        Corrupt: it is no quarantine file.
    """
    try:
        return _read(body, columns or quarantine_schema().names)
    except (pa.ArrowException, LookupError, OSError, ValueError) as exc:
        raise Corrupt(f"{key} cannot be read as a quarantine file: run `headrace audit`") from exc


def read_redriven(body: bytes) -> pa.Table:
    """Return what the audit holds against the refused bytes, of a data file of a redrive's segment.

    Raises:
        pa.ArrowException, LookupError, OSError, ValueError: it is no data file.
    """
    return _read(body, _HELD)


def _read(body: bytes, columns: Sequence[str]) -> pa.Table:
    """Return these columns, all of them: what a file lacks is otherwise passed over without a word."""
    return pq.ParquetFile(io.BytesIO(body)).read(columns=list(columns)).select(list(columns))


def refused_units(key: str, table: pa.Table, rows: Sequence[int]) -> Iterator[RefusedUnit]:
    """Yield some rows of a quarantine file."""
    chosen = _plain(table.take(pa.array(rows, pa.int64())))
    for row, one in zip(rows, chosen.to_pylist(), strict=True):
        arrived_us = one.pop("ingested_time")
        yield RefusedUnit(place=RefusedPlace(key, row), arrived_us=arrived_us, **one)


def _plain(table: pa.Table) -> pa.Table:
    """Return times as microseconds since the epoch."""
    for at, column in enumerate(table.schema):
        if pa.types.is_timestamp(column.type):
            table = table.set_column(at, column.name, table.column(at).cast(pa.int64()))
    return table


def judge_again(unit: RefusedUnit, decoder: Decoder) -> tuple[int, str | None]:
    """Return as how many units a refused one goes through today, and None; or 0 and why nothing of it does.

    What was refused whole may come apart into several: it goes through as soon as one of them is accepted, and the
    others are refused anew, each in its own place.
    """
    decoded = Decoded()
    units = decoder.decode([unit.record], 0, decoded)
    if decoded.rows:
        return units, None
    return 0, str(decoded.refusals[0].code) if decoded.refusals else unit.code
