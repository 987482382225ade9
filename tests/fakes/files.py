"""Data files without a loader: tables of events, written as the product writes them, put into ports in memory."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import pyarrow as pa

from pipeline.core.columns import arrow_type, envelope_schema, quarantine_schema
from pipeline.core.encode import write_parquet
from pipeline.core.keys import QUARANTINE_TABLE, Partition, data_key
from pipeline.core.manifest import DataFile, TenantRows, file_name, partition_name
from pipeline.core.schema import Column, TypeSchema, group_types, parse_schema
from tests.fakes.manifest import MemoryManifest
from tests.fakes.objects import MemoryObjects

LINEAGE = "a1"


class CountingObjects(MemoryObjects):
    """A bucket that notes which keys were read, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[str] = []

    def get(self, key: str) -> bytes:
        """Return an object's bytes."""
        self.gets.append(key)
        return super().get(key)

    def list(self, prefix: str) -> Any:
        """List what was staged for one segment; nothing else: a query never lists the bucket."""
        if prefix.startswith("staging/"):
            return super().list(prefix)
        raise AssertionError(f"the bucket was listed: {prefix}")


class Archive:
    """Objects and manifest, filled file by file."""

    def __init__(self) -> None:
        self.objects = CountingObjects()
        self.manifest = MemoryManifest()

    def add(
        self,
        event_type: str,
        dt: str,
        ordinal: int,
        rows: Sequence[Mapping[str, Any]],
        columns: Sequence[Column],
    ) -> DataFile:
        """Write one file of the open tier: envelope columns have defaults, the rest are the type's own."""
        typed = [pa.field(column.name, arrow_type(column.type)) for column in columns]
        schema = pa.schema([*envelope_schema(), *typed])
        full = [{**_envelope(dt, ordinal, number), **row} for number, row in enumerate(rows)]
        body = write_parquet(pa.Table.from_pylist(full, schema), {"headrace.event_type": event_type})
        return self._put(Partition("open", event_type, dt), ordinal, body, full)

    def refuse(self, dt: str, ordinal: int, rows: Sequence[Mapping[str, Any]]) -> DataFile:
        """Write one quarantine file."""
        arrived = datetime.fromisoformat(dt).replace(tzinfo=UTC)
        full = [
            {
                "code": "bad_envelope",
                "pointer": "/entity_id",
                "message": "is missing",
                "ingested_time": arrived,
                "partition_key": "p",
                "shard_id": "shard-0",
                "sequence_number": str(number),
                "subsequence_number": 0,
                "raw": b"{}",
                **row,
            }
            for number, row in enumerate(rows)
        ]
        body = write_parquet(pa.Table.from_pylist(full, quarantine_schema()), {})
        return self._put(Partition("quarantine", QUARANTINE_TABLE, dt), ordinal, body, full)

    def _put(
        self, place: Partition, ordinal: int, body: bytes, rows: Sequence[Mapping[str, Any]]
    ) -> DataFile:
        entry = DataFile(
            partition=partition_name(place.event_type, place.dt),
            name=file_name(place.tier, LINEAGE, ordinal),
            key=data_key(place, LINEAGE, ordinal),
            rows=len(rows),
            duplicates=sum(bool(row.get("is_duplicate")) for row in rows),
            bytes=len(body),
            min_event_time_us=0,
            max_event_time_us=0,
            tenants=_tenant_rows(rows),
        )
        self.objects.put_if_absent(entry.key, body, "")
        self.manifest.put_all([entry])
        return entry


def _tenant_rows(rows: Sequence[Mapping[str, Any]]) -> tuple[TenantRows, ...]:
    """Return the runs of a tenant; rows are in the order of the file."""
    found: list[TenantRows] = []
    for name, group in groupby(enumerate(rows), key=lambda one: str(one[1].get("tenant_id"))):
        held = list(group)
        found.append(
            TenantRows(name, held[0][0], len(held), sum(bool(row.get("is_duplicate")) for _, row in held))
        )
    return tuple(found)


def types_of(documents: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, TypeSchema]:
    """Return types from the properties of each (event type, version)."""
    return group_types(
        [
            parse_schema(name, version, {"type": "object", "properties": dict(properties)})
            for (name, version), properties in documents.items()
        ]
    )


def _envelope(dt: str, ordinal: int, number: int) -> dict[str, Any]:
    moment = datetime.fromisoformat(dt).replace(tzinfo=UTC)
    return {
        "event_id": f"{dt}-{ordinal}-{number}",
        "tenant_id": "acme",
        "entity_id": f"entity-{number}",
        "schema_version": 1,
        "source": "test",
        "event_time": moment,
        "received_time": moment,
        "ingested_time": moment,
        "correlation_id": None,
        "is_duplicate": False,
        "shard_id": "shard-0",
        "sequence_number": str(number),
        "subsequence_number": 0,
        "data_json": "{}",
    }
