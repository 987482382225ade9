"""Scopes and messages of replay: canonical texts, and nothing that is not ours passes for one of ours."""

import json
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.days import DAY_US
from pipeline.core.index import Pointer
from pipeline.core.replay import Part, Selection, chunks_of, scope_of, up_to_limit
from pipeline.core.replay_job import (
    MAX_MESSAGE_BYTES,
    Message,
    pack_pointers,
    plain,
    read_message,
    unpack_pointers,
    write_message,
)


@pytest.mark.parametrize(
    ("selection", "scope"),
    [
        (Selection("acme", "a"), "all"),
        (Selection("acme", "a", from_us=DAY_US, until_us=3 * DAY_US), "all"),
        (Selection("acme", event_type="flight.departed"), "type=flight.departed"),
        (Selection("acme", "a", "flight.departed"), "type=flight.departed"),
        (Selection("acme", event_type="f", source="JFK"), "type=f,source=JFK"),
        (Selection("acme", "a", source="a,b#c%"), "source=a%2Cb%23c%25"),
        (Selection("acme", "a", include_duplicates=True), "all,duplicates"),
        (Selection("acme", "a", limit=5), "all,job=j1"),
        (Selection("acme", "a", from_us=DAY_US + 1), "all,job=j1"),
        (
            Selection("acme", "a", "f", "x", until_us=5, include_duplicates=True),
            "type=f,source=x,duplicates,job=j1",
        ),
    ],
)
def test_scopes(selection: Selection, scope: str) -> None:
    """Whatever jobs mean the same rows of an entity and day share a scope; a part of a day has its job's own."""
    assert scope_of(selection, "j1") == scope


@given(st.text(min_size=1, max_size=256), st.text(min_size=1, max_size=256))
def test_a_source_in_a_scope(one: str, two: str) -> None:
    """Two sources have two scopes, neither ends another part, and all fit into a sort key of DynamoDB."""
    scopes = [scope_of(Selection("acme", "a", "t" * 63, source), "j" * 23) for source in (one, two)]
    assert (scopes[0] == scopes[1]) == (one == two)
    assert all(len(scope.encode()) + 11 <= 1_024 for scope in scopes)
    assert all(scope.count(",") == 1 and "#" not in scope for scope in scopes)


def test_a_long_source_is_none_of_the_short_ones() -> None:
    """What stands for a source that is too long is no text of a shorter one."""
    for number in range(10, 1_000):  # 512 bytes and more
        long = scope_of(Selection("acme", "a", source=f"{number}" * 256), "j")
        assert (
            scope_of(Selection("acme", "a", source=long.removeprefix("source=").replace("%25", "%")), "j")
            != long
        )


MESSAGES = st.builds(
    Message,
    v=st.just(1),
    job=st.from_regex(r"[0-9A-Za-z-]{1,64}", fullmatch=True),
    chunk=st.integers(1, 10**6),
    key=st.text(st.characters(codec="ascii"), max_size=200),  # made of registered names
    first_row=st.integers(0, 2**40),
    rows=st.integers(1, 2**40),
    event_id=st.none() | st.text(max_size=128),
)


@given(MESSAGES)
def test_messages_round_trip(message: Message) -> None:
    """Any message is read back equal, also with an event id of 128 characters in escapes."""
    text = write_message(message)
    assert read_message(text) == message
    assert len(text.encode()) <= MAX_MESSAGE_BYTES


@given(st.text() | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(json.dumps))
def test_anything_else_is_no_message(text: str) -> None:
    """It has a reason, which is one printable line; reading it never raises."""
    found = read_message(text)
    assert isinstance(found, str)
    assert plain(found).isprintable()


POINTERS = st.lists(
    st.builds(Pointer, st.sampled_from(["a", "b", "c"]), st.integers(0, 2**40), st.integers(1, 2**40)),
    max_size=50,
)


@given(POINTERS)
def test_pointers_round_trip(pointers: list[Pointer]) -> None:
    """Packed and unpacked, a chunk has the same pointers, file by file."""
    found = unpack_pointers(list(pack_pointers(pointers)))
    assert sorted(map(msgspec.to_builtins, found)) == sorted(map(msgspec.to_builtins, pointers))
    assert len({one.key for one in found}) == len(
        [1 for at, one in enumerate(found) if not at or found[at - 1].key != one.key]
    )


RUNS = st.lists(st.tuples(st.integers(1, 9), st.integers(0, 5)), max_size=30).map(
    lambda found: [
        Part(f"2024-03-{day:02d}", "t", Pointer("k", 0, max(events, 1)), events, 0, 0)
        for day, events in sorted(found)
    ]
)


@given(RUNS, st.booleans())
def test_a_chunk_is_closed_under_days(found: list[Part], by_day: bool) -> None:
    """No day is in two chunks, no chunk lacks a pointer, and the order stays."""
    chunks = list(chunks_of(found, by_day=by_day))
    assert [pointer for chunk in chunks for pointer in chunk.pointers] == [one.pointer for one in found]
    assert [chunk.number for chunk in chunks] == list(range(1, len(chunks) + 1))
    for one, two in pairwise(chunks):
        assert one.last_dt < two.first_dt


@given(RUNS, st.integers(1, 60))
def test_a_limit(found: list[Part], limit: int) -> None:
    """Whole runs, then the rest from the next one; never more, and less only when there is no more."""
    kept, left = up_to_limit(found, limit)
    assert sum(one.events for one in kept) + left == min(limit, sum(one.events for one in found))
    assert left == 0 or found[len(kept)].events > left


@pytest.mark.parametrize("event_id", ["\ufffe\uffff", "é\u2028\x00\x1f\x7f", "𝄞" * 128, "\uffff" * 128])
def test_a_message_is_ascii(event_id: str) -> None:
    """A queue refuses some characters that an id may have; escaped, the longest id still fits."""
    message = Message(1, "20240310T120000Z-00000a", 1, "events/x.parquet", 5, 1, event_id)
    text = write_message(message)
    assert text.isascii()
    assert min(text) >= " "
    assert read_message(text) == message
