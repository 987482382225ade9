"""Records that kill the process: found in a process of their own, and kept away from the loader.

A crash, a hang or a lack of memory leaves nothing but a start at the same position, again. From the third such start on,
a loader has records tried in another process before it touches them, until it has committed something.
"""

import threading
from collections.abc import Sequence

from pipeline.core.event import Record
from pipeline.core.open_segment import unit_key
from pipeline.core.segment import Lineage
from pipeline.facts import DeadlyRecordFound, ProbeDoubted, RecordsProbed
from pipeline.flows.write import WritePorts
from pipeline.ports.clock import Clock
from pipeline.ports.probe import Death, Probe

# Two deaths at one position may be accidents (a deploy, a machine). A third would cost a quarter of what a supervisor
# usually allows in a minute (5), with more shards than one to find something in.
PROBED_START = 3
# A child takes one to start, and good ones get half: with less, a death would say nothing.
_LEAST_SECONDS = 4.0
_alone = (
    threading.Lock()
)  # of all loaders in this process one hunts: children beside each other would only slow each other


class Suspicion:
    """What one loader knows of records that kill.

    Attributes:
        deadly: sequence and sub-sequence numbers, with how a process dies of each.
    """

    def __init__(self, lineage: Lineage, ports: WritePorts, hunt_seconds: float) -> None:
        self._lineage, self._ports, self._hunt_seconds = lineage, ports, hunt_seconds
        self._starts = 0
        self.deadly: dict[tuple[str, int], str] = {}

    def begin(self, starts: int) -> None:
        """Be told how many loaders started at this position, this one included."""
        self._starts = starts

    def lift(self) -> None:
        """Be told that the committed end has moved: past what was tried."""
        self._starts = 0

    def look(self, records: Sequence[Record]) -> Record | None:
        """Find the deadly ones among records that the loader is about to collect, if there is a suspicion.

        Returns:
            Where time ran out, the first record of which nothing is known: what comes before it may be collected.
        """
        probe = self._ports.probe
        if probe is None or self._starts < PROBED_START or not records:
            return None
        with _alone:
            hunt = _Hunt(probe, self._ports.clock, self._hunt_seconds)
            hunt.run(records)
        self.deadly |= {unit_key(record): death.words for record, death in hunt.found}
        short, tell = self._lineage.short, self._ports.facts
        tell(RecordsProbed(lineage=short, starts=self._starts, records=len(records), deadly=len(hunt.found)))
        for record, death in hunt.found:
            tell(DeadlyRecordFound(lineage=short, sequence_number=record.sequence_number, death=death.kind))
        if hunt.doubted:
            tell(ProbeDoubted(lineage=short, sequence_number=records[0].sequence_number))
        return hunt.unsure


class _Hunt:
    """One search by halves, from the first record on, within a time of its own.

    Each try gets an equal share of what is left, as far as the way to the first deadly record may still need tries that
    come to no end: so that one is always reached.

    A record is condemned if a process dies of it alone, twice, and then lives over good events. Where it was only the
    clock that ended it, good events get half of its time: on a busy machine they take as long as others do.
    """

    def __init__(self, probe: Probe, clock: Clock, seconds: float) -> None:
        self._probe, self._clock = probe, clock
        self._until = clock.monotonic() + seconds
        self.found: list[tuple[Record, Death]] = []
        self.unsure: Record | None = None
        self.doubted = False  # what is good for certain did not survive either: nothing more is believed

    def run(self, records: Sequence[Record]) -> None:
        """Look among the records of one read."""
        if self._death(records) and self._is_believed():
            self._among(records)
        if (
            self.unsure is records[0]
        ):  # nothing would be gained by another start: whoever waits here waits for ever
            self.unsure, self.doubted = None, True

    def _left(self) -> float:
        return self._until - self._clock.monotonic()

    def _share(self, count: int) -> float:
        return self._left() / (count.bit_length() + 3)

    def _death(self, records: Sequence[Record]) -> Death | None:
        return self._probe.death(records, self._share(len(records)))

    def _is_believed(self) -> bool:
        """Ask for good events; generous, as they end at once where they can, and nothing follows where they cannot."""
        self.doubted = not self._probe.works(self._left() / 2)
        return not self.doubted

    def _among(self, records: Sequence[Record]) -> None:
        """Look among records that together did not survive."""
        if len(records) == 1:
            self._judge(records)
            return
        middle = len(records) // 2
        for half in (records[:middle], records[middle:]):
            if self.doubted or self.unsure is not None:
                return
            if self._share(len(half)) < _LEAST_SECONDS:
                self.unsure = half[0]
            elif self._death(half):
                self._among(half)

    def _judge(self, records: Sequence[Record]) -> None:
        """Try one record that did not survive a second time, and condemn it if that tells something."""
        seconds = self._share(1)
        death = self._probe.death(records, seconds)
        if death is None:  # the first time the machine may have been busy
            return
        if death.kind != "clock":
            if self._is_believed():
                self.found.append((records[0], death))
        elif self._probe.works(seconds / 2):
            self.found.append((records[0], death))
        else:
            self.unsure = records[0]
