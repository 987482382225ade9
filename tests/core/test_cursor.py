"""Cursors: given back as they were, and refused when anything about them is another."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.cursor import LIFE_US, CursorRefused, read_cursor, write_cursor
from pipeline.core.signed import sign

KEY, OTHER_KEY = b"k" * 32, b"l" * 32
QUESTION = {"route": "GET /v1/events", "entity": "door-1"}
NOW_US = 1_710_072_000_000_000
PLACES = st.lists(st.text(max_size=20) | st.integers(-(2**53), 2**63 - 1), max_size=5).map(tuple)


@given(PLACES, st.data())
def test_no_changed_cursor_is_ours(place: tuple[str | int, ...], data: st.DataObject) -> None:
    """One character changed, added or left out, another key, another purpose: forged."""
    text = write_cursor(KEY, "acme", QUESTION, place, NOW_US)
    at = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from("abcXYZ019-_+/= é").filter(lambda one: one != text[at]))
    for changed in (text[:at] + letter + text[at + 1 :], text[:at] + text[at + 1 :], text + letter, "", "é"):
        with pytest.raises(CursorRefused, match="forged"):
            read_cursor(KEY, changed, "acme", QUESTION, NOW_US)
    for other in (write_cursor(OTHER_KEY, "acme", QUESTION, place, NOW_US), sign(b"body", KEY, "receipt")):
        with pytest.raises(CursorRefused, match="forged"):
            read_cursor(KEY, other, "acme", QUESTION, NOW_US)


def test_the_form_of_a_cursor_stays() -> None:
    """Cursors that are out there are read by the next release, too."""
    assert (
        write_cursor(KEY, "acme", QUESTION, (1, "a"), NOW_US)
        == "8XFXOWLp_C35Ya3F-MAnpJUBzwAGE2FH8RAAxAzeNlKvyCb0ebpCWd7EDJOS_VXGyczXNgjkuZIBoWE"
    )


@given(PLACES)
def test_a_cursor_gives_back_its_place(place: tuple[str | int, ...]) -> None:
    """Of the same tenant and question, until it is a day old."""
    text = write_cursor(KEY, "acme", QUESTION, place, NOW_US)
    assert read_cursor(KEY, text, "acme", dict(reversed(QUESTION.items())), NOW_US + LIFE_US - 1) == place


@pytest.mark.parametrize(
    ("tenant", "question", "later_us", "reason"),
    [
        ("globex", QUESTION, 0, "another tenant"),
        ("globex", {"route": "GET /v1/counts"}, LIFE_US, "another tenant"),
        ("acme", QUESTION | {"entity": "door-2"}, 0, "another question"),
        ("acme", QUESTION, LIFE_US, "expired"),
    ],
)
def test_a_cursor_is_of_one_tenant_and_question_and_a_day(
    tenant: str, question: dict[str, str], later_us: int, reason: str
) -> None:
    """Anything else is refused, and the reason is for those who count."""
    text = write_cursor(KEY, "acme", QUESTION, (1, "a"), NOW_US)
    with pytest.raises(CursorRefused) as refused:
        read_cursor(KEY, text, tenant, question, NOW_US + later_us)
    assert refused.value.reason == reason


def test_a_cursor_names_no_tenant() -> None:
    """What is in it can be read by whoever holds it: neither tenant nor question is."""
    text = write_cursor(KEY, "acme", QUESTION, (1,), NOW_US)
    held = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    assert b"acme" not in held
    assert b"door-1" not in held


def test_what_is_no_cursor_is_forged() -> None:
    """A text signed for a cursor that holds something else."""
    with pytest.raises(CursorRefused) as refused:
        read_cursor(KEY, sign(b"\x93", KEY, "cursor"), "acme", QUESTION, NOW_US)
    assert refused.value.reason == "forged"
