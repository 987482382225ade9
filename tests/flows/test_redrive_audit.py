"""The audit of redrives: it balances and says what was redriven; each way a redrive could go wrong has a name."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import pytest

from pipeline.core import redriven
from pipeline.core.encode import Place
from pipeline.core.event import Record
from pipeline.core.keys import SegmentRef
from pipeline.core.redriven import Mark, RefusedPlace, RefusedUnit, Wanted
from pipeline.core.segment import Segment
from pipeline.core.span import parse_span
from pipeline.flows import redrive
from pipeline.flows.audit import AuditPorts
from pipeline.flows.marks import Marks
from tests.flows import deployment
from tests.flows.deployment import Deployment
from tests.flows.redriving import again, bare, labelled, send, strict_house, tables

_marks_of = redriven.marks_of
Plant = Callable[[Deployment, pytest.MonkeyPatch], None]


def _house() -> Deployment:
    house = strict_house()
    send(house, labelled(1), bare(2), b"rubbish", bare(3))
    send(house, labelled(3), bare(4))
    return house


def test_a_redriven_archive_balances() -> None:
    """Redriven units move from quarantined to archived and duplicates; received stays what it was."""
    house = _house()
    before = house.audit()
    again(house)
    after = house.audit()
    assert before.balanced
    assert after.balanced, after.differences
    assert (before.total().received, before.total().archived, before.total().quarantined) == (6, 2, 4)
    total = after.total()
    assert (total.received, total.archived, total.duplicates, total.quarantined) == (6, 4, 1, 1)
    assert (before.redriven, after.redriven) == (0, 3)
    assert (after.plain, after.unreceipted, after.sent_twice, after.in_flight) == (6, 0, 0, 0)
    assert {shard for shard, _ in after.lines} == {"shardId-000000000000"}


def test_receipts_agree_with_what_was_redriven() -> None:
    """Of a batch that was refused in part, acknowledged is what is archived and redriven; no batch is seen twice."""
    house = strict_house()
    producer = house.producer()
    for number in range(20):
        payload = bare(number) if number % 3 else labelled(number)
        producer.put("acme", f"door-{number % 8}", payload)
    producer.close()
    house.load()
    again(house, wanted=Wanted(arrived=parse_span(None, "2024-03-10T11:00:00Z")))  # nothing is that old
    again(house)
    report = house.audit()
    assert report.balanced, report.differences
    assert (report.redriven, report.sent_twice, report.plain, report.unreceipted) == (13, 0, 0, 0)
    assert (report.total().received, report.total().archived) == (20, 20)


def test_parts_of_one_record_may_go_at_different_times() -> None:
    """Two redrives of one aggregate's units, by tenant: the record is whole again, nothing counts as repeated."""
    house = strict_house()
    producer = house.producer()
    for number in range(4):
        tenant = "acme" if number % 2 else "globex"
        producer.put(tenant, "door-1", bare(number, entity_id="door-1", tenant_id=tenant))
    producer.close()
    house.load()
    again(house, wanted=Wanted(tenant_id="acme"))
    assert house.audit().balanced, house.audit().differences
    again(house, wanted=Wanted(tenant_id="globex"))
    report = house.audit()
    assert report.balanced, report.differences
    assert report.redriven == 4


def test_a_planned_redrive_is_on_its_way() -> None:
    """What is not committed is still quarantined, and no difference."""
    house = _house()
    again(house)
    key = ("0002", 1)
    house.ledger.rows[key] = replace(house.ledger.rows[key], state="planned")
    report = house.audit()
    assert report.balanced, report.differences
    assert (report.redriven, report.total().quarantined) == (0, 4)


def test_a_redrive_that_lands_while_the_audit_reads_is_no_difference() -> None:
    """A loader's segment and the redrive of what it refused, both committed between two reads of the ledger."""
    house = _house()
    again(house)
    inner = house.ledger.segments

    def segments(lineage: str) -> list[Segment]:
        found = inner(lineage)
        if not landed:
            landed.append(True)
            send(house, bare(8))
            again(house)
        return found

    landed: list[bool] = []
    house.ledger.segments = segments  # type: ignore[method-assign]
    report = house.audit()
    assert landed
    assert not report.differences


def _mark_astray(_house: Deployment, patch: pytest.MonkeyPatch) -> None:
    def marks(units: Iterable[tuple[RefusedUnit, int]], place: Place, now_us: int) -> list[Mark]:
        found = _marks_of(units, place, now_us)
        return [one._replace(place=RefusedPlace(one.place.key, one.place.row + 90)) for one in found]

    patch.setattr(redrive, "marks_of", marks)
    again(_house)


def _mark_of_another_shard(house: Deployment, patch: pytest.MonkeyPatch) -> None:
    def marks(units: Iterable[tuple[RefusedUnit, int]], place: Place, now_us: int) -> list[Mark]:
        found = _marks_of(units, place, now_us)
        return [
            one._replace(place=RefusedPlace(one.place.key.replace("0001-", "0009-"), one.place.row))
            for one in found
        ]

    patch.setattr(redrive, "marks_of", marks)
    again(house)


def _marks_not_looked_at(house: Deployment, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Marks, "of", lambda _self, _day: {})
    again(house)
    again(house)


def _row_without_mark(house: Deployment, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(redrive, "marks_of", lambda units, place, now_us: _marks_of(units[1:], place, now_us))
    again(house)


def _mark_without_row(house: Deployment, patch: pytest.MonkeyPatch) -> None:
    def marks(units: Iterable[tuple[RefusedUnit, int]], place: Place, now_us: int) -> list[Mark]:
        found = _marks_of(units, place, now_us)
        return [one._replace(units=2) for one in found]

    patch.setattr(redrive, "marks_of", marks)
    again(house)


def _other_bytes(house: Deployment, patch: pytest.MonkeyPatch, before: bytes, after: bytes) -> None:
    def record(unit: RefusedUnit) -> Record:
        raw = unit.raw.replace(before, after)
        return Record(unit.sequence_number, unit.partition_key, raw, unit.arrived_us, unit.subsequence_number)

    patch.setattr(RefusedUnit, "record", property(record))
    again(house)


def _other_places(house: Deployment, patch: pytest.MonkeyPatch) -> None:
    def record(unit: RefusedUnit) -> Record:
        place = unit.subsequence_number + 1
        return Record(unit.sequence_number, unit.partition_key, unit.raw, unit.arrived_us, place)

    patch.setattr(RefusedUnit, "record", property(record))
    again(house)


@pytest.mark.parametrize(
    ("plant", "kinds"),
    [
        (_mark_astray, {"redriven_stray"}),
        (_mark_of_another_shard, {"redriven_stray"}),
        (_marks_not_looked_at, {"redriven_twice"}),
        (_row_without_mark, {"redriven_unmarked"}),
        (_mark_without_row, {"redriven_unmarked"}),
        (_other_places, {"redriven_unmarked"}),
        (partial(_other_bytes, before=b'"n":1', after=b'"n":2'), {"redriven_altered"}),
        (partial(_other_bytes, before=b'"event_id":"e', after=b'"event_id":"f'), {"redriven_altered"}),
        (partial(_other_bytes, before=b"acme", after=b"globex"), {"redriven_altered"}),
    ],
)
def test_what_could_go_wrong_is_named(plant: Plant, kinds: set[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is as it was written, and yet the redrive was wrong."""
    house = _house()
    plant(house, monkeypatch)
    report = house.audit()
    assert not report.balanced
    assert {one.kind for one in report.differences} == kinds


def test_damaged_marks_are_named() -> None:
    """A file of marks that is gone, or cannot be read, is a difference like any file's."""
    house = _house()
    again(house)
    key = house.data_key("redriven/")
    body = house.objects.get(key)
    house.put_object(key, b"\0" * len(body))
    assert {"file_unreadable", "redriven_unmarked"} <= set(house.kinds())
    del house.objects.stored[key]
    assert {"file_missing", "redriven_unmarked"} <= set(house.kinds())
    house.put_object(key, body)
    assert not house.kinds()
    house.put_object(key.replace("0002-000000000001", SegmentRef("0002", 7).name), body)
    assert {"file_stray", "segment_unknown", "redriven_twice"} <= set(house.kinds())


def test_quarantine_that_is_gone_leaves_its_marks_astray() -> None:
    """The unit's bytes are what a redriven row is held against: without them nobody can say."""
    house = _house()
    again(house)
    key = next(iter(tables(house, "quarantine/")))
    del house.objects.stored[key]
    assert {"file_missing", "redriven_stray"} <= set(house.kinds())


@pytest.mark.parametrize(
    ("prefix", "column"),
    [
        ("quarantine/", b"tenant_id"),
        ("quarantine/", b"sequence_number"),
        ("events/", b"data_json"),
        ("events/", b"sequence_number"),
        ("redriven/", b"units"),
        ("redriven/", b"sequence_number"),
    ],
)
def test_a_column_that_lost_its_name_is_named(prefix: str, column: bytes) -> None:
    """One byte of a column's name altered, wherever it stands: what a redrive read or wrote is no witness then, and the audit goes on."""
    house = _house()
    again(house)
    key = max(
        one for one in house.objects.stored if one.startswith(prefix)
    )  # the redrive's, where it wrote one
    house.put_object(key, house.objects.get(key).replace(column, b"x" + column[1:]))
    assert any(kind.startswith("file_") for kind in house.kinds())
    del house.manifest.entries[next(at for at, one in house.manifest.entries.items() if one.key == key)]
    assert "file_stray" in house.kinds()


def test_altered_ids_of_a_redrive_are_named() -> None:
    """A redrive's segment has marks beside its rows: they are no rows, and its fingerprints are held against the rows alone."""
    house = _house()
    again(house)
    key = max(one for one in house.objects.stored if one.startswith("ids/0002/"))
    body = house.objects.get(key)
    house.put_object(key, bytes([body[0] ^ 1]) + body[1:])
    assert house.kinds() == ["ids_altered"]


def test_progress_tells_objects_and_redriven_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """A long comparison of redriven units is not silent."""
    house, told = _house(), list[int]()
    again(house)
    monkeypatch.setattr(
        deployment, "AuditPorts", lambda **ports: AuditPorts(**{**ports, "progress": told.append})
    )
    assert house.audit().redriven == 3
    objects = sum(
        key.startswith(("events/", "late/", "quarantine/", "redriven/")) for key in house.objects.stored
    )
    assert sum(told) == objects + 3
