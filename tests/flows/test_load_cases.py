"""Single moments of a loader's life that the simulator found, or that have one right answer."""

import gzip

import pytest

from pipeline.core.errors import Corrupt
from pipeline.core.event import Record
from pipeline.core.kpl import Aggregate
from pipeline.core.segment import CutLimits, Position
from pipeline.flows import load
from pipeline.flows.window import WindowLimits
from tests.fakes.objects import Stored
from tests.flows.loading import House, event
from tests.sim.archive import StoredRow

_HOUR_US = 3_600_000_000


def _aggregate(*events: bytes) -> bytes:
    made = Aggregate()
    for one in events:
        made.add(one)
    return made.encode("key", "0")


def test_what_another_worker_decided_meanwhile_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut inside a call may show that the rest of the call's records is covered by now."""
    monkeypatch.setattr(load, "_CHUNK_RECORDS", 1)
    house = House(CutLimits(max_rows=1))
    records = house.put(event(1), event(2), event(3))
    slow, quick = house.loader(), house.loader()
    slow.start()
    quick.start()
    quick.process(records)
    slow.process(records)
    assert [row.place.sequence_number for row in house.rows()] == [one.sequence_number for one in records]


def test_a_backlog_has_the_window_of_its_arrival() -> None:
    """A loader that starts hours behind looks for duplicates before the backlog's arrival, not before now."""
    house = House(window=WindowLimits(window_us=_HOUR_US))
    first = house.loader()
    first.start()
    first.process(house.put(event(1)))
    first.cut("test")
    house.clock.advance(600)
    backlog = house.put(event(1))
    house.clock.advance(5 * 3_600)
    late = house.loader()
    late.start()
    late.process(backlog)
    late.cut("test")
    assert house.flags() == [False, True]


def test_the_window_reaches_back_from_the_earliest_arrival() -> None:
    """Arrival times are not quite in stream order; the earliest of a segment counts, as its ledger row says."""
    house = House(window=WindowLimits(window_us=_HOUR_US))
    now = house.clock.now_us()
    loader = house.loader()
    loader.start()
    loader.process(house.put(event(1)))
    loader.cut("test")
    loader.process(house.put(event(2), arrived_us=now + _HOUR_US + 5))
    loader.process(house.put(event(1), arrived_us=now + _HOUR_US - 5))
    loader.cut("test")
    assert house.flags() == [False, False, True]


def test_a_segment_beyond_the_cap_stays_in_its_place() -> None:
    """Whether a worker remembers or reads back: one too large segment ends the window for all older ones."""
    now = House().clock.now_us()
    flags = []
    for restarted in (False, True):
        house = House(window=WindowLimits(max_ids=4))
        loader = house.loader()
        loader.start()
        batches = ((range(10, 13), 100), (range(20, 22), 101), (range(30, 32), 90), (range(30, 31), 102))
        for numbers, seconds in batches:
            loader = house.loader() if restarted else loader
            loader.start()
            loader.process(house.put(*map(event, numbers), arrived_us=now + seconds * 1_000_000))
            loader.cut("test")
        flags.append(house.flags())
    assert flags[0] == flags[1] == [False] * 8


def test_an_aggregate_is_covered_whole() -> None:
    """A consumer that hands over the parts of an aggregate loaded whole, or the other way, repeats nothing."""
    house = House()
    (record,) = house.put(_aggregate(event(1), b"not json", event(2)))
    parts = [
        Record(record.sequence_number, "key", part, record.arrived_us, index)
        for index, part in enumerate((event(1), b"not json", event(2)))
    ]
    first = house.loader()
    first.start()
    first.process([record])
    assert first.cut("test") == Position(record.sequence_number, 2)
    for again in (parts, [record]):
        other = house.loader()
        other.start()
        other.process(again)
        other.cut("test")
    assert [row.place.subsequence_number for row in house.rows()] == [0, 1, 2]


def test_the_units_of_a_batch_are_covered_whole() -> None:
    """Positions stay Kinesis' own, however many units a user record holds, and whoever takes the aggregate apart."""
    house = House()
    inner = [event(1), b"\n".join([event(2), b"{", event(3)]), b"[%s,%s]" % (event(4), event(5))]
    (record,) = house.put(_aggregate(*inner))
    parts = [
        Record(record.sequence_number, "key", part, record.arrived_us, index)
        for index, part in enumerate(inner)
    ]
    first = house.loader()
    first.start()
    first.process([record])
    assert first.cut("test") == Position(record.sequence_number, 2)
    for again in (parts, [record]):
        other = house.loader()
        other.start()
        other.process(again)
        assert other.pending_units == 0
    other_house = House()
    by_parts = other_house.loader()
    by_parts.start()
    by_parts.process(parts)
    assert by_parts.cut("test") == Position(record.sequence_number, 2)
    units = [0, 1, 1 + (1 << 32), 1 + (2 << 32), 2, 2 + (1 << 32)]
    for one in (house, other_house):
        assert sorted(row.place.subsequence_number for row in one.rows()) == sorted(units)


def test_a_copy_inside_one_record_is_a_duplicate() -> None:
    """Units are in the order of the record: the second user record repeats the second line of the first."""
    house = House()
    loader = house.loader()
    loader.start()
    loader.process(house.put(_aggregate(b"\n".join([event(1), event(2)]), event(2))))
    loader.cut("test")
    flagged = {
        row.place.subsequence_number: row.is_duplicate for row in house.rows() if isinstance(row, StoredRow)
    }
    assert flagged == {0: False, 1 << 32: False, 1: True}


def test_gzips_are_collected_by_what_they_inflate_to() -> None:
    """Small records that inflate fifty times are cut by inflated bytes, and never pile up in one chunk."""
    house = House(CutLimits(max_bytes=4 * 2**20))
    body = b"\n".join(event(number) for number in range(8_000))
    data = gzip.compress(body)
    assert len(body) > 1_200_000
    assert 20 * len(data) < len(body)
    loader = house.loader()
    loader.start()
    loader.process(house.put(*[data] * 13))
    assert loader.pending_units == 8_000
    loader.cut("test")
    counts = [one.counts.units for one in house.ledger.segments("0001")]
    assert sum(counts) == 13 * 8_000
    assert max(counts) == 4 * 8_000  # the first that reaches 4 MiB is the last


def test_all_sealed_days_share_the_late_file_of_an_arrival_day() -> None:
    """A late file is named by arrival day: rows of several sealed days of one segment lie in it together."""
    house = House()
    house.ledger.raise_seal("2024-03-09")
    loader = house.loader()
    loader.start()
    loader.process(house.put(*(event(number, day=f"2024-03-0{number + 6}") for number in (1, 2, 3))))
    loader.cut("test")
    assert [key for key in house.objects.stored if key.startswith(("late/", "events/"))] == [
        "late/event_type=door.opened/arrival_day=2024-03-10/0001-000000000001.parquet"
    ]
    assert [entry.rows for entry in house.manifest.all_files()] == [3]


def test_a_foreign_object_stops_the_loader() -> None:
    """An object with other bytes under our key is never taken for ours, and never overwritten."""
    house = House()
    key = "events/event_type=door.opened/dt=2024-03-09/0001-000000000001.parquet"
    house.objects.stored[key] = Stored(b"foreign", "0" * 32)
    loader = house.loader()
    loader.start()
    loader.process(house.put(event(1)))
    with pytest.raises(Corrupt, match="two writers disagree"):
        loader.cut("test")
    assert house.objects.stored[key].body == b"foreign"


def test_an_empty_shard_ends_with_an_empty_segment() -> None:
    """The end of a shard is a segment of its own, so that children know when to begin."""
    house = House()
    loader = house.loader()
    loader.start()
    assert loader.cut("shard end", shard_end=True) is None
    assert loader.ended
    (segment,) = house.ledger.segments("0001")
    assert (segment.shard_end, segment.state, segment.end, segment.counts.units) == (
        True,
        "committed",
        None,
        0,
    )


def test_an_empty_last_segment_looks_no_older_than_the_one_before() -> None:
    """A worker whose clock is days behind ends a shard: its children still find the ids before that end."""
    house = House()
    first = house.loader()
    first.start()
    first.process(house.put(event(1)))
    first.cut("test")
    house.clock.advance(-3 * 86_400)
    last = house.loader()
    last.start()
    last.cut("shard end", shard_end=True)
    before, ended = house.ledger.segments(house.lineage.short)
    assert ended.max_arrival_us == before.max_arrival_us
