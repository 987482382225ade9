"""Rows of the ledger that no data file vouches for, altered: gaps, ends without records, and what a redrive's segment must not say."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from pipeline.core.segment import BatchRange, Gap, Position, Segment
from tests.flows.falling_behind import FIRST, House
from tests.flows.redriving import STRICT, again, bare, labelled

Alter = Callable[[Segment], Segment]
_COUNTED: Alter = lambda one: replace(one, counts=replace(one.counts, records=one.counts.records + 1))  # noqa: E731


def _house() -> House:
    """Return a shard with a gap, in front of records and of an end without any, and with one redrive."""
    house = House(max_rows=5)
    house.rules = STRICT
    for number in range(6):
        house.stream.append(FIRST, labelled(number) if number else bare(number), "key")
        house.clock.advance(1)
    house.work()
    house.stream.append(FIRST, labelled(6), "key")
    house.away(30)
    house.stream.append(FIRST, labelled(7), "key")
    house.work()
    house.stream.split(FIRST)
    house.work()
    again(house)
    report = house.audit()
    assert (report.balanced, len(report.gaps)) == (True, 1), report.differences
    return house


def _key(house: House, *, which: str) -> tuple[str, int]:
    """Return where a row stands: a gap's, an end's, or a redrive's."""
    rows = house.ledger.rows
    found = {
        "gap": [key for key, one in rows.items() if one.gap is not None],
        "end": [key for key, one in rows.items() if one.shard_end],
        "redrive": [key for key in rows if key[0] == "0002"],
    }[which]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("which", ["gap", "end"])
@pytest.mark.parametrize(
    ("alter", "kind"),
    [
        (_COUNTED, "segment_altered"),
        (lambda one: replace(one, end=Position("9999", 0)), "segment_altered"),
        (lambda one: replace(one, first_arrival_us=one.first_arrival_us + 1), "segment_altered"),
        (lambda one: replace(one, max_arrival_us=one.max_arrival_us + 1), "segment_altered"),
        (lambda one: replace(one, gap=None, shard_end=False), "segment_altered"),
        (lambda one: replace(one, gap=Gap(2, 1, "")), "segment_altered"),
        (lambda one: replace(one, rules_digest="others"), "rules_missing"),
    ],
)
def test_an_altered_row_without_units_is_named(which: str, alter: Alter, kind: str) -> None:
    """A gap that was taken out or moved, and an end that was, with nothing in the bucket that would show it."""
    house = _house()
    key = _key(house, which=which)
    house.ledger.rows[key] = alter(house.ledger.rows[key])
    assert kind in house.kinds()


@pytest.mark.parametrize(
    "alter",
    [
        lambda one: replace(one, start=Position("1", 0)),
        lambda one: replace(one, end=Position("1", 0)),
        lambda one: replace(one, shard_end=True),
        lambda one: replace(one, gap=Gap(1, 2, "")),
        lambda one: replace(one, gap_beyond=Gap(1, 2, "")),
        lambda one: replace(one, batches=(BatchRange("prod1", 0, 0, 0, 1),)),
    ],
)
def test_a_redrive_with_a_place_in_the_shard_is_named(alter: Alter) -> None:
    """Its rows keep their old positions; the segment itself has none."""
    house = _house()
    key = _key(house, which="redrive")
    house.ledger.rows[key] = alter(house.ledger.rows[key])
    assert "segment_altered" in house.kinds()
