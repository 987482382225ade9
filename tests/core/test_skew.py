"""What is certain of two clocks."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.skew import ahead_of

S = 1_000_000


@given(
    st.integers(10**15, 10**15 + 10**9),
    st.integers(0, 30 * S),
    st.integers(0, 30 * S),
    st.integers(-(10**6), 10**6),
)
def test_only_what_is_certain_counts(then_us: int, sent_us: int, back_us: int, off_us: int) -> None:
    """However long a call takes: never more than the true difference, and at most the call and a second less."""
    told_us = (then_us + sent_us) // S * S
    took_us = sent_us + back_us
    found = ahead_of(told_us, then_us + took_us + off_us, took_us)
    assert 0 <= found <= off_us or off_us <= found <= 0
    assert abs(found) >= abs(off_us) - took_us - S


def test_days_are_seen() -> None:
    """A clock that is days off is off by that."""
    assert ahead_of(1_000 * S, 1_000 * S + 2 * 86_400 * S, 0) == 2 * 86_400 * S - S
    assert ahead_of(1_000_000 * S, 1_000_000 * S - 86_400 * S, 0) == -86_400 * S
