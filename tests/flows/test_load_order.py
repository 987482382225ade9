"""The loader's actions in their order, and a restart after every single one of them."""

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.core.event import Record
from pipeline.core.segment import Segment
from tests.flows.loading import ActionLog, Crash, House, event
from tests.sim.archive import StoredRefusal, StoredRow, is_data

_BATCHES = (
    (event(1), event(2, "meter.read", "2024-03-08"), b"not json"),
    (event(1), event(3), event(3, day="2024-03-10")),
)
_EFFECTS = 24  # of the whole run below, see test_two_segments_take_these_actions


def _load(house: House, log: ActionLog, records: list[Record]) -> None:
    """Load what is in the shard the way a worker does: from where the ledger says, one segment per batch."""
    loader = house.loader(log)
    after = loader.start()
    sizes = [len(batch) for batch in _BATCHES]
    for first, last in ((0, sizes[0]), (sizes[0], sum(sizes))):
        batch = records[first:last]
        if after is None or int(batch[-1].sequence_number) > int(after.sequence_number):
            loader.process(batch)
            loader.cut("test")


def _filled() -> tuple[House, list[Record]]:
    house = House()
    records = []
    for batch in _BATCHES:
        records += house.put(*batch)
        house.clock.advance(1)
    return house, records


def _state(house: House) -> tuple[list[StoredRow | StoredRefusal], list[Segment], list[str], list[Any]]:
    """Return everything that readers and the next loader see."""
    segments = house.ledger.segments(house.lineage.short)
    entries = [str(entry) for entry in house.manifest.all_files()]
    keys = sorted(key for key in house.objects.stored if is_data(key) or key.startswith("ids/"))
    packed = [*house.index.all_items(), *house.aggregates.all_items()]
    return house.rows(), segments, entries, [*keys, *packed]


def test_two_segments_take_these_actions() -> None:
    """Totals before, stage, plan, files, ids, manifest, index, aggregates, commit: in this order, and nothing else."""
    house, records = _filled()
    log = ActionLog()
    _load(house, log, records)
    assert log.names == [
        "objects.put rules/<digest>.json",
        "ledger.open 0001",
        "ledger.started 0001",
        *_segment(
            1,
            "events/event_type=door.opened/dt=2024-03-09/0001-000000000001.parquet",
            "events/event_type=meter.read/dt=2024-03-08/0001-000000000001.parquet",
            "quarantine/dt=2024-03-10/0001-000000000001.parquet",
        ),
        *_segment(
            2,
            "events/event_type=door.opened/dt=2024-03-09/0001-000000000002.parquet",
            "events/event_type=door.opened/dt=2024-03-10/0001-000000000002.parquet",
        ),
    ]
    assert house.flags() == [False, False, True, False, True]
    assert house.facts.names() == [
        "LoaderOpened",
        "UnitsRefused",
        "SegmentCommitted",
        "SegmentCommitted",
    ]


def _segment(ordinal: int, *files: str) -> list[str]:
    before = ["ledger.recent 0001"] if ordinal == 1 else ["aggregates.read"]  # the window is remembered
    return [
        *before,
        f"objects.put staging/0001/{ordinal:012d}-<digest>.seg",
        f"ledger.plan 0001/{ordinal}",
        *[f"objects.put {file}" for file in files],
        f"objects.put ids/0001/{ordinal:012d}.ids",
        "manifest.put_all",
        "index.put_all",
        "aggregates.put_newer",
        f"ledger.commit 0001/{ordinal}",
    ]


@pytest.mark.parametrize("number", range(1, _EFFECTS + 1))
@pytest.mark.parametrize(
    "fault",
    [
        lambda number: ActionLog(crash_before=number),
        lambda number: ActionLog(crash_after=number),
        lambda number: ActionLog(lose=number),
        lambda number: ActionLog(fail=number),
    ],
    ids=["crash before", "crash after", "answer lost", "call failed"],
)
def test_a_fault_at_any_effect_changes_nothing(fault: Callable[[int], ActionLog], number: int) -> None:
    """Whatever happens to effect k, a restart leads to the same rows, segments, manifest and keys."""
    undisturbed, records = _filled()
    _load(undisturbed, ActionLog(), records)
    house, records = _filled()
    try:
        _load(house, fault(number), records)
    except Crash:
        _load(house, ActionLog(), records)
    assert _state(house) == _state(undisturbed)


def test_the_faults_reach_every_effect() -> None:
    """The number of effects above is the number there are."""
    house, records = _filled()
    log = ActionLog()
    _load(house, log, records)
    assert len(log.names) == _EFFECTS
