"""The names of what must hold, and what a breach looks like."""

from dataclasses import dataclass
from enum import StrEnum


class Invariant(StrEnum):
    """What holds in every run; a guard's test says which of these it protects."""

    NOT_LOST = "no unit is lost"
    NOT_REPEATED = "no unit is stored twice"
    UNALTERED = "a stored unit is what was produced"
    QUARANTINE = "quarantine holds what was refused, and nothing else"
    DUPLICATES = "duplicates are flagged by the window"
    LEDGER = "segments follow each other without holes"
    COUNTS = "a segment's counts are what it holds"
    MANIFEST = "the manifest names the data files"
    INDEX = "the index names every row once"
    AGGREGATES = "aggregates equal the archive"
    NAMED = "the bucket holds what committed segments name"
    SEALED = "a sealed day stays closed"
    UNCHANGED = "an object is never overwritten"
    DECIDED_FIRST = "nothing is visible that is not decided"
    IN_ORDER = "rows come before index, index before totals"
    COMPLETE = "what is committed is complete: the watermark is never ahead"
    ACKNOWLEDGED = "what a producer acknowledged is in the stream"
    ORDER = "an entity keeps its order"
    AUDIT = "the audit balances"
    DECIDED_ONCE = "a segment is decided once"
    AGREEMENT = "no two writers disagree"
    RESULTS = "replay: results are those of a plain count"
    CHUNKS = "replay: every chunk counts once"
    FROZEN = "replay: a job that exists is frozen whole"
    MESSAGES = "replay: a message stays until its chunk is done"
    MARKED = "redrive: what goes through again is marked, once"
    GAPS = "a gap begins where reading is known to have been"
    WATERMARKS = "what is noted as read is committed"
    UNBROKEN = "no worker breaks"
    DRAINS = "everything drains"


@dataclass(frozen=True)
class Violation:
    """One breach."""

    invariant: Invariant
    detail: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.detail}"


class ViolatedError(Exception):
    """Ends a run at the step that breached an invariant."""

    def __init__(self, invariant: Invariant, detail: str) -> None:
        self.violation = Violation(invariant, detail)
        super().__init__(str(self.violation))
