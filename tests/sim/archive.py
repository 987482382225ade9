"""Reading data files back, as any reader of the archive would."""

from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

DATA_PREFIXES = ("events/", "late/", "quarantine/")
_ROW_COLUMNS = [
    "tenant_id",
    "event_id",
    "event_time",
    "ingested_time",
    "is_duplicate",
    "shard_id",
    "sequence_number",
    "subsequence_number",
    "data_json",
]
_REFUSED_COLUMNS = ["code", "ingested_time", "partition_key", "sequence_number", "subsequence_number", "raw"]


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


def is_data(key: str) -> bool:
    """True for keys that readers see."""
    return key.startswith(DATA_PREFIXES)


def read_file(key: str, body: bytes) -> list[StoredRow] | list[StoredRefusal]:
    """Return the rows of a data or quarantine file."""
    file = pq.ParquetFile(pa.BufferReader(body))
    lineage = key.rpartition("/")[2].rpartition("-")[0]
    refused = key.startswith("quarantine/")
    table = file.read(columns=_REFUSED_COLUMNS if refused else _ROW_COLUMNS, use_threads=False)
    rows = table.to_pydict()
    places = [
        Place(lineage, number, inner)
        for number, inner in zip(rows["sequence_number"], rows["subsequence_number"], strict=True)
    ]
    arrived = table.column("ingested_time").cast(pa.int64()).to_pylist()
    if refused:
        refusals = zip(places, rows["code"], rows["raw"], rows["partition_key"], arrived, strict=True)
        return [StoredRefusal(*one) for one in refusals]
    count = len(places)
    kinds = [key.split("/")[1].removeprefix("event_type=")] * count
    days = [moment.date().isoformat() for moment in rows["event_time"]]
    found = (places, rows["tenant_id"], rows["event_id"], kinds, days, rows["data_json"], arrived)
    return [StoredRow(*one) for one in zip(*found, rows["is_duplicate"], strict=True)]
