"""Redrive: what was refused goes through once, as it came; what is refused still stays as it lies."""

from collections import Counter

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.errors import Corrupt
from pipeline.core.event import Record
from pipeline.core.keys import SegmentRef
from pipeline.core.redriven import Wanted
from pipeline.core.segment import CutLimits
from pipeline.core.span import parse_span
from pipeline.facts import UnitsRedriven
from pipeline.flows.decide import LoadLimits
from pipeline.flows.window import WindowLimits, family
from tests.core.kit import event, wire
from tests.fakes.objects import Stored
from tests.flows.deployment import Deployment
from tests.flows.redriving import (
    FIXED,
    STRICT,
    again,
    archived,
    bare,
    dry,
    labelled,
    marks,
    ports_of,
    send,
    strict_house,
    tables,
)

_DAY_SECONDS = 86_400


def test_what_is_fixed_goes_through_as_it_came() -> None:
    """Position, arrival and event time are those of the refused unit; its quarantine file is not touched."""
    house = strict_house()
    records = send(house, labelled(1), bare(2, event_time="2024-03-09T11:00:00Z"), b"rubbish", bare(3))
    before = tables(house, "quarantine/")
    house.clock.advance(_DAY_SECONDS)
    done = again(house)
    assert (done.looked_at, done.already, done.rows, done.duplicates, done.segments) == (3, 0, 2, 0, 1)
    assert done.redriven == Counter(schema_mismatch=2)
    assert done.refused == Counter(not_json=1)
    assert tables(house, "quarantine/") == before
    rows = [row for row in archived(house) if row["event_id"] in {"e2", "e3"}]
    refused = [row for found in before.values() for row in found if row["code"] == "schema_mismatch"]
    for name in ("ingested_time", "shard_id", "sequence_number", "subsequence_number", "tenant_id"):
        assert [row[name] for row in rows] == [row[name] for row in refused]
    assert [row["event_time"].isoformat() for row in rows] == [
        "2024-03-09T11:00:00+00:00",
        "2024-03-10T11:00:00+00:00",
    ]
    assert [row["received_time"] for row in rows] == [row["ingested_time"] for row in rows]
    assert [one.sequence_number for one in marks(house)] == [
        records[1].sequence_number,
        records[3].sequence_number,
    ]


def test_marks_name_rows_of_quarantine() -> None:
    """A mark has the file and row, the old code, and the segment that took the unit in."""
    house = strict_house()
    send(house, labelled(1), b"rubbish", bare(2))
    again(house)
    (mark,) = marks(house)
    row = tables(house, "quarantine/")[mark.place.key][mark.place.row]
    assert (row["code"], row["event_id"], mark.code, mark.units) == (
        "schema_mismatch",
        "e2",
        "schema_mismatch",
        1,
    )
    assert (row["sequence_number"], row["subsequence_number"]) == (
        mark.sequence_number,
        mark.subsequence_number,
    )
    (segment,) = house.ledger.segments("0002")
    assert mark.redriven_as == SegmentRef("0002", 1).name
    assert mark.redriven_us == house.clock.now_us()
    assert segment.counts.plain_units == 0
    assert (segment.counts.records, segment.counts.units, segment.batches) == (1, 1, ())
    assert segment.rules_digest == FIXED.digest
    assert f"rules/{FIXED.digest}.json" in house.objects.stored


def test_a_second_redrive_does_nothing() -> None:
    """No segment, no row: everything is known as redriven."""
    house = strict_house()
    send(house, bare(1), bare(2), b"rubbish")
    again(house)
    before = dict(house.objects.stored), dict(house.ledger.rows)
    done = again(house)
    assert (dict(house.objects.stored), dict(house.ledger.rows)) == before
    assert (done.already, done.rows, done.segments, done.redriven) == (2, 0, 0, Counter())


def test_a_dry_run_says_the_same_and_writes_nothing() -> None:
    """The figures of a dry run are those of the run, duplicates and segments apart."""
    house = strict_house()
    send(house, bare(1), bare(2), b"rubbish")
    again(house, wanted=Wanted(arrived=parse_span(None, "2024-03-10T12:00:00.5Z")))
    before = dict(house.objects.stored), dict(house.ledger.rows), dict(house.ledger.registered)
    said = dry(house)
    assert (dict(house.objects.stored), dict(house.ledger.rows), dict(house.ledger.registered)) == before
    done = again(house)
    assert (said.looked_at, said.already, said.redriven, said.refused, said.rows) == (
        done.looked_at,
        done.already,
        done.redriven,
        done.refused,
        done.rows,
    )
    assert (done.already, done.rows, done.refused) == (1, 1, Counter(not_json=1))


def test_what_is_refused_still_tells_the_code_of_today() -> None:
    """A unit whose tenant is known by now may fail for another reason: that one is told, and nothing is written."""
    house = strict_house()
    send(house, bare(1), bare(2, tenant_id="nobody"))
    done = again(house, STRICT)
    assert (done.redriven, done.rows) == (Counter(), 0)
    assert done.refused == Counter(schema_mismatch=1, unknown_tenant=1)
    assert not tables(house, "redriven/")
    assert not house.ledger.segments("0002")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (Wanted(code="schema_mismatch"), {"e1", "e2", "e3"}),
        (Wanted(code="not_json"), set()),
        (Wanted(tenant_id="globex"), {"e3"}),
        (Wanted(event_type="door"), {"e1", "e2", "e3"}),
        (Wanted(event_type="gate"), set()),
        (Wanted(arrived=parse_span("2024-03-11", None)), {"e2", "e3"}),
        (Wanted(arrived=parse_span("2024-03-11", "2024-03-11")), {"e2"}),
        (Wanted(arrived=parse_span("2024-03-11T12:00:02Z", "2024-03-13T00:00:00Z")), {"e3"}),
        (Wanted(tenant_id="acme", arrived=parse_span(None, "2024-03-10")), {"e1"}),
    ],
)
def test_only_what_is_wanted_goes_through(wanted: Wanted, expected: set[str]) -> None:
    """Code, tenant, type and arrival choose; the rest stays for another redrive."""
    house = strict_house()
    send(house, bare(1), b"rubbish")
    house.clock.advance(_DAY_SECONDS - 2)
    send(house, bare(2))
    house.clock.advance(_DAY_SECONDS - 1)
    send(house, bare(3, tenant_id="globex"))
    again(house, wanted=wanted)
    assert {row["event_id"] for row in archived(house)} == expected
    again(house)
    assert [row["event_id"] for row in archived(house)] == ["e1", "e2", "e3"]


def test_segments_are_bounded() -> None:
    """Each segment of a redrive keeps the limits of any segment, and each unit is in one of them."""
    house = strict_house(max_rows=1_000)
    send(house, *[bare(number) for number in range(25)])
    house.limits = LoadLimits(CutLimits(max_rows=10), WindowLimits())
    done = again(house)
    assert (done.rows, done.redriven.total(), done.looked_at) == (25, 25, 25)
    assert [one.counts.rows for one in house.ledger.segments("0002")] == [10, 10, 5]
    assert [row["event_id"] for row in archived(house)] == [f"e{number}" for number in range(25)]
    assert len({one.place for one in marks(house)}) == 25


def test_segments_are_bounded_by_bytes_too() -> None:
    """Large units make small segments."""
    house = strict_house(max_rows=1_000)
    send(house, *[bare(number, source="x" * 200) for number in range(8)])
    house.limits = LoadLimits(CutLimits(max_bytes=900), WindowLimits())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipeline.flows.redrive._CHUNK_BYTES", 1)
        assert again(house).rows == 8
    assert [one.counts.rows for one in house.ledger.segments("0002")] == [3, 3, 2]


def test_few_units_of_many_days_are_one_segment() -> None:
    """Days of arrival do not cut; each has its own file of marks."""
    house = strict_house()
    for number in range(5):
        send(house, bare(number))
        house.clock.advance(_DAY_SECONDS)
    assert again(house).segments == 1
    assert len(tables(house, "redriven/")) == 5


def test_an_event_sent_again_meanwhile_makes_a_duplicate() -> None:
    """The redriven event has the same id as one that was accepted in between: it is flagged, and counted as such."""
    house = strict_house()
    send(house, bare(1), bare(2))
    send(house, labelled(1))
    done = again(house)
    assert (done.rows, done.duplicates) == (2, 1)
    assert [(row["event_id"], row["is_duplicate"]) for row in archived(house)] == [
        ("e1", True),
        ("e2", False),
        ("e1", False),
    ]


def test_copies_in_quarantine_are_duplicates_of_each_other() -> None:
    """Of an event that was refused twice the first is accepted, over segments and redrives."""
    house = strict_house()
    send(house, bare(1), bare(1), bare(2))
    again(house, wanted=Wanted(arrived=parse_span(None, "2024-03-10T12:00:00.5Z")))
    again(house)
    assert [(row["event_id"], row["is_duplicate"]) for row in archived(house)] == [
        ("e1", False),
        ("e1", True),
        ("e2", False),
    ]


def test_a_redrive_looks_at_its_shards_kin() -> None:
    """Ancestors, descendants and the redrives of them all; of no other shard."""
    house = Deployment()
    ledger = house.ledger
    grand, parent, child, other = (
        ledger.register("s", "1", name, parents)
        for name, parents in (
            ("a", ()),
            ("b", ("0001",)),
            ("c", ("0002",)),
            ("z", ()),
        )
    )
    redrives = [ledger.register_redrive(one) for one in (grand, parent, child, other)]
    everyone = ledger.lineages()
    assert set(family(redrives[1], everyone)) == {"0001", "0002", "0003", "0005", "0006", "0007"}
    assert family(child, everyone) == ["0003", "0002", "0001"]
    assert ledger.register_redrive(parent) == redrives[1]


def _aggregate(*payloads: bytes) -> bytes:
    maker = RecordAggregator()
    for payload in payloads:
        maker.add_user_record("key", payload)
    found: bytes = maker.clear_and_get().get_contents()[2]
    return found


def test_units_of_an_aggregate_keep_their_places() -> None:
    """What was refused inside an aggregate goes back between its neighbours."""
    house = strict_house()
    send(house, _aggregate(labelled(1), bare(2), b"rubbish", bare(3)))
    again(house)
    assert [(row["event_id"], row["subsequence_number"]) for row in archived(house)] == [
        ("e1", 0),
        ("e2", 1),
        ("e3", 3),
    ]


class _Mended(Decoder):
    """Takes an aggregate apart that it once refused whole."""

    def decode(self, records: list[Record], first_index: int, into: Decoded) -> int:  # type: ignore[override]
        return super().decode([_mended(one) for one in records], first_index, into)


def _mended(record: Record) -> Record:
    whole = record.subsequence_number is None and record.data.endswith(b"broken")
    data = _aggregate(bare(1), b"rubbish", bare(2)) if whole else record.data
    return Record(
        record.sequence_number, record.partition_key, data, record.arrived_us, record.subsequence_number
    )


def test_a_record_refused_whole_may_come_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its one row is marked; what is still wrong in it is refused anew, in a place of its own, and can be redriven."""
    house = strict_house()
    send(house, _aggregate(bare(1))[:-6] + b"broken")
    monkeypatch.setattr("pipeline.flows.decide.Decoder", _Mended)
    done = again(house)
    assert (done.rows, done.redriven) == (2, Counter(bad_aggregate=1))
    assert [(row["event_id"], row["subsequence_number"]) for row in archived(house)] == [("e1", 0), ("e2", 2)]
    (mark,) = marks(house)
    assert (mark.units, mark.code) == (3, "bad_aggregate")
    (segment,) = house.ledger.segments("0002")
    assert (segment.counts.units, segment.counts.quarantined, segment.counts.plain_units) == (3, 1, 2)
    second = again(house)
    assert (second.looked_at, second.already, second.refused) == (2, 1, Counter(not_json=1))
    assert house.audit().balanced, house.audit().differences


def test_two_shards_have_redrives_of_their_own() -> None:
    """Each shard's refused units come back under its own shard id."""
    house = strict_house(shards=2)
    send(house, bare(1), shard=0)
    send(house, bare(2), shard=1)
    assert again(house).segments == 2
    assert {(row["event_id"], row["shard_id"]) for row in archived(house)} == {
        ("e1", "shardId-000000000000"),
        ("e2", "shardId-000000000001"),
    }


def test_rows_of_a_sealed_day_go_to_the_late_tier() -> None:
    """A redrive is a writer like any other: the day is sealed for it too."""
    house = strict_house()
    send(house, bare(1))
    house.ledger.raise_seal("2024-03-10")
    again(house)
    assert not archived(house)
    assert [row["event_id"] for found in tables(house, "late/").values() for row in found] == ["e1"]


def test_a_planned_segment_of_the_loader_is_left_alone() -> None:
    """What is not committed yet is not redriven, though its quarantine file is there."""
    house = strict_house()
    send(house, bare(1))
    house.alter_segment(1, lambda one: type(one)(**{**vars(one), "state": "planned"}))
    assert dry(house).looked_at == again(house).looked_at == 0


@pytest.mark.parametrize("damage", ["altered", "gone"])
def test_a_damaged_quarantine_file_is_not_redriven(damage: str) -> None:
    """Bytes that are not those that were written stop the redrive before it decides anything."""
    house = strict_house()
    send(house, bare(1), bare(2))
    key = house.data_key("quarantine/")
    body, digest = house.objects.stored[key]
    if damage == "gone":
        del house.objects.stored[key]
    else:
        house.objects.stored[key] = Stored(body[:-9] + bytes([body[-9] ^ 1]) + body[-8:], digest)
    with pytest.raises(Corrupt, match=key):
        again(house)
    assert not archived(house)


def test_an_event_of_the_future_is_judged_by_its_arrival() -> None:
    """What lay in the future when it arrived stays refused for ever."""
    house = strict_house()
    send(house, bare(1, event_time="2024-03-11T11:00:00Z"))
    house.clock.advance(3 * _DAY_SECONDS)
    assert again(house).refused == Counter(time_in_future=1)


_UNITS = st.lists(
    st.tuples(st.sampled_from(["good", "bare", "rubbish", "nobody"]), st.integers(0, 6), st.integers(0, 1)),
    min_size=1,
    max_size=30,
)


@settings(max_examples=25, deadline=None)
@given(
    _UNITS,
    st.lists(st.sampled_from([None, "schema_mismatch", "not_json"]), min_size=1, max_size=4),
    st.data(),
)
def test_any_redrives_come_to_the_same(
    units: list[tuple[str, int, int]], codes: list[str | None], data: st.DataObject
) -> None:
    """However often and with whatever filters: afterwards each fixed event is archived once, and the audit balances."""
    house = strict_house(shards=2, max_rows=5)
    made = {"good": labelled, "bare": bare}
    expected: Counter[str] = Counter()
    cut = data.draw(st.integers(0, len(units)))
    for part in (units[:cut], units[cut:]):
        for kind, number, shard in part:
            change = {"tenant_id": "nobody"} if kind == "nobody" else {}
            payload = b"rubbish" if kind == "rubbish" else made.get(kind, bare)(number, **change)
            house.stream.append(f"shardId-{shard:012d}", payload, "key")
            house.clock.advance(600)
            if kind in made:
                expected[f"e{number}"] += 1
        house.load()
        for code in codes:
            again(house, wanted=Wanted(code=code))
    again(house)
    rows = archived(house)
    assert Counter(row["event_id"] for row in rows) == expected
    report = house.audit()
    assert report.balanced, report.differences
    assert report.redriven == sum(kind == "bare" for kind, _, _ in units)
    assert report.total().quarantined == sum(kind in {"rubbish", "nobody"} for kind, _, _ in units)


def test_what_a_redrive_says_of_itself() -> None:
    """One fact per segment, by the code that the units had."""
    house = strict_house()
    send(house, bare(1), bare(2))
    house.facts.told.clear()
    again(house)
    names = house.facts.names()
    assert names[-2:] == ["SegmentCommitted", "UnitsRedriven"]
    assert house.facts.told[-1] == UnitsRedriven(lineage="0002", ordinal=1, codes={"schema_mismatch": 2})


def test_progress_counts_units() -> None:
    """Every unit that was looked at is told once."""
    from dataclasses import replace

    from pipeline.flows.redrive import redrive, try_redrive

    house = strict_house()
    send(house, bare(1), b"rubbish")
    told: list[int] = []
    ports = replace(ports_of(house), progress=told.append)
    try_redrive(Wanted(), FIXED, ports)
    assert sum(told) == 2
    redrive(Wanted(), FIXED, house.limits, ports)
    assert sum(told) == 4


def test_the_wire_of_the_kit_is_what_is_meant() -> None:
    """The strict schema refuses what the fixed one takes: otherwise nothing above would show anything."""
    house = strict_house()
    send(house, wire(event()))
    assert not archived(house)
