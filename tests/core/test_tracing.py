"""What is believed of a stranger's `traceparent`, and how many requests are traced."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.tracing import Sampler, TraceContext, parse_traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"01-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-holds", True),
    ],
)
def test_well_formed(text: str, sampled: bool) -> None:
    """Ids and the flag are read, of later versions too."""
    assert parse_traceparent(text) == TraceContext(TRACE, SPAN, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f"cc-{TRACE}-{SPAN}-01-" + "x" * 1_000,
    ],
)
def test_malformed(text: str) -> None:
    """What is not exactly one is none."""
    assert parse_traceparent(text) is None


@given(st.text())
def test_any_text_is_read_or_ignored(text: str) -> None:
    """No text raises."""
    assert parse_traceparent(text) is None or text[2] == "-"


def test_a_context_is_written_as_it_is_read() -> None:
    """What goes on in an event is what a loader reads there."""
    for sampled in (True, False):
        one = TraceContext(TRACE, SPAN, sampled)
        assert parse_traceparent(one.text) == one


def test_callers_decide_up_to_a_bound() -> None:
    """A caller's word counts, either way, until as many are traced as a second may have."""
    sampler, yes, no = Sampler(0.5, 10), TraceContext(TRACE, SPAN, True), TraceContext(TRACE, SPAN, False)
    assert not any(sampler.traces(no, 0.0, 1.0) for _ in range(100))
    assert sum(sampler.traces(yes, 0.99, 1.0) for _ in range(100)) == 10
    assert sum(sampler.traces(None, 0.1, 1.5) for _ in range(100)) == 5
    assert not sampler.traces(None, 0.5, 9.0)
    assert sampler.traces(None, 0.49, 9.0)
