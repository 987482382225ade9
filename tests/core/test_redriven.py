"""Marks of redriven units: a round trip, what is stored, and which refused units are wanted."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.apart import NESTED
from pipeline.core.decode import Decoder
from pipeline.core.encode import Place, encode_refusals
from pipeline.core.errors import Corrupt
from pipeline.core.kpl import MAGIC
from pipeline.core.open_segment import OpenSegment
from pipeline.core.redriven import (
    RefusedPlace,
    RefusedUnit,
    Wanted,
    encode_marks,
    judge_again,
    marks_of,
    read_marks,
    read_refused,
    refused_units,
)
from pipeline.core.segment import SealState, redrive_lineage
from pipeline.core.span import parse_span
from pipeline.core.staging import digest_of
from tests.core.kit import ARRIVED_US, DOOR, LINEAGE, event, record, rules_for, wire
from tests.core.test_encode import _parquet_of
from tests.golden.compare import matches_golden

RULES = rules_for(DOOR)
PLACE = Place(redrive_lineage(LINEAGE, "0002"), 7, SealState())
UNIT = RefusedUnit(
    RefusedPlace("quarantine/dt=2024-03-10/0001-000000000003.parquet", 4),
    "schema_mismatch",
    "/data",
    "is wrong",
    "acme",
    "door",
    "e1",
    ARRIVED_US,
    "key",
    "shardId-000000000000",
    "49",
    2,
    wire(event()),
)
DAY_US = 86_400_000_000


def test_parquet_of_a_file_of_marks() -> None:
    """What is stored of a redriven unit is the golden file's."""
    [(entry, body)] = encode_marks(marks_of([(UNIT, 1)], PLACE, ARRIVED_US + 5), PLACE)
    matches_golden("redriven_file.parquet.json", _parquet_of(body))
    assert (entry.partition, entry.name) == ("_quarantine#2024-03-10", "redriven#0002#000000000007")
    assert entry.key == "redriven/dt=2024-03-10/0002-000000000007.parquet"
    assert (entry.rows, entry.bytes, entry.digest) == (1, len(body), digest_of(body))


_UNITS = st.lists(
    st.tuples(
        st.builds(
            dataclasses.replace,
            st.just(UNIT),
            place=st.builds(RefusedPlace, st.just(UNIT.place.key), st.integers(0, 10**6)),
            arrived_us=st.integers(ARRIVED_US, ARRIVED_US + 3 * DAY_US),
            sequence_number=st.integers(0, 10**56).map(str),
            subsequence_number=st.integers(0, 2**62),
        ),
        st.integers(1, 1_000),
    ),
    min_size=1,
    max_size=20,
)


@given(_UNITS)
def test_marks_survive(units: list[tuple[RefusedUnit, int]]) -> None:
    """Whatever is marked is read back the same, from one file per day of arrival."""
    marks = marks_of(units, PLACE, ARRIVED_US)
    files = encode_marks(marks, PLACE)
    found = [mark for _, body in files for mark in read_marks(body)]
    assert sorted(found) == sorted(marks)
    assert [entry.partition for entry, _ in files] == sorted({entry.partition for entry, _ in files})
    assert {one.redriven_as for one in found} == {"0002-000000000007"}


def test_refused_units_are_read_as_they_were_written() -> None:
    """A refused unit comes back whole: place, reason, names, arrival, position, bytes."""
    opened = OpenSegment(Decoder(RULES), RULES.schemas)
    opened.add([record(b"rubbish", 8), record(wire(event(data={})), 9, "other")])
    [(entry, body)] = encode_refusals(opened.refusals, opened.records, Place(LINEAGE, 3, SealState()))
    units = list(refused_units(entry.key, read_refused(entry.key, body), [0, 1]))
    assert [one.raw for one in units] == [b"rubbish", wire(event(data={}))]
    assert [(one.code, one.tenant_id, one.event_id) for one in units] == [
        ("not_json", None, None),
        ("schema_mismatch", "acme", "e1"),
    ]
    assert [(one.sequence_number, one.partition_key, one.arrived_us) for one in units] == [
        ("8", "key", ARRIVED_US),
        ("9", "other", ARRIVED_US),
    ]
    with pytest.raises(Corrupt, match="cannot be read"):
        read_refused(entry.key, b"no file")


def test_a_unit_is_judged_in_its_place() -> None:
    """What was taken apart stays apart; a broken aggregate may come apart anew, one inside another may not."""
    assert (UNIT.record.subsequence_number, UNIT.record.is_event) == (2, True)
    gzipped = dataclasses.replace(UNIT, code="bad_gzip").record
    assert (gzipped.subsequence_number, gzipped.is_event) == (2, False)
    broken = dataclasses.replace(UNIT, code="bad_aggregate", subsequence_number=0)
    assert broken.record.subsequence_number is None
    assert dataclasses.replace(broken, message=NESTED).record.subsequence_number == 0
    assert dataclasses.replace(broken, subsequence_number=1).record.subsequence_number == 1
    deadly = dataclasses.replace(broken, code="kills_worker", raw=MAGIC)
    assert deadly.record.subsequence_number is None
    assert dataclasses.replace(deadly, raw=b"x").record.subsequence_number == 0
    assert judge_again(UNIT, Decoder(RULES)) == (1, None)
    assert judge_again(dataclasses.replace(UNIT, raw=b"x"), Decoder(RULES)) == (0, "not_json")


def test_days_of_arrival_choose_partitions() -> None:
    """Only days that may hold wanted units are asked for, and no other kind of partition."""
    known = ["_quarantine#2024-03-09", "_quarantine#2024-03-10", "_quarantine#2024-03-11", "door#2024-03-10"]
    span = parse_span("2024-03-10", "2024-03-10T05:00:00Z")
    assert Wanted(arrived=span).partitions(known) == ["_quarantine#2024-03-10"]
    assert Wanted().partitions(known) == known[:3]
