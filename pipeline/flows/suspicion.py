"""Records that kill the process: found in a process of their own, and kept away from the loader.

A crash, a hang or a lack of memory leaves nothing but a start at the same position, again. From the third such start on,
a loader has records tried in another process before it touches them, until it has committed something.
"""

from collections.abc import Iterator, Sequence

from pipeline.core.event import Record
from pipeline.core.open_segment import unit_key
from pipeline.core.segment import Lineage
from pipeline.facts import DeadlyRecordFound, RecordsProbed
from pipeline.flows.write import WritePorts
from pipeline.ports.probe import Probe

# Two deaths at one position may be accidents (a deploy, a machine). A third would cost a quarter of what a supervisor
# usually allows in a minute (5), with more shards than one to find something in.
PROBED_START = 3
Deadly = frozenset[tuple[str, int]]


class Suspicion:
    """What one loader knows of records that kill; `deadly` holds their sequence and sub-sequence numbers."""

    def __init__(self, lineage: Lineage, ports: WritePorts) -> None:
        self._lineage, self._ports = lineage, ports
        self._starts = 0
        self.deadly: Deadly = frozenset()

    def begin(self, starts: int) -> None:
        """Be told how many loaders started at this position, this one included."""
        self._starts = starts

    def lift(self) -> None:
        """Be told that the committed end has moved: past what was tried."""
        self._starts = 0

    def look(self, records: Sequence[Record]) -> None:
        """Find the deadly ones among records that the loader is about to collect, if there is a suspicion."""
        probe = self._ports.probe
        if probe is None or self._starts < PROBED_START or not records:
            return
        found: list[Record] = []
        if not probe.survives(records) and probe.survives([]):
            found = list(_hunt(records, probe))
        self.deadly |= {unit_key(record) for record in found}
        short = self._lineage.short
        self._ports.facts(
            RecordsProbed(lineage=short, starts=self._starts, records=len(records), deadly=len(found))
        )
        for record in found:
            self._ports.facts(DeadlyRecordFound(lineage=short, sequence_number=record.sequence_number))


def _hunt(records: Sequence[Record], probe: Probe) -> Iterator[Record]:
    """Yield the deadly ones among records that together did not survive, by halves; one alone is tried twice."""
    if len(records) == 1:
        if not probe.survives(records):  # the first time the machine may have been busy
            yield records[0]
        return
    middle = len(records) // 2
    for half in (records[:middle], records[middle:]):
        if not probe.survives(half):
            yield from _hunt(half, probe)
