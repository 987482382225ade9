"""The duplicate window, against a dictionary that does the same slowly."""

import json
import subprocess
import sys
from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import Corrupt
from pipeline.core.keys import SegmentRef
from pipeline.core.window import Fingerprints, Window, decode_ids, encode_ids, fingerprints
from pipeline.core.window_reach import Reach, SegmentAge
from pipeline.core.window_runs import Run


def _prints(ids: Iterable[int]) -> Fingerprints:
    """Return fingerprints whose high halves collide: id // 4 is the high half, id % 4 the low one."""
    found = np.array(list(ids), dtype=np.uint64)
    return Fingerprints(found // np.uint64(4), found % np.uint64(4))


def _choose(segments: Iterable[SegmentAge], horizon: int, cap: int) -> list[SegmentAge]:
    """Return what is inside, newest first, looking at every segment."""
    chosen: list[SegmentAge] = []
    for segment in sorted(segments, key=lambda one: one.rank, reverse=True):
        if segment.max_arrival_us < horizon or segment.ids > cap - sum(one.ids for one in chosen):
            break
        chosen.append(segment)
    return chosen


def _age(number: int, arrival: int, ids: int) -> SegmentAge:
    return SegmentAge(SegmentRef("0001", number), arrival, ids)


_STEPS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 30), max_size=12), st.integers(0, 6), st.integers(0, 6), st.integers(0, 40)
    ),
    max_size=14,
)


@given(_STEPS)
@settings(max_examples=150, deadline=None)
def test_like_the_naive_window(steps: list[tuple[list[int], int, int, int]]) -> None:
    """Segments come, leave by horizon and cap, come back: what was seen is what a dictionary says."""
    window, naive = Window(), dict[SegmentRef, list[int]]()
    ages, all_ids = dict[SegmentRef, SegmentAge](), dict[SegmentRef, list[int]]()
    for number, (ids, arrival, horizon, cap) in enumerate(steps):
        seen = {one for kept in naive.values() for one in kept}
        expected = [one in seen or one in ids[:at] for at, one in enumerate(ids)]
        assert window.seen(_prints(ids)).tolist() == expected
        age = _age(number, arrival, len(ids))
        window.add(age, _prints(ids))
        all_ids[age.id], ages[age.id] = ids, age
        kept = {one.id for one in _choose(ages.values(), horizon, cap)}
        window.leave(set(ages) - kept)
        for back in sorted(kept):  # as the loader does from `ids/`; what is known is left as it is
            window.add(ages[back], _prints(all_ids[back]))
        naive = {name: all_ids[name] for name in kept}
        assert {name for name in ages if name in window} == kept


_COMING = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 10)), max_size=14)


@given(_COMING, st.integers(0, 30))
@settings(max_examples=300, deadline=None)
def test_what_is_inside_is_what_a_look_at_all_finds(coming: list[tuple[int, int, int]], cap: int) -> None:
    """Segments come in any order and horizons go both ways: inside are whole segments, newest first, within horizon and cap."""
    reach, known = Reach(cap), list[SegmentAge]()
    for number, (arrival, ids, horizon) in enumerate(coming):
        known.append(_age(number, arrival, ids))
        before = {one.id for one in known if one.id in reach}
        for one in known:  # as the ledger tells of all of them again when the horizon goes back
            reach.add(one)
        gone = reach.slide(horizon)
        expected = {one.id for one in _choose([one for one in known if one.ids], horizon, cap)}
        assert {one.id for one in known if one.id in reach} == expected
        assert not set(gone) & expected
        assert before - expected <= set(gone)
        assert (len(reach), reach.ids) == (len(expected), sum(one.ids for one in known if one.id in expected))
        if expected:
            assert reach.reached_us == min(one.max_arrival_us for one in known if one.id in expected)


def test_a_cut_looks_at_no_segment_that_stays() -> None:
    """Of ten thousand small segments one comes and one leaves, and what lies between costs nothing: each is ranked once."""
    ranked: list[SegmentRef] = []

    class Counted(SegmentAge):
        @property
        def rank(self) -> tuple[int, SegmentRef]:
            ranked.append(self.id)
            return super().rank

    reach = Reach(10_000)
    for number in range(20_000):
        segment = Counted(SegmentRef("0001", number), number, 1)
        assert reach.add(segment)
        assert reach.slide(0) == ([SegmentRef("0001", number - 10_000)] if number >= 10_000 else [])
    assert len(ranked) <= 2 * 20_000


def test_high_halves_collide() -> None:
    """Different ids that share 64 bits are told apart, however many there are."""
    window = Window()
    same_high = Fingerprints(np.full(1_000, 7, dtype=np.uint64), np.arange(1_000, dtype=np.uint64))
    window.add(_age(1, 1, 1_000), same_high)
    asked = Fingerprints(np.full(1_002, 7, dtype=np.uint64), np.arange(1_002, dtype=np.uint64))
    assert window.seen(asked).tolist() == [True] * 1_000 + [False] * 2


def test_low_halves_collide() -> None:
    """The low half alone says nothing."""
    window = Window()
    window.add(_age(1, 1, 1), Fingerprints(np.array([1], np.uint64), np.array([5], np.uint64)))
    asked = Fingerprints(np.array([2, 1], np.uint64), np.array([5, 5], np.uint64))
    assert window.seen(asked).tolist() == [False, True]


def test_the_extremes_of_a_half() -> None:
    """0 and 2^64 - 1 are halves like any other."""
    window, top = Window(), 2**64 - 1
    window.add(_age(1, 1, 2), Fingerprints(np.array([0, top], np.uint64), np.array([top, 0], np.uint64)))
    asked = Fingerprints(np.array([0, top, 0, top], np.uint64), np.array([top, 0, 0, top], np.uint64))
    assert window.seen(asked).tolist() == [True, True, False, False]


def test_copies_of_one_id_cost_one_entry() -> None:
    """A hundred thousand copies are found, and remembered once: no step walks over all of them for each."""
    window, copies = Window(), fingerprints([("acme", "same")] * 100_000)
    assert window.seen(copies).sum() == 99_999
    window.add(_age(1, 1, 100_000), copies)
    assert window.seen(copies).all()
    assert window.size_bytes == 20
    for number in range(2, 40):
        window.add(_age(number, number, 100_000), copies)
    assert window.size_bytes <= 40  # two runs of one entry each, at most


def test_a_copy_renews_the_claim() -> None:
    """An id seen again stays known as long as the later segment does, also when the elder one leaves."""
    window, ids = Window(), fingerprints([("acme", "a"), ("acme", "b")])
    window.add(_age(1, 1, 2), ids)
    window.add(_age(2, 2, 1), fingerprints([("acme", "a")]))
    window.leave([SegmentRef("0001", 1)])
    assert window.seen(ids).tolist() == [True, False]


def test_a_segment_is_taken_in_once() -> None:
    """Adding a known segment again, with whatever ids, changes nothing."""
    window = Window()
    window.add(_age(1, 1, 1), _prints([1]))
    window.add(_age(1, 1, 1), _prints([2]))
    assert window.seen(_prints([1, 2])).tolist() == [True, False]


def test_memory_is_twenty_bytes_an_id() -> None:
    """Many segments merge into runs of 20 bytes an id."""
    window = Window()
    for number in range(60):
        window.add(_age(number, number, 100), _prints(range(number * 100, number * 100 + 100)))
    assert window.size_bytes == 60 * 100 * 20
    assert window.seen(_prints(range(6_000))).all()
    assert len(window._runs) < 12  # about log2 of the segments


@pytest.mark.parametrize("asked", [1, 40, 3_000])
def test_few_are_found_among_many(asked: int) -> None:
    """A look-up of few ids in a long run takes another way, and finds the same: hits, gaps, both ends, beyond them."""
    chance = np.random.default_rng(3)
    high = np.sort(chance.choice(2**20, 50_000, replace=False)).astype(np.uint64) + np.uint64(10)
    run = Run(len(high))
    run.append(high, high, np.zeros(len(high), dtype=np.uint32))
    ends = [0, int(high[0]), int(high[-1]), int(high[-1]) + 1, 2**64 - 1]
    marks = [*high[::256].tolist(), *high[255::256].tolist()]
    for wanted in (chance.choice(2**20, asked).tolist() + ends, ends[:1], ends[-1:], marks):
        keys = np.sort(np.array(wanted, dtype=np.uint64))
        assert run.find(keys, keys, np.ones(1, np.bool_)).tolist() == np.isin(keys, high).tolist()


def test_merging_and_leaving_take_no_second_window() -> None:
    """Of a process whose window fills and slides the memory stays within 24 bytes an id, with every transient."""
    command = [sys.executable, "-m", "tests.bench.window", "fill", "2000000", "65536"]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert found["peak_mb"] < 24 * 2_000_000 / 1e6 + 8  # what one segment itself takes weighs more here


def test_who_is_who() -> None:
    """Tenant and id are kept apart, and nothing but the pair counts."""
    pairs = [("a", "bc"), ("ab", "c"), ("a", "b\0c"), ("a", "bc")]
    window = Window()
    assert window.seen(fingerprints(pairs)).tolist() == [False, False, False, True]
    assert len(fingerprints([])) == 0
    assert window.seen(fingerprints([])).tolist() == []


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=50),
    st.lists(st.integers(0, 2**64 - 1), min_size=50, max_size=50),
)
def test_ids_file_round_trip(high: list[int], low: list[int]) -> None:
    """An ids file holds the same pairs, sorted by the first half."""
    prints = Fingerprints(np.array(high, np.uint64), np.array(low[: len(high)], np.uint64))
    found = decode_ids(encode_ids(prints))
    assert found.high.tolist() == sorted(high)
    assert sorted(zip(found.high.tolist(), found.low.tolist(), strict=True)) == sorted(
        zip(high, low[: len(high)], strict=True)
    )


def test_a_torn_ids_file_is_corrupt() -> None:
    """An ids file that is cut short, has grown or has another magic is refused, not read as fewer ids."""
    whole = encode_ids(_prints([1, 2]))
    assert len(whole) == 16 + 32
    for broken in [*(whole[:cut] for cut in range(48)), whole + b"\0", b"x" + whole[1:]]:
        with pytest.raises(Corrupt):
            decode_ids(broken)
