"""Reading data files back, as any reader of the archive would."""

from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

DATA_PREFIXES = ("events/", "late/", "quarantine/")
_ROW_COLUMNS = [
    "tenant_id",
    "entity_id",
    "event_id",
    "source",
    "event_time",
    "ingested_time",
    "is_duplicate",
    "shard_id",
    "sequence_number",
    "subsequence_number",
    "data_json",
]
_REFUSED_COLUMNS = [
    "tenant_id",
    "event_type",
    "code",
    "ingested_time",
    "partition_key",
    "sequence_number",
    "subsequence_number",
    "raw",
]


class Place(NamedTuple):
    """Where a unit came from: the short form of the lineage and the position."""

    lineage: str
    sequence_number: str
    subsequence_number: int


class StoredRow(NamedTuple):
    """One row of a data file."""

    place: Place
    tenant_id: str
    event_id: str
    event_type: str
    day: str
    data: str
    arrived_us: int
    is_duplicate: bool


class StoredRefusal(NamedTuple):
    """One row of a quarantine file."""

    place: Place
    code: str
    raw: bytes
    partition_key: str
    arrived_us: int


class StoredFile(NamedTuple):
    """One data file, read once: its units, and all it holds as plain rows."""

    rows: list[StoredRow]
    refusals: list[StoredRefusal]
    plain: list[dict[str, Any]]


def is_data(key: str) -> bool:
    """True for keys that readers see."""
    return key.startswith(DATA_PREFIXES)


def read_file(key: str, body: bytes) -> StoredFile:
    """Return the rows of a data or quarantine file."""
    file = pq.ParquetFile(pa.BufferReader(body))
    lineage = key.rpartition("/")[2].rpartition("-")[0]
    refused = key.startswith("quarantine/")
    table = file.read(columns=_REFUSED_COLUMNS if refused else _ROW_COLUMNS, use_threads=False)
    plain = table.to_pylist()
    arrived = table.column("ingested_time").cast(pa.int64()).to_pylist()
    places = [Place(lineage, one["sequence_number"], one["subsequence_number"]) for one in plain]
    found = list(zip(places, plain, arrived, strict=True))
    if refused:
        refusals = [
            StoredRefusal(place, one["code"], one["raw"], one["partition_key"], at)
            for place, one, at in found
        ]
        return StoredFile([], refusals, plain)
    kind = key.split("/")[1].removeprefix("event_type=")
    rows = [
        StoredRow(
            place,
            one["tenant_id"],
            one["event_id"],
            kind,
            one["event_time"].date().isoformat(),
            one["data_json"],
            at,
            one["is_duplicate"],
        )
        for place, one, at in found
    ]
    return StoredFile(rows, [], plain)
