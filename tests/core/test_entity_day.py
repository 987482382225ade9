"""Entity and day: the same result from the same rows, whatever their order, files or chunks."""

import hashlib
from typing import NamedTuple

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.columns import MICROS
from pipeline.core.days import DAY_US
from pipeline.core.entity_day import EntityDay, EntityDayFold, row_hashes

_BEGIN_US = 1_709_942_400_000_000  # 2024-03-09


class Event(NamedTuple):
    """One row."""

    entity_id: str
    time: int
    event_id: str
    event_type: str = "door"
    data: str = "{}"
    duplicate: bool = False


def _table(rows: list[Event]) -> pa.Table:
    """Return rows as a data file has them: by entity and event time."""
    rows = sorted(rows, key=lambda one: (one.entity_id, one.time))
    return pa.table(
        {
            "entity_id": pa.array([one.entity_id for one in rows], pa.string()),
            "event_id": pa.array([one.event_id for one in rows], pa.string()),
            "event_time": pa.array([one.time for one in rows], pa.int64()).cast(MICROS),
            "is_duplicate": pa.array([one.duplicate for one in rows], pa.bool_()),
            "data_json": pa.array([one.data for one in rows], pa.string()),
        }
    )


def _folded(files: list[list[Event]]) -> list[EntityDay]:
    fold = EntityDayFold()
    for rows in files:
        for kind in sorted({one.event_type for one in rows}):
            fold.add(kind, _table([one for one in rows if one.event_type == kind]))
    return fold.results("acme", "all", 1, "job")


_EVENTS = st.lists(
    st.builds(
        Event,
        entity_id=st.sampled_from(["a", "b", "é"]),
        time=st.integers(_BEGIN_US, _BEGIN_US + 2 * DAY_US)
        | st.integers(_BEGIN_US, _BEGIN_US + 2)
        | st.just(_BEGIN_US + DAY_US),
        event_id=st.text(max_size=3),
        event_type=st.sampled_from(["door", "bell"]),
        data=st.sampled_from(["{}", '{"n":1}', '{"t":"é"}']),
        duplicate=st.booleans(),
    ),
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(_EVENTS, st.data())
def test_order_and_files_do_not_matter(events: list[Event], data: st.DataObject) -> None:
    """Shuffled and put into any files, rows give the same counts, hash, samples and times."""
    shuffled = data.draw(st.permutations(events))
    size = data.draw(st.integers(1, len(events) + 1))
    files = [list(shuffled[start : start + size]) for start in range(0, len(events), size)]
    assert _folded(files) == _folded([events])


@settings(max_examples=100, deadline=None)
@given(_EVENTS)
def test_samples_are_the_least_five(events: list[Event]) -> None:
    """By event time and then by event id, also where many events share a time."""
    for found in _folded([[one] for one in events]):
        mine = [
            one
            for one in events
            if one.entity_id == found.entity_id
            and found.first_event_time_us <= one.time <= found.last_event_time_us
        ]
        assert found.sample_ids == tuple(
            name for _, name in sorted((one.time, one.event_id) for one in mine)[:5]
        )
        assert (found.events, found.duplicates) == (len(mine), sum(one.duplicate for one in mine))


def test_many_events_of_one_moment() -> None:
    """Of more than five events of one time the least ids are kept, wherever in the file they stand."""
    (found,) = _folded([[Event("a", _BEGIN_US, f"e{number}") for number in (9, 8, 7, 6, 5, 4, 3, 2, 1)]])
    assert found.sample_ids == ("e1", "e2", "e3", "e4", "e5")


def test_samples_stay_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows come: candidates are thinned out as they grow."""
    monkeypatch.setattr("pipeline.core.entity_day._COMPACT_ROWS", 20)
    fold = EntityDayFold()
    for number in range(300, 0, -1):
        fold.add("door", _table([Event("a", _BEGIN_US + number, f"e{number}"), Event("b", _BEGIN_US, "x")]))
        assert fold._held <= 20 + 2 * 10 + 2
    assert fold.results("acme", "all", 1, "j")[0].sample_ids == ("e1", "e2", "e3", "e4", "e5")


ONE = Event("a", _BEGIN_US, "e1", "door", '{"n":1}')


@pytest.mark.parametrize(
    "other",
    [
        ONE._replace(event_id="e2"),
        ONE._replace(time=_BEGIN_US + 1),
        ONE._replace(event_type="doo"),
        ONE._replace(data='{"n": 1}'),
        ONE._replace(event_id="1", data='{"n":1}e'),
    ],
)
def test_another_row_has_another_hash(other: Event) -> None:
    """Type, time, id and every byte of the data count."""
    assert _folded([[ONE]])[0].inputs_hash != _folded([[other]])[0].inputs_hash


def test_a_repeated_row_changes_the_hash() -> None:
    """A sum, not an exclusive or: two equal rows do not cancel each other."""
    counted = {_folded([[ONE] * count])[0].inputs_hash for count in range(1, 5)}
    assert len(counted) == 4


def test_the_hash_as_it_is_stored() -> None:
    """The halves are as the module's text says: another program can compute them."""
    digest = hashlib.blake2b(b'door\x001709942400000000\x00{"n":1}\x00e1', digest_size=16).digest()
    low, high = (int.from_bytes(part, "little") for part in (digest[:8], digest[8:]))
    assert _folded([[ONE]])[0].inputs_hash == f"{high:016x}{low:016x}"
    double = f"{2 * high % 2**64:016x}{2 * low % 2**64:016x}"
    assert _folded([[ONE], [ONE]])[0].inputs_hash == double


def test_hashes_of_a_slice() -> None:
    """Rows in the middle of a larger buffer are hashed as they are."""
    table = _table([ONE._replace(event_id=f"e{number}") for number in range(10)])
    whole, part = row_hashes("door", table), row_hashes("door", table.slice(3, 4).combine_chunks())
    assert whole[0][3:7].tolist() == part[0].tolist()
    chunked = pa.concat_tables([table.slice(0, 3), table.slice(3, 7)])
    assert row_hashes("door", chunked)[1].tolist() == whole[1].tolist()


def test_nothing() -> None:
    """No rows, no results."""
    assert _folded([]) == _folded([[]]) == []
