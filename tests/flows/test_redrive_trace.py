"""What readers see of a redrive: traces tell both ends, look-ups and counts see the rows."""

from typing import Any

import pytest

from pipeline.core.count import Question
from pipeline.core.sighting import Hint, ReceiptName, Trace
from pipeline.core.span import Span
from pipeline.flows.counts import count_events
from pipeline.flows.events import EventSearch
from pipeline.flows.trace import trace
from tests.flows.deployment import Deployment
from tests.flows.finding import find_ports, trace_ports
from tests.flows.redriving import again, bare, labelled, marks, send, strict_house


def follow(house: Deployment, event_id: str, **hint: Any) -> Trace:
    return trace("acme", event_id, Hint(**hint), trace_ports(house))


def _house() -> Deployment:
    house = strict_house()
    producer = house.producer()
    for number in range(6):
        producer.put("acme", f"door-{number}", bare(number) if number % 2 else labelled(number))
    producer.close()
    house.load()
    again(house)
    return house


@pytest.mark.parametrize("hint", [{}, {"receipt": ReceiptName("prod1", 0)}])
def test_a_trace_tells_refusal_and_redrive(hint: dict[str, Any]) -> None:
    """The refused unit says as what it went through; the row says what it had been; both have the receipt."""
    house = _house()
    refused, row = follow(house, "e3", **hint).found
    assert (refused.sighting.outcome, row.sighting.outcome) == ("quarantined", "accepted")
    mark = next(one for one in marks(house) if tuple(one.place) == tuple(refused.sighting.place))
    assert refused.redriven == row.redriven == mark
    assert refused.receipt == row.receipt == ReceiptName("prod1", 0)
    assert (row.sighting.lineage, mark.redriven_as) == ("0002", "0002-000000000001")
    assert refused.sighting.position == row.sighting.position
    assert row.index is not None
    assert row.counted is not None
    assert (row.counted.figure, row.counted.included) == ("events", True)
    assert refused.counted is not None
    assert (refused.counted.figure, refused.counted.included) == ("quarantined", True)


def test_a_trace_by_entity_tells_what_the_row_had_been() -> None:
    """The index leads to the row only; its mark still names the refused unit."""
    house = _house()
    (row,) = follow(house, "e3", entity_id="door-3").found
    assert row.redriven is not None
    assert row.redriven.code == "schema_mismatch"


def test_what_was_never_redriven_says_so() -> None:
    """No mark on an accepted event, or on a refused one that nobody redrove."""
    house = _house()
    send(house, bare(77))
    assert [one.redriven for one in follow(house, "e2").found] == [None]
    assert [one.redriven for one in follow(house, "e77").found] == [None]


def test_a_redriven_duplicate_names_the_row_it_repeats() -> None:
    """The event was sent again and accepted before it was redriven: the redriven row is the copy."""
    house = strict_house()
    send(house, bare(1))
    send(house, labelled(1))
    again(house)
    refused, copy, kept = sorted(
        follow(house, "e1").found, key=lambda one: (one.sighting.arrived_us, one.sighting.lineage)
    )
    assert [one.sighting.outcome for one in (refused, copy, kept)] == ["quarantined", "duplicate", "accepted"]
    assert copy.first == kept.sighting.place


def test_a_search_that_finds_nothing_speaks_of_shards_only() -> None:
    """A redrive's lineage is none that something is on its way in."""
    found = follow(_house(), "e99")
    assert not found.found
    assert found.searched.notes == ()


def test_look_ups_and_counts_see_redriven_rows() -> None:
    """Index and totals of the redrive's lineage are read like any other's; quarantined stays what was refused."""
    house = _house()
    assert [
        one.columns["event_id"]
        for one in EventSearch(
            "acme", Question(Span(), None, None, "door-3"), None, find_ports(house), duplicates=False
        ).events()
    ] == ["e3"]
    answer = count_events("acme", Question(), ["door"], find_ports(house))
    assert (answer.total.events, answer.total.duplicates, answer.total.quarantined) == (6, 0, 3)
