"""Aggregates: totals are what a count over the rows gives, whatever the segments."""

from collections import Counter
from dataclasses import replace

import msgspec
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.aggregate import (
    MAX_SOURCES,
    UNKNOWN,
    Aggregate,
    AggregateKey,
    apply,
    fold_refusals,
    fold_rows,
)
from pipeline.core.days import DAY_US, day_of
from pipeline.core.event import Record, Refusal
from pipeline.core.filed import Words
from tests.core.kit import DOOR, rules_for
from tests.core.test_index import FIRST_DAY, ROWS, TENANTS, WORDS, Row, filed


@given(st.lists(st.tuples(ROWS.filter(bool), st.booleans()), max_size=4))
@settings(max_examples=150, deadline=None)
def test_totals_equal_a_count(segments: list[tuple[list[Row], bool]]) -> None:
    """After any segments each item holds the rows' events by hour, its duplicates, and the last ordinal."""
    items: dict[AggregateKey, Aggregate] = {}
    expected: dict[AggregateKey, Counter[str]] = {}
    for ordinal, (rows, late) in enumerate(segments, 1):
        deltas = fold_rows([filed("door", rows, late)], WORDS, "0001")
        items |= {one.key: one for one in apply(items, deltas, ordinal)}
        for tenant, _, time, duplicate in rows:
            name = f"{day_of(time)}#{'late' if late else 'open'}#0001"
            counter = expected.setdefault(AggregateKey(f"{TENANTS[tenant]}#door", name), Counter())
            counter["duplicates" if duplicate else f"hour {time // 3_600_000_000 % 24}"] += 1
            counter["ordinal"] = ordinal
    assert items.keys() == expected.keys()
    for key, one in items.items():
        hours = Counter({f"hour {hour}": count for hour, count in enumerate(one.hours) if count})
        found = hours + Counter(duplicates=one.duplicates, ordinal=one.last_ordinal)
        assert found == expected[key]
        assert one.events == sum(one.hours) == sum(one.sources.values())


def test_sources_are_bounded_and_exact() -> None:
    """The first hundred sources are named, each with all of its events; later ones are counted together."""
    day = FIRST_DAY * DAY_US
    before: dict[AggregateKey, Aggregate] = {}
    for ordinal in range(1, 4):
        names = [f"s{number:03}" for number in range(60 * ordinal)]
        one = filed("door", [(0, 0, day, False)] * len(names))
        sources = one.sources.copy()
        sources[:] = range(len(names))
        words = Words(TENANTS, WORDS.entities, names)
        deltas = fold_rows([type(one)(**{**vars(one), "sources": sources})], words, "0001")
        before |= {found.key: found for found in apply(before, deltas, ordinal)}
    [total] = before.values()
    assert len(total.sources) == MAX_SOURCES
    assert total.sources["s000"] == 3
    assert total.sources["s099"] == 2
    assert total.other_sources == 20 + 80
    assert sum(total.sources.values()) + total.other_sources == total.events == 60 + 120 + 180


def test_long_sources_leave_an_item_small() -> None:
    """However long the names of sources are, a hundred items fit into one transaction of 4 MB."""
    names = ["\x01" * 255 + chr(0x4E00 + number) for number in range(90)]
    one = filed("door", [(0, 0, FIRST_DAY * DAY_US, False)] * len(names))
    one = replace(one, sources=np.arange(len(names)))
    deltas = fold_rows([one], Words(TENANTS, WORDS.entities, names), "0001")
    [total] = apply({}, deltas, 1)
    assert 0 < len(total.sources) < len(names)
    assert sum(total.sources.values()) + total.other_sources == total.events == len(names)
    assert len(msgspec.json.encode(total)) * 100 < 3_000_000


def test_refused_units_count_by_arrival_day() -> None:
    """Known tenants and types keep their names; whatever else a producer wrote is `_unknown`."""
    records = [Record("1", "k", b"", FIRST_DAY * DAY_US), Record("2", "k", b"", (FIRST_DAY + 1) * DAY_US)]
    refusals = [
        Refusal("bad_envelope", "", "", b"", 0, 0, "acme", "door", "e"),
        Refusal("unknown_tenant", "", "", b"", 0, 1, "nobody", "door", "e"),
        Refusal("unknown_type", "", "", b"", 1, 0, "acme", "#odd", "e"),
        Refusal("not_json", "", "", b"", 1, 0),
    ]
    deltas = fold_rows([], WORDS, "0001")
    fold_refusals(deltas, refusals, records, rules_for(DOOR), "0001")
    found = {(key.partition, key.name[:10]): one.quarantined for key, one in deltas.items()}
    assert found == {
        ("acme#door", "2024-03-10"): 1,
        (f"{UNKNOWN}#door", "2024-03-10"): 1,
        (f"acme#{UNKNOWN}", "2024-03-11"): 1,
        (f"{UNKNOWN}#{UNKNOWN}", "2024-03-11"): 1,
    }
