"""Large requests leave other requests their turn: what is judged in one go is little, whatever the events are."""

import time
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.accept import Acceptor
from pipeline.web.sent import pieces
from tests.web.doors import MemorySink, make_door, web_settings
from tests.web.serving import JSON, LINES, Served, event, lines, post, serving

_EXACT_BYTES = 16_384  # what a closer look may take at once: 0.3 ms a KiB, where the events are made for it


@pytest.fixture
def served() -> Iterator[Served]:
    """Return a server."""
    with serving(make_door(MemorySink())) as running:
        yield running


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[list[bytes]]:
    """Return what is looked at closely, call by call."""
    calls: list[list[bytes]] = []
    judge = Acceptor.judge

    def spy(self: Acceptor, units: list[bytes], *more: Any) -> Any:
        calls.append(units)
        return judge(self, units, *more)

    monkeypatch.setattr(Acceptor, "judge", spy)
    return calls


@pytest.mark.parametrize("form", ["array", "lines"])
def test_what_needs_a_closer_look_is_judged_a_little_at_a_time(
    served: Served, judged: list[list[bytes]], form: str
) -> None:
    """300 events whose data is wrong, 2.5 MB: each is answered by its index, and no call gets more than 16 KiB of them."""
    wrong = [event(data={"list": [{}] * (10 * number)}) for number in range(300)]
    body = lines(*wrong) if form == "lines" else wrong
    with served.client() as client:
        answer = post(client, body, LINES if form == "lines" else JSON)
    assert (answer.status_code, [one["index"] for one in answer.json()["events"]]) == (400, list(range(300)))
    assert [unit for call in judged for unit in call] == [msgspec.json.encode(one) for one in wrong]
    assert all(sum(map(len, call)) <= _EXACT_BYTES or len(call) == 1 for call in judged)
    assert max(map(len, judged)) > 1


def test_one_unusual_event_does_not_change_its_neighbours(served: Served, judged: list[list[bytes]]) -> None:
    """Its piece is looked at closely, the others are accepted as they are."""
    some = [
        event(event_id=f"e-{number}", event_time="2026-03-01T00:00:00Z", tenant_id="demo")
        for number in range(400)
    ]
    some[70]["data"] = {}
    with served.client() as client:
        answer = post(client, lines(*some), LINES)
    events = answer.json()["events"]
    assert answer.status_code == 207
    assert [one["status"] for one in events] == [
        "refused" if number == 70 else "accepted" for number in range(400)
    ]
    looked_at = [unit for call in judged for unit in call]
    assert msgspec.json.encode(some[70]) in looked_at
    assert len(looked_at) <= 250


@given(st.lists(st.integers(0, 400), max_size=600), st.integers(1, 1_000))
def test_pieces_are_all_units_in_order_and_small(sizes: list[int], max_bytes: int) -> None:
    """No piece has more units or bytes than it may, but one unit at least."""
    units = [b"x" * size for size in sizes]
    found = list(pieces(units, max_bytes))
    assert [unit for piece in found for unit in piece] == units
    assert all(piece and len(piece) <= 250 for piece in found)
    assert all(len(piece) == 1 or sum(map(len, piece)) <= max_bytes for piece in found)


def test_usual_events_are_judged_together_by_the_hundred(judged: list[list[bytes]], served: Served) -> None:
    """500 events of half a kilobyte need no closer look."""
    some = [
        event(event_id=f"e-{number}", event_time="2026-03-01T00:00:00Z", tenant_id="demo")
        for number in range(500)
    ]
    with served.client() as client:
        assert post(client, lines(*some), LINES).status_code == 202
    assert judged == []


def test_what_is_judged_past_the_deadline_is_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer says that nothing was taken, and nothing was."""
    judge = Acceptor.judge

    def slow(self: Acceptor, *given: Any) -> Any:
        time.sleep(0.2)
        return judge(self, *given)

    monkeypatch.setattr(Acceptor, "judge", slow)
    sink = MemorySink()
    with (
        serving(make_door(sink, web_settings(web={"deadline_seconds": 1}))) as served,
        served.client() as client,
    ):
        answer = post(client, [event()] * 400, JSON)
    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert "nothing was taken" in answer.json()["detail"]
    assert sink.records == []
