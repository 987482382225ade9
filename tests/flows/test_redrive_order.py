"""A redrive's actions in their order; a restart after every one of them, and another redrive or a loader between any two."""

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from pipeline.core.segment import CutLimits
from pipeline.flows.decide import LoadLimits
from pipeline.flows.redrive import Outcome
from pipeline.flows.window import WindowLimits
from tests.fakes.watched import Effect
from tests.flows.deployment import Deployment
from tests.flows.loading import ActionLog, Crash
from tests.flows.redriving import again, archived, bare, labelled, marks, send, strict_house

T = TypeVar("T")
_EFFECTS = 36  # of the whole run below, see test_two_segments_take_these_actions
_SHARD = "shardId-000000000000"


def _filled() -> Deployment:
    """Return a house whose redrive makes two segments, of two arrival days and two event days."""
    house = strict_house(max_rows=100)
    send(house, labelled(9), bare(1), bare(2, event_time="2024-03-09T11:00:00Z"), b"rubbish")
    house.clock.advance(43_200)  # inside the duplicate window, and on the next day
    send(house, bare(3), bare(1))
    house.limits = LoadLimits(CutLimits(max_rows=3), WindowLimits())
    return house


def test_two_segments_take_these_actions() -> None:
    """Marks seen, window, stage, plan, files, marks, ids, manifest, index, aggregates, commit: in this order."""
    house, log = _filled(), ActionLog()
    assert again(house, perform=log).segments == 2
    day = "manifest.files _quarantine#2024-03-"
    assert log.names == [
        "ledger.lineages",
        "ledger.open 0001",
        "ledger.lineages",
        "manifest.partitions",
        f"{day}10",
        f"{day}11",
        "ledger.register_redrive 0001",
        "objects.put rules/<digest>.json",
        "ledger.open 0002",
        "objects.get quarantine/dt=2024-03-10/0001-000000000001.parquet",
        f"{day}10",
        "ledger.lineages",
        "ledger.segments 0002",
        "ledger.recent 0001",
        "objects.get ids/0001/000000000001.ids",
        "objects.put staging/0002/000000000001-<digest>.seg",
        "ledger.plan 0002/1",
        "objects.put events/event_type=door/dt=2024-03-09/0002-000000000001.parquet",
        "objects.put events/event_type=door/dt=2024-03-10/0002-000000000001.parquet",
        "objects.put redriven/dt=2024-03-10/0002-000000000001.parquet",
        "objects.put ids/0002/000000000001.ids",
        "manifest.put_all",
        "index.put_all",
        "aggregates.put_newer",
        "ledger.commit 0002/1",
        "objects.get quarantine/dt=2024-03-11/0001-000000000002.parquet",
        f"{day}11",
        "objects.put staging/0002/000000000002-<digest>.seg",
        "ledger.plan 0002/2",
        "objects.put events/event_type=door/dt=2024-03-10/0002-000000000002.parquet",
        "objects.put redriven/dt=2024-03-11/0002-000000000002.parquet",
        "objects.put ids/0002/000000000002.ids",
        "manifest.put_all",
        "index.put_all",
        "aggregates.put_newer",
        "ledger.commit 0002/2",
    ]
    assert len(log.names) == _EFFECTS


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
    """Whatever happens to effect k, the redrive repeated leads to the same files, ledger, manifest, index, totals."""
    undisturbed, house = _filled(), _filled()
    again(undisturbed)
    try:
        done = again(house, perform=fault(number))
    except Crash:
        again(house)
    else:
        assert (done.redriven.total(), done.rows, done.segments) == (4, 4, 2)  # a lost answer loses no figure
    assert _compared(house) == _compared(undisturbed)
    assert house.audit().balanced, house.audit().differences


def _compared(house: Deployment) -> Any:
    """Return what readers see, but for the time of the redrive: a pause before a repeated call moves the clock."""
    rows = [(row["event_id"], row["is_duplicate"], row["sequence_number"]) for row in archived(house)]
    return rows, [one._replace(redriven_us=0) for one in marks(house)], sorted(house.manifest.entries)


class _Meanwhile:
    """Performs effects, and before one of them something else."""

    def __init__(self, number: int, act: Callable[[], object]) -> None:
        self._left, self._act = number, act

    def __call__(self, effect: Effect[T]) -> T:
        """Perform one effect."""
        self._left -= 1
        if self._left == 0:
            self._act()
        return effect.act()


@pytest.mark.parametrize("number", range(1, _EFFECTS + 1))
def test_two_redrives_at_once_are_one(number: int) -> None:
    """Another redrive that runs to its end between any two effects: each unit goes through once, told once."""
    undisturbed, house = _filled(), _filled()
    again(undisturbed)
    other: list[Outcome] = []

    def redrive_too() -> None:
        house.clock.advance(1)  # no two processes stage the same microsecond
        other.append(again(house))

    mine = again(house, perform=_Meanwhile(number, redrive_too))
    assert _compared(house) == _compared(undisturbed)
    assert house.audit().balanced, house.audit().differences
    assert mine.redriven.total() + other[0].redriven.total() == 4
    assert mine.segments + other[0].segments >= 2


@pytest.mark.parametrize("number", range(1, _EFFECTS + 1, 3))
def test_a_loader_meanwhile_disturbs_nothing(number: int) -> None:
    """A loader that commits, and refuses more, between any two effects: what it refused waits for the next redrive."""
    house = _filled()
    loaded = []

    def load() -> None:
        house.limits = LoadLimits(CutLimits(max_rows=100), WindowLimits())
        loaded.append(send(house, bare(5), labelled(6)))
        house.limits = LoadLimits(CutLimits(max_rows=3), WindowLimits())

    again(house, perform=_Meanwhile(number, load))
    assert loaded
    again(house)
    found = sorted((row["event_id"], row["is_duplicate"]) for row in archived(house))
    assert found == [
        ("e1", False),
        ("e1", True),
        ("e2", False),
        ("e3", False),
        ("e5", False),
        ("e6", False),
        ("e9", False),
    ]
    report = house.audit()
    assert report.balanced, report.differences
    assert report.redriven == 5
