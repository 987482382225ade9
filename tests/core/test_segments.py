"""Slots and labels, batch ranges, positions, cut reasons, back-off."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core import keys, manifest
from pipeline.core.retry import Backoff
from pipeline.core.segment import (
    BatchRange,
    CutLimits,
    Filling,
    Position,
    SealState,
    batch_ranges,
    cut_reason,
)
from pipeline.core.slots import BatchLabel, hash_key, parse_label, slot_of
from tests.golden.compare import matches_golden

LABELS = st.builds(
    BatchLabel,
    st.from_regex(r"\A[a-z0-9]{4,32}\Z"),
    st.integers(0, 99_999),
    st.integers(0, 10**15 - 1),
    st.integers(0, 10**9 - 1),
)


@given(LABELS)
def test_label_round_trip(label: BatchLabel) -> None:
    """A label is read back from the partition key it became, which Kinesis takes."""
    assert parse_label(str(label)) == label
    assert len(str(label)) <= 256


@pytest.mark.parametrize(
    "key",
    ["", "N14228", "hr1.abcd.1.2", "hr1.abc.1.2.3", "hr2.abcd.1.2.3", "hr1.abcd.1.2.3 ", "hr1.abcd.1.2.3\n", "hr1.abcd.-1.2.3",
     "hr1.ABCD.1.2.3", "hr1.abcd.100000.2.3", "hr1.abcd.\u0663.2.3", "xhr1.abcd.1.2.3"],
)  # fmt: skip
def test_what_is_no_label(key: str) -> None:
    """A partition key that another producer chose is no label."""
    assert parse_label(key) is None


@given(st.text(max_size=20), st.text(min_size=1, max_size=20), st.integers(1, 1_000))
def test_a_slot_is_one_of_them(tenant: str, entity: str, slots: int) -> None:
    """Every entity has a slot, always the same."""
    assert 0 <= slot_of(tenant, entity, slots) < slots
    assert slot_of(tenant, entity, slots) == slot_of(tenant, entity, slots)


def test_entities_spread_over_slots() -> None:
    """Ten thousand entities use all 64 slots, none for more than twice its share."""
    counts = [0] * 64
    for number in range(10_000):
        counts[slot_of("acme", f"door-{number}", 64)] += 1
    assert 10_000 / 128 < min(counts) <= max(counts) < 10_000 / 32


@pytest.mark.parametrize("slots", [1, 3, 64, 1_000])
def test_hash_keys_divide_the_space(slots: int) -> None:
    """A slot's hash key is the middle of its share, so any split into as many shards or fewer keeps slots whole."""
    keys = [int(hash_key(slot, slots)) for slot in range(slots)]
    for slot, key in enumerate(keys):
        assert key * slots // 2**128 == slot


def test_slots_are_for_ever() -> None:
    """Slot and hash key of an entity are stored facts: they never change."""
    entities = [("acme", "door-1"), ("ua", "N14228"), ("noaa", "EWR"), ("globex", "Zürich"), ("a", "b\0c")]
    found = [[tenant, entity, slots, slot_of(tenant, entity, slots), hash_key(slot_of(tenant, entity, slots), slots)]
             for tenant, entity in entities for slots in (1, 64, 1_000)]  # fmt: skip
    matches_golden("slots.json", {"slots": found, "label": str(BatchLabel("abcd1234", 63, 12, 2_000))})


@given(
    st.lists(
        st.tuples(st.sampled_from(["aaaa", "bbbb"]), st.integers(0, 2), st.integers(0, 6), st.integers(0, 9)),
        max_size=20,
    )
)
def test_batch_ranges(batches: list[tuple[str, int, int, int]]) -> None:
    """Ranges hold exactly the labels seen, each as often as it was, without a hole inside a range."""
    labels = [BatchLabel(*one) for one in batches]
    found = batch_ranges(labels)
    spread = [(one.producer, one.slot, number) for one in found for number in range(one.first, one.last + 1)]
    assert sorted(spread) == sorted((one.producer, one.slot, one.number) for one in labels)
    assert sum(one.events for one in found) == sum(one.events for one in labels)


def test_a_batch_seen_twice_stays_visible() -> None:
    """A copy of a batch makes a range of its own; a row of batches makes one."""
    labels = [BatchLabel("aaaa", 1, number, 10) for number in (3, 1, 2, 2)]
    assert batch_ranges(labels) == (BatchRange("aaaa", 1, 1, 2, 20), BatchRange("aaaa", 1, 2, 3, 20))


@given(st.lists(st.tuples(st.integers(0, 10**56), st.integers(0, 5)), min_size=2, max_size=5))
def test_positions_compare_as_numbers(places: list[tuple[int, int]]) -> None:
    """Sequence numbers of any length compare as integers, then the sub-sequence number."""
    found = sorted(Position(str(number), sub) for number, sub in places)
    assert [(int(one.sequence_number), one.subsequence_number) for one in found] == sorted(places)
    assert Position("9", 1) < Position("10", 0) <= Position("10", 0) < Position("10", 1)


LIMITS = CutLimits(max_rows=10, max_bytes=100, max_age_seconds=60, max_idle_seconds=5, max_files=3)


@pytest.mark.parametrize(
    ("filling", "reason"),
    [
        (Filling(9, 99, 59.9, 4.9, 2), None),
        (Filling(10, 0, 0, 0, 0), "rows"),
        (Filling(11, 200, 90, 90, 9), "rows"),
        (Filling(1, 100, 90, 0, 9), "bytes"),
        (Filling(1, 0, 90, 0, 3), "files"),
        (Filling(1, 0, 60, 9, 0), "age"),
        (Filling(1, 0, 0, 5, 0), "idle"),
        (Filling(0, 0, 0, 5, 0), None),
    ],
)
def test_when_a_segment_is_cut(filling: Filling, reason: str | None) -> None:
    """Each limit cuts when it is reached and not before; nothing collected is never cut for idleness."""
    assert cut_reason(filling, LIMITS) == reason


@pytest.mark.parametrize(
    ("state", "late"),
    [(SealState(), False), (SealState(1, "2024-03-09"), False), (SealState(1, "2024-03-10"), True)],
)
def test_what_is_late(state: SealState, late: bool) -> None:
    """A day is late once it is sealed, the day of the seal included."""
    assert state.is_late("2024-03-10") is late


@given(st.integers(1, 20), st.floats(0, 1, exclude_max=True))
def test_waits_stay_inside_their_bounds(attempts: int, luck: float) -> None:
    """There is one wait less than attempts, each between 0 and min(cap, base * 2^n)."""
    backoff = Backoff(attempts=attempts, base_seconds=0.05, cap_seconds=1.0)
    waits = list(backoff.waits(lambda: luck))
    assert len(waits) == attempts - 1
    assert waits == [luck * min(1.0, 0.05 * 2**number) for number in range(attempts - 1)]


def test_stored_keys() -> None:
    """Object keys and names of manifest entries are stored forms."""
    found: dict[str, Any] = {
        tier: keys.data_key(keys.Partition(tier, "flight.departed", "2013-01-01"), "0001", 12)
        for tier in ("open", "late", "quarantine", "redriven")
    }
    found |= {
        "ids": keys.ids_key("0001", 12),
        "staging": keys.staging_key("0001", 12, "ab" * 16),
        "rules": keys.rules_key("cd" * 8),
        "manifest": [
            manifest.partition_name("flight.departed", "2013-01-01"),
            manifest.file_name("open", "0001", 12),
        ],
        "quarantine in the manifest": manifest.partition_name(keys.QUARANTINE_TABLE, "2013-01-01"),
    }
    matches_golden("keys.json", found)


@given(st.from_regex(r"\A[a-z0-9_]{1,8}\Z"), st.integers(0, 10**12 - 1))
def test_a_segment_is_read_back_from_all_that_names_it(lineage: str, ordinal: int) -> None:
    """Name, writer, data keys and the key of fingerprints lead back to the segment that they were made of."""
    segment = keys.SegmentRef(lineage, ordinal)
    assert keys.SegmentRef.of_name(segment.name) == keys.SegmentRef.of_writer(segment.writer) == segment
    assert keys.ids_segment(keys.ids_key(*segment)) == segment
    for tier in ("open", "late", "quarantine", "redriven"):
        key = keys.data_key(keys.Partition(tier, "a", "2013-01-01"), *segment)
        assert (keys.data_segment(key), keys.name_in_key(key)) == (segment, segment.name)


@pytest.mark.parametrize("text", ["", "0001-", "0001-x", "0001-1x", "0001-\u0661"])
def test_what_does_not_end_in_an_ordinal_names_no_segment(text: str) -> None:
    """Neither as a name nor as a writer is it taken for a segment, and keys like it are nobody's."""
    with pytest.raises(ValueError, match="names no segment"):
        keys.SegmentRef.of_name(text)
    with pytest.raises(ValueError, match="names no segment"):
        keys.SegmentRef.of_writer(text.replace("-", "#"))
    assert keys.ids_segment(f"ids/{text}.ids") is None
    assert keys.data_segment(f"events/event_type=a/dt=2013-01-01/{text}.parquet") is None
