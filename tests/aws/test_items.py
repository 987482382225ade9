"""Items of the tables: golden, and read back as they were."""

import zlib
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.aws.items import (
    aggregate_item,
    aggregate_of,
    file_item,
    file_of,
    index_item,
    index_item_of,
    lineage_item,
    lineage_of,
    receipt_item,
    receipt_of,
    segment_item,
    segment_of,
)
from pipeline.core.aggregate import Aggregate
from pipeline.core.index import IndexItem
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.core.segment import BatchRange, Counts, Gap, Lineage, Position, Segment, redrive_lineage
from tests.golden.compare import matches_golden

LINEAGE = Lineage("events-7-shardId-000000000001", "0002", "events", "shardId-000000000001", ("0001",))
FILE = DataFile(
    "door#2024-03-10",
    "open#0002#000000000003",
    "events/x.parquet",
    3,
    1,
    999,
    -5,
    7,
    (TenantRows("acme", 0, 2, 1), TenantRows("globex", 2, 1, 0)),
)
SEGMENT = Segment(
    lineage="0002",
    ordinal=3,
    state="planned",
    start=Position("4" * 56, 9),
    end=Position("5" * 56, 0),
    staging_key="staging/0002/000000000003-abc.seg",
    counts=Counts(records=2, units=9, rows=8, duplicates=1, quarantined=1, plain_units=4, files=2, bytes=999),
    batches=(BatchRange("abcd", 1, 0, 4, 5),),
    rules_digest="0123456789abcdef",
    seal_version=2,
    first_arrival_us=1_710_072_000_000_000,
    max_arrival_us=1_710_072_000_000_001,
    shard_end=True,
)
RECEIPT = Receipt(
    "abcd", 1, "events", "7", 5, 9, (AckedBatch(1, 0, 5, "shardId-000000000001", "4" * 56),), closed=True
)

ENTRY = IndexItem("acme#0123", "2024-03-10#open#0002#000000000003", zlib.compress(b"body"))
AGGREGATE = Aggregate(
    partition="acme#door",
    name="2024-03-10#open#0002",
    last_ordinal=3,
    events=5,
    duplicates=2,
    quarantined=1,
    hours=(0,) * 10 + (4, 1) + (0,) * 12,
    sources={"hall": 3, 'say "yard"': 1},
    other_sources=1,
)


def _readable(item: dict[str, Any]) -> dict[str, Any]:
    """Return an item with what is packed shown as text: zlib's own bytes may differ from version to version."""
    return {
        name: {"B": zlib.decompress(value["B"]).decode()} if "B" in value else value
        for name, value in item.items()
    }


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("segment", segment_item(SEGMENT)),
        (
            "segment_gap",
            segment_item(replace(SEGMENT, gap=Gap(1_709_900_000_000_000, 1_709_985_600_000_000, "6" * 56))),
        ),
        (
            "segment_gap_beyond",
            segment_item(
                replace(SEGMENT, gap_beyond=Gap(1_709_900_000_000_000, 1_709_985_600_000_000, "6" * 56))
            ),
        ),
        ("lineage", lineage_item(LINEAGE)),
        ("lineage_redrive", lineage_item(redrive_lineage(LINEAGE, "0003"))),
        ("data_file", file_item(FILE)),
        ("receipt", receipt_item(RECEIPT)),
        ("entity_index", index_item(ENTRY)),
        ("aggregate", aggregate_item(AGGREGATE)),
    ],
)
def test_stored_items(name: str, item: dict[str, Any]) -> None:
    """What lies in a table is what lay there before."""
    matches_golden(f"item.{name}.json", _readable(item))


POSITIONS = st.none() | st.builds(Position, st.integers(0, 10**56).map(str), st.integers(0, 10**9))
NUMBERS = st.integers(0, 10**15)
SEGMENTS = st.builds(
    Segment,
    lineage=st.just("0001"),
    ordinal=NUMBERS,
    state=st.sampled_from(["planned", "committed"]),
    start=POSITIONS,
    end=POSITIONS,
    staging_key=st.text(),
    counts=st.builds(Counts, *[NUMBERS] * 8),
    batches=st.lists(st.builds(BatchRange, st.text(), NUMBERS, NUMBERS, NUMBERS, NUMBERS), max_size=3).map(
        tuple
    ),
    rules_digest=st.text(),
    seal_version=NUMBERS,
    first_arrival_us=NUMBERS,
    max_arrival_us=NUMBERS,
    shard_end=st.booleans(),
    gap=st.none() | st.builds(Gap, NUMBERS, NUMBERS, st.text()),
    gap_beyond=st.none() | st.builds(Gap, NUMBERS, NUMBERS, st.text()),
)


@given(SEGMENTS)
def test_segment_round_trip(segment: Segment) -> None:
    """Any segment is read back equal, sequence numbers of 56 digits included."""
    assert segment_of(segment_item(segment)) == segment


def test_other_round_trips() -> None:
    """Lineages, files, receipts, index items and aggregates are read back equal."""
    assert lineage_of(lineage_item(LINEAGE)) == LINEAGE
    redrive = redrive_lineage(LINEAGE, "0003")
    assert lineage_of(lineage_item(redrive)) == redrive
    assert file_of(file_item(FILE)) == FILE
    assert receipt_of(receipt_item(RECEIPT)) == RECEIPT
    assert index_item_of(index_item(ENTRY)) == ENTRY
    assert aggregate_of(aggregate_item(AGGREGATE)) == AGGREGATE
