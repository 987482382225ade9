"""From decoded rows to data files: sort once, build columns once per type, slice per partition, write Parquet.

Rows inside a file are sorted by (tenant_id, entity_id, event_time, position), so an entity is one run of rows.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.core.chunks import Chunk
from pipeline.core.columns import MICROS, envelope_schema, quarantine_schema
from pipeline.core.days import DAY_US, day_of
from pipeline.core.event import Record, Refusal
from pipeline.core.filed import I64, Filed, FileRange, Flags, Words, in_codes, runs, tenant_rows
from pipeline.core.keys import QUARANTINE_TABLE, Partition, SegmentRef, data_key
from pipeline.core.manifest import DataFile, file_name, partition_name
from pipeline.core.segment import Lineage, SealState
from pipeline.core.staging import digest_of

ROW_GROUP_ROWS = 65_536
_BLOOM_FLOOR = 64  # a filter is sized for at least this many values


@dataclass(frozen=True)
class Place:
    """Where the rows of an open segment belong."""

    lineage: Lineage
    ordinal: int
    seal: SealState

    @property
    def writer(self) -> str:
        """Return `<lineage>#<ordinal>`, as manifest and index name a segment."""
        return self.segment.writer

    @property
    def segment(self) -> SegmentRef:
        """Return the segment that the rows belong to."""
        return SegmentRef(self.lineage.short, self.ordinal)


@dataclass(frozen=True)
class EncodedRows:
    """The data files of a segment in key order, and their rows as integers, type by type."""

    files: list[tuple[DataFile, bytes]]
    filed: list[Filed]
    words: Words


def encode_rows(
    chunks: Sequence[Chunk], duplicate: Flags, records: Sequence[Record], place: Place
) -> EncodedRows:
    """Return the data files of a segment, and what index and aggregates are made from.

    Args:
        chunks: accepted rows, in stream order; aligned with `duplicate`.
        duplicate: which rows repeat an id of the window.
        records: the segment's records; the chunks' column `record` indexes them.
        place: lineage, ordinal and seal state.
    """
    if not chunks:
        return EncodedRows([], [], Words([], [], []))
    common = pa.concat_tables([chunk.common for chunk in chunks]).combine_chunks()
    rows, words = in_codes(common, duplicate)
    days = _filing_days(rows.times, place.seal)
    files: list[tuple[DataFile, bytes]] = []
    filed: list[Filed] = []
    for event_type in sorted({name for chunk in chunks for name in chunk.typed}):
        members, typed = _of_type(chunks, event_type)
        order = np.lexsort([key[members] for key in (rows.times, rows.entities, rows.tenants, days)])
        chosen = members[order]
        table = _envelope(common.take(pa.array(chosen)), duplicate[chosen], records, place.lineage)
        columns = typed.take(pa.array(order))
        for name in columns.column_names:
            table = table.append_column(name, columns.column(name))
        held, parts = rows.take(chosen), runs(days[chosen])
        written = [
            _data_file(
                table.slice(first, last - first), event_type, held.take(slice(first, last)), words, place
            )
            for first, last in parts
        ]
        files += written
        ranges = [_range(entry, part) for (entry, _), part in zip(written, parts, strict=True)]
        filed.append(replace(held, event_type=event_type, files=tuple(ranges)))
    return EncodedRows(sorted(files, key=lambda one: one[0].key), filed, words)


def _range(entry: DataFile, rows: tuple[int, int]) -> FileRange:
    return FileRange(entry.name.split("#", 1)[0], entry.partition.rsplit("#", 1)[1], *rows)


def _filing_days(times: I64, seal: SealState) -> I64:
    """Return the day each row is filed under, as a number; all sealed days are one: the late tier has one file."""
    days = times // DAY_US
    late = [day for day in np.unique(days).tolist() if seal.is_late(day_of(day * DAY_US))]
    return np.where(np.isin(days, late), np.iinfo(np.int64).min, days)


def _of_type(chunks: Sequence[Chunk], event_type: str) -> tuple[I64, pa.Table]:
    """Return which rows of the segment are of a type, and their typed columns, in stream order."""
    rows, tables, first = [], [], 0
    for chunk in chunks:
        found = chunk.typed.get(event_type)
        if found is not None:
            rows.append(found.rows.to_numpy() + first)
            tables.append(found.columns)
        first += chunk.common.num_rows
    return np.concatenate(rows), pa.concat_tables(tables).combine_chunks()


def encode_refusals(
    refusals: Sequence[Refusal], records: Sequence[Record], place: Place
) -> list[tuple[DataFile, bytes]]:
    """Return the quarantine files of a segment: one per arrival day, raw bytes kept."""
    by_day: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by_day.setdefault(day_of(records[refusal.record].arrived_us), []).append(refusal)
    return [_quarantine_file(dt, found, records, place) for dt, found in sorted(by_day.items())]


def _envelope(common: pa.Table, duplicate: Flags, records: Sequence[Record], lineage: Lineage) -> pa.Table:
    """Return the envelope columns of some rows, in the order every data file has them."""
    at = common.column("record").combine_chunks()
    arrived = pa.array([record.arrived_us for record in records], pa.int64()).cast(MICROS).take(at)
    sequences = pa.array([record.sequence_number for record in records], pa.string())
    columns = {
        **{name: common.column(name) for name in common.column_names if name != "record"},
        "received_time": pc.coalesce(common.column("received_time"), arrived),
        "ingested_time": arrived,
        "is_duplicate": pa.array(duplicate),
        "shard_id": pa.repeat(pa.scalar(lineage.shard_id), len(at)),
        "sequence_number": sequences.take(at),
    }
    schema = envelope_schema()
    return pa.table([columns[name] for name in schema.names], schema=schema)


def _data_file(
    table: pa.Table, event_type: str, rows: Filed, words: Words, place: Place
) -> tuple[DataFile, bytes]:
    lineage, ordinal, dt = place.lineage.short, place.ordinal, day_of(int(rows.times[0]))
    tenants = tenant_rows(rows, words)
    late = place.seal.is_late(dt)
    tier = "late" if late else "open"
    day = _arrival_day(table) if late else dt
    body = write_parquet(
        table,
        {
            "headrace.event_type": event_type,
            "headrace.dt": day,
            "headrace.lineage": place.lineage.name,
            "headrace.ordinal": str(ordinal),
        },
    )
    entry = DataFile(
        partition=partition_name(event_type, day),
        name=file_name(tier, lineage, ordinal),
        key=data_key(Partition(tier, event_type, day), lineage, ordinal),
        rows=table.num_rows,
        duplicates=sum(one.duplicates for one in tenants),
        bytes=len(body),
        min_event_time_us=int(rows.times.min()),
        max_event_time_us=int(rows.times.max()),
        tenants=tenants,
        digest=digest_of(body),
    )
    return entry, body


def _quarantine_file(
    dt: str, refusals: list[Refusal], records: Sequence[Record], place: Place
) -> tuple[DataFile, bytes]:
    found = [records[refusal.record] for refusal in refusals]
    arrived = [record.arrived_us for record in found]
    lineage, ordinal = place.lineage, place.ordinal
    table = pa.table(
        {
            "code": [str(one.code) for one in refusals],
            "pointer": [one.pointer for one in refusals],
            "message": [one.message for one in refusals],
            "tenant_id": [one.tenant_id for one in refusals],
            "event_type": [one.event_type for one in refusals],
            "event_id": [one.event_id for one in refusals],
            "ingested_time": pa.array(arrived, pa.int64()).cast(MICROS),
            "partition_key": [record.partition_key for record in found],
            "shard_id": [lineage.shard_id] * len(found),
            "sequence_number": [record.sequence_number for record in found],
            "subsequence_number": [one.subsequence_number for one in refusals],
            "raw": [one.raw for one in refusals],
        },
        schema=quarantine_schema(),
    )
    body = write_parquet(table, {"headrace.lineage": lineage.name, "headrace.ordinal": str(ordinal)})
    entry = DataFile(
        partition=partition_name(QUARANTINE_TABLE, dt),
        name=file_name("quarantine", lineage.short, ordinal),
        key=data_key(Partition("quarantine", QUARANTINE_TABLE, dt), lineage.short, ordinal),
        rows=table.num_rows,
        duplicates=0,
        bytes=len(body),
        min_event_time_us=min(arrived),
        max_event_time_us=max(arrived),
        tenants=(),
        digest=digest_of(body),
    )
    return entry, body


def write_parquet(table: pa.Table, metadata: dict[str, str]) -> bytes:
    """Return the Parquet bytes of a data file: zstd, page index, bloom filters on the two ids."""
    table = table.replace_schema_metadata(None)
    names = set(table.column_names)
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    ndv = max(min(table.num_rows, ROW_GROUP_ROWS), _BLOOM_FLOOR)
    bloom = {name: {"ndv": ndv, "fpp": 0.01} for name in ("event_id", "entity_id") if name in names}
    plain = {"event_id", "data_json", "message"}
    buffer = io.BytesIO()
    with pq.ParquetWriter(
        buffer,
        table.schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in strings if name not in plain],
        write_statistics=[name for name in table.column_names if name not in plain - {"event_id"}],
        write_page_index=True,
        store_schema=False,  # which also leaves out the schema's own metadata
        bloom_filter_options=bloom or None,
    ) as writer:
        writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        writer.add_key_value_metadata(metadata)
    return buffer.getvalue()


def _arrival_day(table: pa.Table) -> str:
    first = pc.min(table.column("ingested_time")).as_py()
    return str(first.date())
