"""The guards of the protocol, each with a switch that turns it off, and the invariants that see it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from pipeline.flows.load import Loader
from pipeline.flows.read import Shards
from pipeline.sending import Producer
from tests.fakes.index import MemoryAggregates, MemoryIndex
from tests.fakes.ledger import MemoryLedger
from tests.fakes.manifest import MemoryManifest
from tests.fakes.objects import MemoryObjects
from tests.sim.broken import (
    AnswersUnread,
    AnyPlanHolds,
    BareShardIds,
    CommitNotCompared,
    DigestNotCompared,
    ExpiredAtOnce,
    HastyLedger,
    NoFence,
    OrdinalNotChecked,
    Overwriting,
    ParentsNotAwaited,
    PartOfIndex,
    PartOfManifest,
    PredecessorNotChecked,
    ReceiptsForgotten,
    SealNotChecked,
    StartsNotCounted,
    TotalsAdded,
    committed_first,
    index_without_segment,
    parents_only,
    positions_as_text,
    slots_mixed,
    written_backwards,
)
from tests.sim.broken_loader import (
    AheadNotRefused,
    ArrivalOfNow,
    CoveredLookedForOnce,
    CutInside,
    GapsNotRecorded,
    KeptWhole,
    NeverExpired,
    NoAncestors,
    NoStaging,
    NotedThoughCollected,
    NotedWithoutMargin,
    NotReadBack,
    OwnArrivals,
    PartsForgotten,
    PlannedNotFinished,
    ReadTwice,
    RecordsDropped,
    RememberedEarly,
    RulesNotStored,
    SealOfLater,
    StagedLate,
    TotalsKept,
    TotalsReadBefore,
    TwoReads,
    UnknownHolds,
    WindowOfNow,
)
from tests.sim.invariants import Invariant

Patch = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Switches:
    """One way to run without a guard, or without several that cover each other.

    `caught_by` names the invariants one of which must break within 500 seeds; none: another guard covers it.
    """

    name: str
    caught_by: frozenset[Invariant] = frozenset()
    patches: tuple[Patch, ...] = ()

    @contextmanager
    def off(self) -> Iterator[None]:
        """Let the functions that are no method be others for a while."""
        with ExitStack() as stack:
            for patch in self.patches:
                stack.enter_context(patch())
            yield


@dataclass(frozen=True)
class Guard(Switches):
    """A guard of the loader, of its stores or of the producer."""

    loader: type[Loader] = Loader
    ledger: Callable[[], MemoryLedger] = HastyLedger
    aggregates: Callable[[], MemoryAggregates] = MemoryAggregates
    objects: Callable[[], MemoryObjects] = MemoryObjects
    manifest: Callable[[], MemoryManifest] = MemoryManifest
    index: Callable[[], MemoryIndex] = MemoryIndex
    shards: type[Shards] = Shards
    producer: type[Producer] = Producer
    checkpoint_ahead: bool = False
    asked_at_delivery: bool = False


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
        Guard("staging", _REDONE, loader=NoStaging),
        Guard("staged before the plan", frozenset({_I.AGREEMENT}), loader=StagedLate),
        Guard("one read", frozenset({_I.LEDGER}), loader=TwoReads),
        Guard("predecessor", ledger=PredecessorNotChecked),
        Guard(
            "one read + predecessor",
            frozenset({_I.NOT_REPEATED}),
            loader=TwoReads,
            ledger=PredecessorNotChecked,
        ),
        Guard("records kept", _LOST, loader=RecordsDropped),
        Guard("unknown is not holds", frozenset({_I.AGREEMENT, _I.DECIDED_FIRST}), loader=UnknownHolds),
        Guard("lineage in keys", _LOST | {_I.COUNTS, _I.LEDGER}, ledger=BareShardIds),
        Guard("digest", objects=DigestNotCompared),
        Guard("if-none-match", objects=Overwriting),
        Guard("staging + digest", _REDONE - {_I.AGREEMENT}, loader=NoStaging, objects=DigestNotCompared),
        Guard("staging + if-none-match", frozenset({_I.UNCHANGED}), loader=NoStaging, objects=Overwriting),
        Guard("remembered after the plan", _FLAGS, loader=RememberedEarly),
        Guard("window read back", _FLAGS, loader=NotReadBack),
        Guard("ancestors", _FLAGS, loader=NoAncestors),
        Guard("window of a backlog", _FLAGS, loader=WindowOfNow),
        Guard("seal version", frozenset({_I.SEALED}), ledger=SealNotChecked),
        Guard("fence", _TOTALS, aggregates=NoFence),
        Guard("totals, not additions", _TOTALS, aggregates=TotalsAdded),
        Guard("totals of the predecessor", _TOTALS, loader=TotalsKept),
        Guard("totals after the commit", _TOTALS, loader=TotalsReadBefore),
        Guard("planned finished first", _LOST | {_I.DRAINS}, loader=PlannedNotFinished),
        Guard(
            "planned finished first + predecessor",
            _LOST | {_I.LEDGER},
            loader=PlannedNotFinished,
            ledger=PredecessorNotChecked,
        ),
        Guard("checkpoint after commit", _LOST, checkpoint_ahead=True),
        Guard("asked before the fetch", frozenset({_I.WATERMARKS}), asked_at_delivery=True),
        Guard("cut between records", _LOST | {_I.COUNTS}, loader=CutInside),
        Guard("covered looked for anew", frozenset({_I.NOT_REPEATED}), loader=CoveredLookedForOnce),
        Guard("records covered whole", frozenset({_I.NOT_REPEATED}), loader=PartsForgotten),
        Guard("gap recorded", _LOST, loader=GapsNotRecorded),
        Guard("noted when committed", frozenset({_I.WATERMARKS}), loader=NotedThoughCollected),
        Guard("noted with a margin", frozenset({_I.WATERMARKS}), loader=NotedWithoutMargin),
        Guard("starts counted", frozenset({_I.DRAINS}), ledger=StartsNotCounted),
        Guard("commit compares", ledger=CommitNotCompared),
        Guard(
            "unknown is not holds + commit compares",
            frozenset({_I.DECIDED_FIRST}),
            loader=UnknownHolds,
            ledger=CommitNotCompared,
        ),
        Guard("totals ahead are refused", loader=AheadNotRefused),
        Guard("window asked again", _FLAGS, loader=NeverExpired),
        Guard("covered records let go", frozenset({_I.NOT_REPEATED}), loader=KeptWhole),
        Guard("re-reads dropped", frozenset({_I.NOT_REPEATED}), loader=ReadTwice),
        Guard("rules stored", frozenset({_I.AUDIT}), loader=RulesNotStored),
        Guard("arrivals of the stream", frozenset({_I.COUNTS}), loader=OwnArrivals),
        Guard("arrivals never go back", _FLAGS, loader=ArrivalOfNow),
        Guard("seal of the opening", frozenset({_I.SEALED}), loader=SealOfLater),
        Guard("parents first", _FLAGS, shards=ParentsNotAwaited),
        Guard("expired in their order", _LOST, shards=ExpiredAtOnce),
        Guard("grandparents", _FLAGS, patches=(parents_only,)),
        Guard("positions are numbers", _LOST | {_I.DRAINS}, patches=(positions_as_text,)),
        Guard("rows, index, totals", frozenset({_I.IN_ORDER}), patches=(written_backwards,)),
        Guard("commit comes last", frozenset({_I.COMPLETE}), patches=(committed_first,)),
        Guard("segment in index names", frozenset({_I.INDEX}), patches=(index_without_segment,)),
        Guard("all manifest entries", frozenset({_I.COMPLETE}), manifest=PartOfManifest),
        Guard("all index items", frozenset({_I.IN_ORDER}), index=PartOfIndex),
        Guard("answers read", frozenset({_I.ACKNOWLEDGED}), producer=AnswersUnread),
        Guard("receipts kept", frozenset({_I.AUDIT, _I.ACKNOWLEDGED}), producer=ReceiptsForgotten),
        Guard("one batch of a slot", frozenset({_I.ORDER}), patches=(slots_mixed,)),
    )
}
