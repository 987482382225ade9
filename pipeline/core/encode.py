"""From decoded rows to data files: sort once, build columns once per type, slice per partition, write Parquet.

Rows inside a file are sorted by (tenant_id, entity_id, event_time, position), so an entity is one run of rows.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from msgspec import UNSET

from pipeline.core.days import DAY_US, day_of
from pipeline.core.columns import envelope_schema, quarantine_schema, typed_array
from pipeline.core.decode import Decoded
from pipeline.core.event import Record, Refusal, Row
from pipeline.core.keys import QUARANTINE_TABLE, Partition, data_key
from pipeline.core.manifest import DataFile, file_name, partition_name
from pipeline.core.schema import Column, TypeSchema
from pipeline.core.segment import Lineage, SealState
from pipeline.core.window import Flags

I64 = npt.NDArray[np.int64]
ROW_GROUP_ROWS = 65_536
_DICTIONARY = ["tenant_id", "entity_id", "source", "shard_id", "sequence_number", "correlation_id"]
_BLOOM_FLOOR = 64  # a filter is sized for at least this many values


@dataclass(frozen=True)
class Place:
    """Where the rows of an open segment belong."""

    lineage: Lineage
    ordinal: int
    seal: SealState


def encode_rows(
    decoded: Decoded, duplicate: Flags, records: Sequence[Record], types: dict[str, TypeSchema], place: Place
) -> list[tuple[DataFile, bytes]]:
    """Return the data files of a segment, in key order.

    Args:
        decoded: accepted rows, in stream order; aligned with `duplicate`.
        duplicate: which rows repeat an id of the window.
        records: the segment's records; `Row.record` indexes them.
        types: the schemas the rows were judged by.
        place: lineage, ordinal and seal state.
    """
    rows = decoded.rows
    if not rows:
        return []
    common = _common(rows, duplicate, records, place.lineage)
    times = common.column("event_time").cast(pa.int64()).to_numpy()
    names = pa.array([row.envelope.event_type for row in rows]).dictionary_encode()
    days = times // DAY_US
    kinds = _ranks(names)
    order = np.lexsort(
        (times, _ranks(_codes(common, "entity_id")), _ranks(_codes(common, "tenant_id")), days, kinds)
    )
    files: list[tuple[DataFile, bytes]] = []
    for start, end in _runs(kinds[order]):
        chosen = order[start:end]
        event_type = rows[chosen[0]].envelope.event_type
        table = _type_table(common, rows, chosen, types[event_type].columns)
        for first, last in _runs(days[chosen]):
            part = table.slice(first, last - first)
            dt = day_of(int(times[chosen[first]]))
            files.append(_data_file(part, event_type, dt, times[chosen[first:last]], place))
    return sorted(files, key=lambda one: one[0].key)


def partitions_of(rows: Sequence[Row]) -> set[tuple[str, int]]:
    """Return the (type, day number) pairs that rows touch: one data file each."""
    return {(row.envelope.event_type, row.envelope.event_time.toordinal()) for row in rows}


def encode_refusals(
    refusals: Sequence[Refusal], records: Sequence[Record], place: Place
) -> list[tuple[DataFile, bytes]]:
    """Return the quarantine files of a segment: one per arrival day, raw bytes kept."""
    by_day: dict[str, list[Refusal]] = {}
    for refusal in refusals:
        by_day.setdefault(day_of(records[refusal.record].arrived_us), []).append(refusal)
    return [_quarantine_file(dt, found, records, place) for dt, found in sorted(by_day.items())]


def _common(rows: Sequence[Row], duplicate: Flags, records: Sequence[Record], lineage: Lineage) -> pa.Table:
    """Return the envelope columns of all rows, in stream order."""
    envelopes = [row.envelope for row in rows]
    at = pa.array([row.record for row in rows], pa.int32())
    micros = pa.timestamp("us", tz="UTC")
    arrived = pa.array([record.arrived_us for record in records], pa.int64()).cast(micros).take(at)
    received = pa.array([None if e.received_time is UNSET else e.received_time for e in envelopes], micros)
    related = [None if e.correlation_id is UNSET else e.correlation_id for e in envelopes]
    columns = {
        "event_id": pa.array([e.event_id for e in envelopes], pa.string()),
        "tenant_id": pa.array([e.tenant_id for e in envelopes], pa.string()),
        "entity_id": pa.array([e.entity_id for e in envelopes], pa.string()),
        "schema_version": pa.array([e.schema_version for e in envelopes], pa.int32()),
        "source": pa.array([e.source for e in envelopes], pa.string()),
        "event_time": pa.array([e.event_time for e in envelopes], micros),
        "received_time": received if received.null_count == 0 else pa.compute.coalesce(received, arrived),
        "ingested_time": arrived,
        "correlation_id": pa.array(related, pa.string()),
        "is_duplicate": pa.array(duplicate),
        "shard_id": pa.repeat(pa.scalar(lineage.shard_id), len(rows)),
        "sequence_number": pa.array([record.sequence_number for record in records], pa.string()).take(at),
        "subsequence_number": pa.array([row.subsequence_number for row in rows], pa.int64()),
        "data_json": pa.array([row.raw for row in rows], pa.binary()).cast(pa.string()),
    }
    return pa.table(columns, schema=envelope_schema())


def _type_table(common: pa.Table, rows: Sequence[Row], chosen: I64, columns: tuple[Column, ...]) -> pa.Table:
    data = [rows[index].data for index in chosen]
    table = common.take(pa.array(chosen))
    for column in columns:
        table = table.append_column(column.name, typed_array(column, data))
    return table


def _data_file(table: pa.Table, event_type: str, dt: str, times: I64, place: Place) -> tuple[DataFile, bytes]:
    lineage, ordinal = place.lineage.short, place.ordinal
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
        duplicates=int(pa.compute.sum(table.column("is_duplicate")).as_py()),
        bytes=len(body),
        min_event_time_us=int(times.min()),
        max_event_time_us=int(times.max()),
        tenants=tuple(sorted(pa.compute.unique(table.column("tenant_id")).to_pylist())),
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
            "ingested_time": pa.array(arrived, pa.int64()).cast(pa.timestamp("us", tz="UTC")),
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
    )
    return entry, body


def write_parquet(table: pa.Table, metadata: dict[str, str]) -> bytes:
    """Return the Parquet bytes of a data file: zstd, page index, bloom filters on the two ids."""
    table = table.replace_schema_metadata(metadata)
    names = set(table.column_names)
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    ndv = max(min(table.num_rows, ROW_GROUP_ROWS), _BLOOM_FLOOR)
    bloom = {name: {"ndv": ndv, "fpp": 0.01} for name in ("event_id", "entity_id") if name in names}
    plain = {"event_id", "data_json", "message"}
    buffer = io.BytesIO()
    pq.write_table(
        table,
        buffer,
        row_group_size=ROW_GROUP_ROWS,
        compression="zstd",
        compression_level=1,
        use_dictionary=[name for name in strings if name not in plain],
        write_statistics=[name for name in table.column_names if name not in plain - {"event_id"}],
        write_page_index=True,
        store_schema=False,
        bloom_filter_options=bloom or None,
    )
    return buffer.getvalue()


def _codes(table: pa.Table, name: str) -> pa.DictionaryArray:
    return table.column(name).combine_chunks().dictionary_encode()


def _ranks(codes: pa.DictionaryArray) -> I64:
    """Return for each value its rank among the sorted distinct values: strings become comparable integers."""
    words = codes.dictionary.to_pylist()
    ranks = np.empty(len(words), dtype=np.int64)
    ranks[sorted(range(len(words)), key=words.__getitem__)] = np.arange(len(words))
    return ranks[codes.indices.to_numpy()]


def _runs(values: I64) -> list[tuple[int, int]]:
    """Return [start, end) of each run of equal values."""
    edges = [0, *(np.flatnonzero(np.diff(values)) + 1).tolist(), len(values)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _arrival_day(table: pa.Table) -> str:
    first = pa.compute.min(table.column("ingested_time")).as_py()
    return str(first.date())
