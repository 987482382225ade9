"""Whether a process survives what a loader does with some records."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.core.event import Record


class Probe(Protocol):
    """Asked by a loader that has been started again and again at one position, before it touches the records itself."""

    def survives(self, records: Sequence[Record]) -> bool:
        """Decode and encode records somewhere else; True when whoever did it is still there.

        May be repeated; has no effect. False also when it takes too long or too much memory. Of no records it is True,
        or else the probe itself does not work.
        """
        ...
