"""Counts: exactly what a count over all rows gives, whatever they are made from."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core import aggregate
from pipeline.core.aggregate import UNKNOWN
from pipeline.core.count import Answer, By, Question
from pipeline.core.segment import SealState
from pipeline.core.span import Span, parse_span
from pipeline.flows.counts import count_events
from tests.core.kit import event, wire
from tests.flows.deployment import Deployment
from tests.flows.finding import (
    ENTITIES,
    SOURCES,
    STEPS,
    TENANTS,
    TYPES,
    Scanned,
    Step,
    all_rows,
    asked_for,
    build,
    find_ports,
    refused_rows,
)
from tests.flows.test_find import SPANS

ALL_TYPES = [*TYPES, UNKNOWN]


def group_of(row: Scanned, by: By | None) -> str:
    """Name the group of a row, in words of its own."""
    time = datetime.fromtimestamp(row.time_us // 1_000_000, UTC)
    names = {
        None: "",
        "hour": time.strftime("%Y-%m-%dT%H:00:00Z"),
        "day": time.strftime("%Y-%m-%d"),
        "type": row.event_type,
        "source": str(row.columns["source"]),
    }
    return names[by]


def naive_refused(house: Deployment, tenant: str, question: Question) -> Counter[str]:
    """Count refused units by reading all of them."""
    found: Counter[str] = Counter()
    for dt, unit in refused_rows(house):
        kind = unit["event_type"] if unit["event_type"] in TYPES else UNKNOWN
        fits = question.event_type in {None, kind} and question.span.first_dt <= dt <= question.span.last_dt
        if fits and unit["tenant_id"] == tenant:
            found[{"day": dt, "type": kind}.get(question.by or "", "")] += 1
    return found


@given(
    STEPS,
    SPANS,
    st.sampled_from([None, None, None, *TYPES]),
    st.sampled_from([None, None, *SOURCES]),
    st.sampled_from([None, None, None, *ENTITIES]),
    st.sampled_from(["hour", "day", "type", "source", None]),
)
@settings(max_examples=120, deadline=None)
def test_counts_are_those_of_the_rows(
    steps: list[Step],
    span: Span,
    event_type: str | None,
    source: str | None,
    entity: str | None,
    by: By | None,
) -> None:
    """Events, duplicates and quarantined units of every group, over lineages, segments, tiers, and unnamed sources."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aggregate, "MAX_SOURCES", 2)
        house = build(steps)
    question = Question(span, event_type, source, entity, by)
    wanted = {"event_type": event_type, "source": source, "entity_id": entity}
    for tenant in TENANTS:
        events, copies = Counter[str](), Counter[str]()
        for row in all_rows(house):
            if asked_for(row, tenant, span, **wanted):
                (copies if row.columns["is_duplicate"] else events)[group_of(row, by)] += 1
        refused = naive_refused(house, tenant, question)
        answer = count_events(tenant, question, ALL_TYPES, find_ports(house))
        known = source is None and entity is None and by in {None, "day", "type"}
        total = answer.total
        assert (total.events, total.duplicates) == (events.total(), copies.total())
        assert total.quarantined == (refused.total() if known else None)
        grouped = known and by is not None
        names = {*events, *copies, *(refused if grouped else ())} if by else set()
        assert {line.group: line[1:] for line in answer.lines} == {
            name: (events[name], copies[name], refused[name] if grouped else None) for name in names
        }


def _house() -> Deployment:
    """Twenty events of two hours and two sources, without duplicates."""
    house = Deployment()
    for number in range(20):
        time = f"2024-03-10T{10 + number % 2}:15:00Z"
        unit = event(event_id=f"e{number}", event_time=time, source=SOURCES[number // 10])
        house.stream.append("shardId-000000000000", wire(unit), "key")
    house.load()
    return house


def count(house: Deployment, question: Question) -> Answer:
    return count_events("acme", question, ["door", UNKNOWN], find_ports(house))


@pytest.mark.parametrize(
    ("question", "basis"),
    [
        (Question(), ("aggregates",)),
        (Question(by="hour"), ("aggregates",)),
        (Question(by="source"), ("aggregates",)),
        (Question(source="hall"), ("aggregates",)),
        (Question(parse_span("2024-03-10T11:00:00Z", None)), ("aggregates",)),
        (Question(parse_span("2024-03-10T11:00:00.000001Z", None)), ("aggregates", "rows")),
        (Question(source="hall", by="hour"), ("aggregates", "rows")),
        (Question(entity_id="door-1"), ("index",)),
        (Question(entity_id="door-1", by="day"), ("index",)),
        (Question(entity_id="door-1", by="hour"), ("index", "rows")),
        (Question(entity_id="door-1", source="hall"), ("index", "rows")),
    ],
)
def test_rows_are_read_only_where_nothing_else_can_say(question: Question, basis: tuple[str, ...]) -> None:
    """Where aggregates or the index have the figure, no row is read; and the answer says what it is made from."""
    assert count(_house(), question).basis == basis


def test_duplicates_by_hour_come_from_rows() -> None:
    """Aggregates know duplicates by day only."""
    house = _house()
    house.stream.append(
        "shardId-000000000000", wire(event(event_id="e3", event_time="2024-03-10T11:15:00Z")), "k"
    )
    house.load()
    by_day, by_hour = count(house, Question(by="day")), count(house, Question(by="hour"))
    assert (by_day.total, by_day.basis) == (by_hour.total._replace(quarantined=0), ("aggregates",))
    assert by_hour.basis == ("aggregates", "rows")
    assert [line[:3] for line in by_hour.lines] == [
        ("2024-03-10T10:00:00Z", 10, 0),
        ("2024-03-10T11:00:00Z", 10, 1),
    ]


def test_a_sealed_day_keeps_its_quarantine() -> None:
    """Sealing replaces the open rows of a day, of which none are counted then; refused units have no other tier."""
    house = _house()
    house.stream.append("shardId-000000000000", b'{"tenant_id":"acme"}', "key")
    house.load()
    house.ledger.seal = SealState(1, "2024-03-10", "2024-03-10")
    total = count(house, Question()).total
    assert (total.events, total.quarantined) == (0, 1)


def test_a_type_whose_schema_is_gone_still_counts() -> None:
    """What is stored is counted, also where the schema folder does not name its type any more."""
    answer = count_events("acme", Question(by="type"), [UNKNOWN], find_ports(_house()))
    assert [line[:2] for line in answer.lines] == [("door", 20)]


def test_another_tenant_counts_nothing_of_it() -> None:
    """Counts of one tenant hold nothing of another, of one entity neither."""
    for question in (Question(), Question(by="hour", source="hall"), Question(entity_id="door-1")):
        answer = count_events("globex", question, ["door", UNKNOWN], find_ports(_house()))
        assert (answer.total.events, answer.total.duplicates, answer.lines) == (0, 0, ())
