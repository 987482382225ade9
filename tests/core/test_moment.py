"""Date-times: what RFC 3339 writes, and nothing that a parser takes beside it."""

import re
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.core.moment import moment, moments

_RFC_3339 = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)
_USUAL = (
    "2026-01-02T03:04:05Z",
    "2026-01-02T03:04:05.123Z",
    "2026-01-02T03:04:05.123456Z",
    "2026-01-02T03:04:05.123+01:00",
)


@st.composite
def _nearly(draw: st.DrawFn) -> str:
    """Return a date-time with up to three characters changed, put in or taken out."""
    text = list(draw(st.sampled_from(_USUAL)))
    for _ in range(draw(st.integers(0, 3))):
        place, kind = (
            draw(st.integers(0, len(text) - 1)),
            draw(st.sampled_from(["change", "change", "put", "take"])),
        )
        if kind == "take" and len(text) > 1:
            del text[place]
            continue
        text[place : place + (kind == "change")] = draw(st.sampled_from("0123456789-:TZtz.,+ W\0٣"))
    return "".join(text)


@given(_nearly())
@example("2026-01-02T03:04:Z\0Z")
@example("2026-01-02T03:04:05.Z\x003Z")
@example("2026-01-02T24:00:00Z")
@example("2026-01-02T24:00:00.000Z")
@example("2026-01-02T03:04:05.1234")
@example("2026-01-02T03:04:05.1234567")
def test_a_date_time_is_what_the_rfc_writes(text: str) -> None:
    """The short ways say of every text what its grammar and an exact parser say together."""
    expected = None
    if _RFC_3339.fullmatch(text):
        try:
            expected = msgspec.convert(text, datetime).astimezone(UTC)
        except (msgspec.ValidationError, OverflowError):
            expected = None
    found = moment(text)
    assert found == expected
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "microsecond"),
    [("2026-01-02T03:04:05Z", 0), ("2026-01-02T03:04:05.120Z", 120_000), ("2026-01-02T03:04:05.000007Z", 7)],
)
def test_usual_date_times(text: str, microsecond: int) -> None:
    """As nearly every producer writes them."""
    assert moment(text) == datetime(2026, 1, 2, 3, 4, 5, microsecond, tzinfo=UTC)


@given(st.lists(st.one_of(st.sampled_from(_USUAL), _nearly()), max_size=4))
@example(["2026-01-02T03:04:05Z", "2026-01-02 03:04:05Z"])
@example(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05+0000"])
@example(["2026-01-02T03:04:05Z", "2026-01-02T24:00:00Z"])
@example(["2026-01-02T03:04:Z\0Z"])
@example(["2026-01-02T03:04:05Z", "2026-01-02T03:04:05\0Z"])
@example(["2026-01-02T03:04:05.123\x0056Z"])
@example(["2026-01-02T03:04:05.1TZ"])
def test_many_are_read_as_each_of_them(texts: list[str]) -> None:
    """One that is none makes all of them none."""
    each = [moment(text) for text in texts]
    found = moments(texts)
    assert found == (None if None in each else each)
    assert all(one.tzinfo is UTC for one in found or ())
