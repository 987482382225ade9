"""Data files: which there are, how they are sorted, and what Parquet says of itself in them."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.decode import Decoder
from pipeline.core.encode import ROW_GROUP_ROWS, Place, encode_refusals, encode_rows
from pipeline.core.event import Record
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.open_segment import OpenSegment
from pipeline.core.rules import Rules, make_rules
from pipeline.core.schema import parse_schema
from pipeline.core.segment import SealState
from pipeline.core.staging import digest_of
from tests.core.kit import ARRIVED_US, DOOR, ENVELOPE, LINEAGE, event, record, rules_for, wire
from tests.golden.compare import matches_golden

RULES = rules_for(DOOR)
DAY_US = 86_400_000_000


def _open(records: Sequence[Record], rules: Rules = RULES) -> OpenSegment:
    opened = OpenSegment(Decoder(rules), rules.schemas)
    for start in range(0, len(records), 3):  # several chunks
        opened.add(records[start : start + 3])
    return opened


def _files(
    opened: OpenSegment, seal: SealState | None = None, flagged: Sequence[int] = ()
) -> list[tuple[DataFile, bytes]]:
    flags = np.isin(np.arange(opened.rows), flagged)
    return encode_rows(opened.chunks, flags, opened.records, Place(LINEAGE, 7, seal or SealState())).files


def _read(body: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(io.BytesIO(body)).to_pylist()
    return found


def _records(*changes: dict[str, Any]) -> list[Record]:
    return [record(wire(event(**{"event_id": f"e{at}", **one})), 100 + at) for at, one in enumerate(changes)]


_ROWS = st.fixed_dictionaries(
    {
        "tenant_id": st.sampled_from(["acme", "globex"]),
        "entity_id": st.sampled_from(["b", "a", "é", "Z", "\U0001f600"]),
        "event_time": st.sampled_from(
            [
                "2024-03-09T23:59:59.999999Z",
                "2024-03-10T00:00:00Z",
                "2024-03-10T01:00:00+02:00",
                "1969-12-31T23:00:00Z",
            ]
        ),
    }
)


@given(st.lists(_ROWS, min_size=1, max_size=12))
@settings(max_examples=40, deadline=None)
def test_sorted_and_split_by_day(rows: list[dict[str, Any]]) -> None:
    """One file per UTC day; inside it by tenant, entity, event time, position - so an entity is one run of rows."""
    files = _files(_open(_records(*rows)))
    seen = []
    for entry, body in files:
        table = _read(body)
        order = [
            (one["tenant_id"], one["entity_id"], one["event_time"], int(one["sequence_number"]))
            for one in table
        ]
        assert order == sorted(order)
        assert {one["event_time"].date().isoformat() for one in table} == {entry.partition.split("#")[1]}
        seen += [one["event_id"] for one in table]
    assert sorted(seen) == sorted(f"e{number}" for number in range(len(rows)))
    assert [entry.key for entry, _ in files] == sorted({entry.key for entry, _ in files})


def test_the_manifest_says_what_the_file_holds() -> None:
    """Entry and file agree: rows, duplicates, bytes, range of times, tenants, names."""
    times = ["2024-03-10T11:00:00Z", "2024-03-10T10:00:00Z", "2024-03-10T10:30:00Z"]
    opened = _open(
        _records(
            *(
                {"event_time": one, "tenant_id": tenant}
                for one, tenant in zip(times, ["globex", "acme", "acme"], strict=True)
            )
        )
    )
    [(entry, body)] = _files(opened, flagged=[1])
    noon_us = ARRIVED_US
    assert entry == DataFile(
        partition="door#2024-03-10",
        name="open#0001#000000000007",
        key="events/event_type=door/dt=2024-03-10/0001-000000000007.parquet",
        rows=3,
        duplicates=1,
        bytes=len(body),
        min_event_time_us=noon_us - 2 * 3_600_000_000,
        max_event_time_us=noon_us - 3_600_000_000,
        tenants=(TenantRows("acme", 0, 2, 1), TenantRows("globex", 2, 1, 0)),
        digest=digest_of(body),
    )
    assert {one["event_id"] for one in _read(body) if one["is_duplicate"]} == {"e1"}


def test_flags_stay_with_their_rows() -> None:
    """Sorting moves a row and its duplicate flag together, over several chunks and types."""
    opened = _open(_records(*({"entity_id": f"d{9 - number}"} for number in range(10))))
    [(_, body)] = _files(opened, flagged=[0, 4, 9])
    assert sorted(one["event_id"] for one in _read(body) if one["is_duplicate"]) == ["e0", "e4", "e9"]


def test_a_sealed_day_goes_to_the_late_tier() -> None:
    """Rows of a day that is sealed are filed under their arrival day in the late tier; newer days stay open."""
    opened = _open(_records({"event_time": "2024-03-08T10:00:00Z"}, {"event_time": "2024-03-09T10:00:00Z"}))
    keys = [(entry.key, entry.name) for entry, _ in _files(opened, SealState(3, "2024-03-08"))]
    assert keys == [
        ("events/event_type=door/dt=2024-03-09/0001-000000000007.parquet", "open#0001#000000000007"),
        ("late/event_type=door/arrival_day=2024-03-10/0001-000000000007.parquet", "late#0001#000000000007"),
    ]


def test_several_sealed_days_make_one_late_file() -> None:
    """Late rows of one type and segment share one key, so they must share one file."""
    opened = _open(_records({"event_time": "2024-03-07T10:00:00Z"}, {"event_time": "2024-03-08T10:00:00Z"}))
    files = _files(opened, SealState(3, "2024-03-08"))
    assert len({entry.key for entry, _ in files}) == len(files)
    assert sum(entry.rows for entry, _ in files) == 2


def test_times_of_arrival() -> None:
    """`ingested_time` is the record's arrival; `received_time` the event's own, or the arrival where it has none."""
    rows = _records({"received_time": "2024-03-10T11:30:00Z"}, {})
    [(_, body)] = _files(_open([rows[0], record(rows[1].data, 101, arrived_us=ARRIVED_US + 5)]))
    found = {
        one["event_id"]: (one["received_time"].isoformat(), one["ingested_time"].isoformat())
        for one in _read(body)
    }
    assert found == {
        "e0": ("2024-03-10T11:30:00+00:00", "2024-03-10T12:00:00+00:00"),
        "e1": ("2024-03-10T12:00:00.000005+00:00", "2024-03-10T12:00:00.000005+00:00"),
    }


def test_versions_share_a_file_with_nulls() -> None:
    """A file has the columns of all versions; a version without a property has null there."""
    second = {
        "type": "object",
        "properties": {
            "n": {"type": "integer"},
            "s": {"type": "object", "properties": {"x": {"type": "integer"}}},
            "l": {"type": "array", "items": {"type": "number"}},
        },
    }
    rules = rules_for(DOOR, second)
    opened = _open(
        _records(
            {}, {"schema_version": 2, "data": {"s": {"x": 4}, "l": [1]}}, {"schema_version": 2, "data": {}}
        ),
        rules,
    )
    [(_, body)] = _files(opened)
    found = {
        one["event_id"]: (one["schema_version"], one["n"], one["label"], one["s"], one["l"])
        for one in _read(body)
    }
    assert found == {
        "e0": (1, 1, None, None, None),
        "e1": (2, None, None, {"x": 4}, [1.0]),
        "e2": (2, None, None, None, None),
    }


def test_types_have_files_of_their_own() -> None:
    """Each type's file has its own typed columns behind the envelope's."""
    schemas = [
        parse_schema("door", 1, DOOR),
        parse_schema("meter", 1, {"type": "object", "properties": {"kwh": {"type": "number"}}}),
    ]
    rules = make_rules(schemas, ["acme"], RULES.limits, ENVELOPE)
    opened = _open(_records({}, {"event_type": "meter", "data": {"kwh": 2}}, {}), rules)
    files = {entry.partition: _read(body) for entry, body in _files(opened)}
    assert {name: len(rows) for name, rows in files.items()} == {"door#2024-03-10": 2, "meter#2024-03-10": 1}
    assert files["meter#2024-03-10"][0]["kwh"] == 2.0
    assert "n" not in files["meter#2024-03-10"][0]


def test_refusals_by_arrival_day() -> None:
    """Quarantine files lie under the arrival day and keep the bytes, whatever they are."""
    raws = [b"\xff\x00", b"", b"{}"]
    records = [
        record(raw, 100 + at, f"key-{at}", ARRIVED_US + at * DAY_US // 2) for at, raw in enumerate(raws)
    ]
    opened = _open(records)
    files = encode_refusals(opened.refusals, records, Place(LINEAGE, 7, SealState(1, "2030-01-01")))
    assert [(entry.key, entry.partition, entry.name, entry.rows, entry.duplicates) for entry, _ in files] == [
        (
            "quarantine/dt=2024-03-10/0001-000000000007.parquet",
            "_quarantine#2024-03-10",
            "quarantine#0001#000000000007",
            1,
            0,
        ),
        (
            "quarantine/dt=2024-03-11/0001-000000000007.parquet",
            "_quarantine#2024-03-11",
            "quarantine#0001#000000000007",
            2,
            0,
        ),
    ]
    rows = [one for _, body in files for one in _read(body)]
    assert [(one["raw"], one["partition_key"], one["sequence_number"], one["code"]) for one in rows] == [
        (b"\xff\x00", "key-0", "100", "not_json"),
        (b"", "key-1", "101", "not_json"),
        (b"{}", "key-2", "102", "bad_envelope"),
    ]


def test_nothing_makes_no_file() -> None:
    """An empty segment has no files."""
    assert _files(_open([])) == []
    assert encode_refusals([], [], Place(LINEAGE, 1, SealState())) == []


def test_same_input_same_bytes() -> None:
    """Encoding is a function of its input: the same segment gives the same bytes."""
    rows = _records(*({"entity_id": f"d{number % 3}"} for number in range(20)))
    assert _files(_open(rows)) == _files(_open(rows))


def _parquet_of(body: bytes) -> dict[str, Any]:
    file = pq.ParquetFile(io.BytesIO(body))
    group = file.metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    return {
        "schema": [[one.name, str(one.type), one.nullable] for one in file.schema_arrow],
        "parquet": [line.strip() for line in str(file.schema).splitlines()[1:]],
        "metadata": {
            key.decode(): value.decode() for key, value in sorted((file.metadata.metadata or {}).items())
        },
        "compression": sorted({one.compression for one in columns}),
        "page_index": sorted(
            one.path_in_schema for one in columns if one.has_column_index and one.has_offset_index
        ),
        "dictionary": sorted(one.path_in_schema for one in columns if one.has_dictionary_page),
        "statistics": sorted(one.path_in_schema for one in columns if one.is_stats_set),
    }


def test_parquet_of_a_data_file() -> None:
    """Schema, metadata, compression, page index, dictionaries and statistics are the golden file's."""
    [(_, body)] = _files(_open(_records({"data": {"n": 1, "label": "a", "at": "2024-03-10T11:00:00Z"}}, {})))
    matches_golden("data_file.parquet.json", _parquet_of(body))


def test_parquet_of_a_quarantine_file() -> None:
    """The same for the quarantine."""
    opened = _open([record(b"rubbish")])
    [(_, body)] = encode_refusals(opened.refusals, opened.records, Place(LINEAGE, 7, SealState()))
    matches_golden("quarantine_file.parquet.json", _parquet_of(body))


def test_bloom_filters() -> None:
    """Both ids carry a bloom filter, so that a look-up skips the files without them; nothing else pays for one."""
    [(_, body)] = _files(_open(_records({}, {})))
    group = pq.ParquetFile(io.BytesIO(body)).metadata.row_group(0)
    columns = [group.column(at) for at in range(group.num_columns)]
    assert [one.path_in_schema for one in columns if one.bloom_filter_offset] == ["event_id", "entity_id"]


def test_row_groups_are_bounded() -> None:
    """A row group has at most 65,536 rows."""
    opened = OpenSegment(Decoder(RULES), RULES.schemas)
    opened.add([record(wire(event()), number) for number in range(200)])
    chunk = opened.chunks[0]
    many = [chunk] * (ROW_GROUP_ROWS // 200 + 1)
    [(_, body)] = encode_rows(
        many, np.zeros(200 * len(many), dtype=np.bool_), opened.records, Place(LINEAGE, 1, SealState())
    ).files
    metadata = pq.ParquetFile(io.BytesIO(body)).metadata
    assert [metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)] == [
        65_536,
        200 * len(many) - 65_536,
    ]
