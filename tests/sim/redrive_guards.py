"""The guards of a redrive, each with a switch that turns it off."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pipeline.core.segment import Lineage, redrive_lineage
from pipeline.flows import redrive as redrive_flow
from tests.fakes.ledger import MemoryLedger
from tests.sim.broken import AnyPlanHolds, HastyLedger, patched
from tests.sim.guards import Switches
from tests.sim.invariants import Invariant


@dataclass(frozen=True)
class RedriveGuard(Switches):
    """One way to redrive without a guard; `caught_by` as for the loader's."""

    ledger: Callable[[], MemoryLedger] = HastyLedger


class LineageAnew(HastyLedger):
    """Every redrive registers a lineage of its own."""

    def register_redrive(self, source: Lineage) -> Lineage:
        found = redrive_lineage(source, f"{len(self.registered) + 1:04d}")
        self.registered[f"{found.name}-{found.short}"] = found
        return found


class MarksSeenOnce(redrive_flow.Redriver):
    """The marks of a day are read once, whatever others decide afterwards."""

    def _take(self, days: Sequence[str]) -> None:
        super()._take([dt for dt in days if dt not in self._seen])


@contextmanager
def marks_seen_once() -> Iterator[None]:
    """Let every redrive be one that reads marks once."""
    with patched(redrive_flow, "Redriver", MarksSeenOnce):
        yield


@contextmanager
def marks_left_out() -> Iterator[None]:
    """Write the rows and not the marks."""
    with patched(redrive_flow, "encode_marks", lambda _marks, _place: []):
        yield


_TWICE = frozenset({Invariant.NOT_REPEATED})
NO_REDRIVE_GUARD = RedriveGuard("redrive")
REDRIVE_GUARDS = {
    one.name: one
    for one in (
        NO_REDRIVE_GUARD,
        RedriveGuard("redrive: plan", _TWICE | {Invariant.UNBROKEN}, ledger=AnyPlanHolds),
        RedriveGuard("redrive: one lineage", _TWICE, ledger=LineageAnew),
        RedriveGuard("redrive: marks seen anew", _TWICE, patches=(marks_seen_once,)),
        RedriveGuard(
            "redrive: marks with the rows", frozenset({Invariant.MARKED}), patches=(marks_left_out,)
        ),
    )
}
