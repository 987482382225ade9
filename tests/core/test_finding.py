"""What finding decides: spans, runs, which figures need rows, which ids file holds an id."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.core.aggregate import Aggregate
from pipeline.core.count import Question, TypeDay, from_aggregates, from_run
from pipeline.core.days import DAY_US, EPOCH
from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.core.find import Run, check_owner, day_span, file_runs, partitions_to_ask
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.core.segment import Counts, Lineage, Position, SealState, Segment
from pipeline.core.sighting import (
    ReceiptName,
    RowPlace,
    Sighting,
    acknowledged_by,
    covering,
    parse_receipt,
)
from pipeline.core.span import END_US, FIRST_US, Span, instant_of, parse_day, parse_span
from pipeline.core.window import Fingerprints, decode_ids, encode_ids, fingerprints, holds

HOUR_US = 3_600_000_000
NOON_US = 1_710_072_000_000_000  # 2024-03-10T12:00:00Z
MIDNIGHT_US = NOON_US - 12 * HOUR_US


# Spans ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "span"),
    [
        (None, None, (FIRST_US, END_US)),
        ("2024-03-10", "2024-03-10", (MIDNIGHT_US, MIDNIGHT_US + DAY_US)),
        ("2024-03-10T12:00:00Z", None, (NOON_US, END_US)),
        ("2024-03-10T13:00:00+01:00", "2024-03-10T12:00:00.000001Z", (NOON_US, NOON_US + 1)),
        ("0001-01-01", "9999-12-31", (FIRST_US, END_US)),
    ],
)
def test_a_span_of_days_and_times(first: str | None, last: str | None, span: tuple[int, int]) -> None:
    """A day at the end is part of the span, a time is not; offsets are minded."""
    found = parse_span(first, last)
    assert (found.from_us, found.until_us) == span
    assert found.first_dt <= found.last_dt


@pytest.mark.parametrize(
    "text", ["2013-02-30", "0000-01-01", "2013-13-01", "2013-02-30T00:00:00Z", "0000-01-01T00:00:00Z"]
)
def test_a_day_that_is_none_is_said(text: str) -> None:
    """The form is right, and the calendar has no such day."""
    for read in (
        lambda: parse_span(text, None),
        lambda: parse_span(None, text),
        lambda: parse_day("to", text),
    ):
        with pytest.raises(ConfigProblem, match=f"'{text}': there is no such day$"):
            read()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2024",
        "2024-3-10",
        "20240310",
        "2024-03-10x",
        "2024-03-10T25:00:00Z",
        "2024-W10-7",
        "2024-03-10 12:00:00Z",
        "now",
        "T",
    ],
)
def test_other_texts_are_refused(text: str) -> None:
    """Neither a day nor a time: the message names the option and shows both forms."""
    for first, last, option in ((text, None, "--from"), (None, text, "--to")):
        with pytest.raises(ConfigProblem, match=f"{option} .*2013-07-04T10:30:00Z"):
            parse_span(first, last, ("--from", "--to"))
    with pytest.raises(ConfigProblem, match="--at"):
        parse_day("--at", text)


def test_an_empty_span_is_refused() -> None:
    """Nothing is between a time and itself, or an earlier day."""
    for first, last in (("2024-03-10T12:00:00Z",) * 2, ("2024-03-10", "2024-03-09")):
        with pytest.raises(ConfigProblem, match="since must be earlier"):
            parse_span(first, last, ("since", "until"))


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_reads_back(when: datetime) -> None:
    """What we print as a time is taken as --from, to the microsecond."""
    at_us = (when - EPOCH) // timedelta(microseconds=1)
    assert parse_span(instant_of(at_us), None).from_us == at_us
    assert parse_day("--at", instant_of(at_us)) == when.date().isoformat()


# Runs ----------------------------------------------------------------------------------------------------


def _file(tier: str, dt: str, first_us: int, last_us: int) -> DataFile:
    held = (TenantRows("acme", 0, 2, 1), TenantRows("globex", 2, 3, 0))
    return DataFile(
        f"door#{dt}", f"{tier}#0001#000000000001", f"{tier}/{dt}", 5, 1, 9, first_us, last_us, held
    )


def test_runs_of_a_file_are_the_tenants_own() -> None:
    """A tenant's run, where it is read from that tier; nothing for a tenant who has none."""
    day = day_span("2024-03-10")
    sealed = SealState(1, "2024-03-10", "2024-03-10")
    files = [
        _file("open", "2024-03-10", NOON_US, NOON_US),
        _file("late", "2024-03-12", NOON_US, NOON_US + DAY_US),
    ]
    found = file_runs("globex", files, SealState(), day)
    assert [(run.key, run.first_row, run.rows, run.duplicates) for run in found] == [
        ("late/2024-03-12", 2, 3, 0),
        ("open/2024-03-10", 2, 3, 0),
    ]
    assert [run.key for run in file_runs("acme", files, sealed, day)] == ["late/2024-03-12"]
    assert file_runs("acme", files, SealState(), day_span("2024-03-09")) == []
    assert file_runs("nobody", files, SealState(), Span()) == []


def test_late_files_may_lie_under_any_day() -> None:
    """Before a day is sealed its files lie under that day; after it, late ones under any."""
    names = [
        "_quarantine#2024-03-10",
        "bell#2024-03-10",
        "door#2024-03-09",
        "door#2024-03-10",
        "door#2024-03-12",
    ]
    day = day_span("2024-03-10")
    assert partitions_to_ask(names, ["door"], SealState(), day) == ["door#2024-03-10"]
    assert partitions_to_ask(names, None, SealState(), day) == ["bell#2024-03-10", "door#2024-03-10"]
    assert partitions_to_ask(names, ["door"], SealState(1, "2024-03-10"), day) == names[2:]
    assert partitions_to_ask(names, ["door"], SealState(1, "2024-03-09"), day) == ["door#2024-03-10"]


@pytest.mark.parametrize(
    ("tenants", "entities"), [(["acme", "globex"], ["a", "a"]), (["acme"] * 2, ["a", "b"]), (["acme"], ["a"])]
)
def test_foreign_rows_are_refused(tenants: list[str], entities: list[str]) -> None:
    """One row of another tenant or entity, or one row too few, is enough; the owner is not named."""
    run = Run("door", "events/x", 4, 2, 0, 0, 1, "index item p n", "a")
    with pytest.raises(Corrupt, match="index item p n points at rows 4 to 5 of events/x") as caught:
        check_owner("acme", run, pa.table({"tenant_id": tenants, "entity_id": entities}))
    assert "globex" not in str(caught.value)


# Counts --------------------------------------------------------------------------------------------------

CELL = TypeDay("door", "2024-03-10")


def _aggregate(duplicates: int = 0, other: int = 0, lineage: str = "0001", **sources: int) -> Aggregate:
    hours = [0] * 24
    hours[10] = sum(sources.values()) + other
    name = f"2024-03-10#open#{lineage}"
    return Aggregate("acme#door", name, 1, sum(hours), duplicates, 0, tuple(hours), sources, other)


@pytest.mark.parametrize(
    ("items", "question", "answer"),
    [
        ([_aggregate(hall=2), _aggregate(hall=1, lineage="0002")], Question(source="hall"), {"": (3, 0)}),
        ([_aggregate(hall=2)], Question(source="yard"), {"": (0, 0)}),
        ([_aggregate(hall=2, other=1)], Question(source="hall"), {"": (2, 0)}),
        ([_aggregate(hall=2, other=1)], Question(source="yard"), None),
        ([_aggregate(hall=2, other=1)], Question(source="hall", by="source"), {"hall": (2, 0)}),
        ([_aggregate(hall=2, other=1)], Question(by="source"), None),
        ([_aggregate(hall=2), _aggregate(yard=1, other=1)], Question(source="hall"), None),
        ([_aggregate(1, hall=2)], Question(source="hall"), None),
        ([_aggregate(1, hall=2)], Question(by="day"), {"2024-03-10": (2, 1)}),
        ([_aggregate(1, hall=2)], Question(by="hour"), None),
        ([_aggregate(hall=2)], Question(by="hour"), {"2024-03-10T10:00:00Z": (2, 0)}),
        ([_aggregate(hall=2)], Question(by="hour", source="hall"), None),
        ([_aggregate(hall=2)], Question(Span(NOON_US, END_US), by="type"), {"door": (0, 0)}),
        ([_aggregate(hall=2)], Question(Span(NOON_US + 1, END_US)), None),
        ([_aggregate(1, hall=2)], Question(Span(NOON_US, END_US)), None),
    ],
)
def test_what_aggregates_can_say(
    items: list[Aggregate], question: Question, answer: dict[str, tuple[int, int]] | None
) -> None:
    """An exact figure, or None: never a guess about an hour of a source, an unnamed source, or a copy's hour."""
    assert from_aggregates(CELL, items, question) == answer


def test_what_a_pointer_can_say() -> None:
    """A run is counted without its rows when all of it lies in the span and in one group."""
    run = Run("door", "k", 0, 5, 2, NOON_US, NOON_US + HOUR_US, "i")
    assert from_run(run, Question()) == {"": (3, 2)}
    assert from_run(run, Question(by="hour")) == {"2024-03-10T12:00:00Z": (3, 2)}
    assert from_run(run, Question(Span(NOON_US, NOON_US + HOUR_US))) == {"": (3, 2)}
    assert from_run(run, Question(Span(NOON_US + 1, END_US))) is None
    assert from_run(run, Question(source="hall")) is None
    longer = Run("door", "k", 0, 5, 2, NOON_US, NOON_US + HOUR_US + 1, "i")
    assert from_run(longer, Question(by="hour")) is None
    assert from_run(longer, Question(by="day")) == {"2024-03-10": (3, 2)}


# Traces --------------------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, 60), max_size=20), st.integers(0, 60))
def test_an_ids_file_holds_what_was_put_into_it(numbers: set[int], asked: int) -> None:
    """By both halves of a fingerprint, wherever in the file."""
    ids = decode_ids(encode_ids(fingerprints([("acme", f"e{number}") for number in numbers])))
    assert holds(ids, fingerprints([("acme", f"e{asked}")])) == (asked in numbers)


def test_ids_that_share_a_half_are_not_one() -> None:
    """Equal high halves alone are no find; among several the right low half is."""
    high, low = np.array([7, 7, 7, 9], dtype=np.uint64), np.array([1, 2, 3, 4], dtype=np.uint64)
    for wanted, found in ((1, True), (3, True), (4, False)):
        one = Fingerprints(np.array([7], dtype=np.uint64), np.array([wanted], dtype=np.uint64))
        assert holds(Fingerprints(high, low), one) is found


def _segment(ordinal: int, start: str | None, end: str | None, lineage: str = "0001") -> Segment:
    after = Position(start, 9) if start else None
    until = Position(end, 0) if end else None
    counts = Counts(1, 1, 1, 0, 0, 0, 1, 1)
    return Segment(lineage, ordinal, "committed", after, until, "", counts, (), "", 0, 0, 0)


def test_segments_of_a_receipt() -> None:
    """Those whose range holds a record of it, numbers compared as numbers, of that stream, epoch and shard only."""
    lineages = [
        Lineage(f"s-{epoch}-shard-{n}", f"000{epoch}{n}", "s", f"shard-{n}")
        for epoch in (1, 2)
        for n in (1, 2)
    ]
    segments = [
        _segment(ordinal, start, end, one.short)
        for one in lineages
        for ordinal, (start, end) in enumerate(
            [(None, "90"), ("90", "100"), ("100", "110"), ("110", None)], 1
        )
    ]
    batches = (AckedBatch(1, 0, 5, "shard-1", "100"), AckedBatch(1, 1, 5, "shard-2", "90"))
    found = covering(Receipt("prod", 0, "s", "2", 0, 0, batches), lineages, segments)
    assert [(one.lineage, one.ordinal) for one in found] == [("00021", 2), ("00022", 1)]


def test_a_receipt_of_another_shard_or_stream_acknowledged_nothing_here() -> None:
    """Sequence numbers repeat from shard to shard, and from one creation of a stream to the next."""
    lineage = Lineage("s-2-shard-1", "0001", "s", "shard-1")
    position = Position("100", 3)
    unit = Sighting("accepted", RowPlace("k", 0), 0, "open", "0001", 1, "e", "door", 0, "shard-1", position)
    found = [
        acknowledged_by(
            unit, lineage, [Receipt("prod", 4, "s", epoch, 0, 0, (AckedBatch(1, 0, 5, shard, number),))]
        )
        for epoch, shard, number in (
            ("2", "shard-1", "100"),
            ("1", "shard-1", "100"),
            ("2", "shard-2", "100"),
            ("2", "shard-1", "10"),
        )
    ]
    assert found == [ReceiptName("prod", 4), None, None, None]


def test_a_receipts_name() -> None:
    """PRODUCER#NUMBER, and nothing else."""
    assert parse_receipt("--receipt", "3f9c01ab22de#12") == ReceiptName("3f9c01ab22de", 12)
    for text in ("3f9c01ab22de", "#1", "3f9c01ab22de#", "3f9c01ab22de#x", "A#1"):
        with pytest.raises(ConfigProblem, match="PRODUCER#NUMBER"):
            parse_receipt("--receipt", text)
