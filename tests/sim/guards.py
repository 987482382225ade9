"""The guards of the protocol, each with a switch that turns it off, and the invariants that see it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from pipeline.flows.load import Loader
from pipeline.flows.read import Shards
from pipeline.producer import Producer
from tests.fakes.index import MemoryAggregates
from tests.fakes.ledger import MemoryLedger
from tests.fakes.objects import MemoryObjects
from tests.sim.broken import (
    AnyPlanHolds,
    BareShardIds,
    CoveredLookedForOnce,
    CutInside,
    DigestNotCompared,
    HastyLedger,
    NoAncestors,
    NoFence,
    NoStaging,
    NotReadBack,
    OrdinalNotChecked,
    Overwriting,
    PartsForgotten,
    PlannedNotFinished,
    PredecessorNotChecked,
    RecordsDropped,
    RememberedEarly,
    SealNotChecked,
    StagedLate,
    TotalsAdded,
    TotalsKept,
    TotalsReadBefore,
    TwoReads,
    UnknownHolds,
    WindowOfNow,
)
from tests.sim.invariants import Invariant

Patch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Guard:
    """One way to run without a guard, or without several that cover each other.

    `caught_by` names the invariants one of which must break within 500 seeds; none: another guard covers it.
    """

    name: str
    caught_by: frozenset[Invariant] = frozenset()
    loader: type[Loader] = Loader
    ledger: Callable[[], MemoryLedger] = HastyLedger
    aggregates: Callable[[], MemoryAggregates] = MemoryAggregates
    objects: Callable[[], MemoryObjects] = MemoryObjects
    shards: type[Shards] = Shards
    producer: type[Producer] = Producer
    patches: tuple[Patch, ...] = ()
    checkpoint_ahead: bool = False

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let the functions that are no method be others for a while."""
        with ExitStack() as stack:
            for patch in self.patches:
                stack.enter_context(patch())
            yield


NONE = Guard("none")

_I = Invariant
_REDONE = frozenset({_I.AGREEMENT, _I.NOT_LOST, _I.NOT_REPEATED, _I.MANIFEST})
_LOST = frozenset({_I.NOT_LOST})
_FLAGS = frozenset({_I.DUPLICATES})
_TOTALS = frozenset({_I.AGGREGATES})

GUARDS = {
    one.name: one
    for one in (
        NONE,
        Guard("plan", frozenset({_I.DECIDED_ONCE, _I.SEALED}), ledger=AnyPlanHolds),
        Guard("ordinal", frozenset({_I.DECIDED_ONCE}), ledger=OrdinalNotChecked),
        Guard("staging", _REDONE, NoStaging),
        Guard("staged before the plan", frozenset({_I.AGREEMENT}), StagedLate),
        Guard("one read", frozenset({_I.LEDGER}), TwoReads),
        Guard("predecessor", ledger=PredecessorNotChecked),
        Guard("one read + predecessor", frozenset({_I.NOT_REPEATED}), TwoReads, PredecessorNotChecked),
        Guard("records kept", _LOST, RecordsDropped),
        Guard("unknown is not holds", frozenset({_I.AGREEMENT}), UnknownHolds),
        Guard("lineage in keys", _LOST | {_I.COUNTS, _I.LEDGER}, ledger=BareShardIds),
        Guard("digest", objects=DigestNotCompared),
        Guard("if-none-match", objects=Overwriting),
        Guard("staging + digest", _REDONE - {_I.AGREEMENT}, NoStaging, objects=DigestNotCompared),
        Guard("staging + if-none-match", frozenset({_I.UNCHANGED}), NoStaging, objects=Overwriting),
        Guard("remembered after the plan", _FLAGS, RememberedEarly),
        Guard("window read back", _FLAGS, NotReadBack),
        Guard("ancestors", _FLAGS, NoAncestors),
        Guard("window of a backlog", _FLAGS, WindowOfNow),
        Guard("seal version", frozenset({_I.SEALED}), ledger=SealNotChecked),
        Guard("fence", _TOTALS, aggregates=NoFence),
        Guard("totals, not additions", _TOTALS, aggregates=TotalsAdded),
        Guard("totals of the predecessor", _TOTALS, TotalsKept),
        Guard("totals after the commit", _TOTALS, TotalsReadBefore),
        Guard("planned finished first", _LOST | {_I.DRAINS}, PlannedNotFinished),
        Guard(
            "planned finished first + predecessor",
            _LOST | {_I.LEDGER},
            PlannedNotFinished,
            PredecessorNotChecked,
        ),
        Guard("checkpoint after commit", _LOST, checkpoint_ahead=True),
        Guard("cut between records", _LOST | {_I.COUNTS}, CutInside),
        Guard("covered looked for anew", frozenset({_I.NOT_REPEATED}), CoveredLookedForOnce),
        Guard("records covered whole", frozenset({_I.NOT_REPEATED}), PartsForgotten),
    )
}
