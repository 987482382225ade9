"""Whether a process survives what a loader does with some records."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.core.event import Record


class Probe(Protocol):
    """Asked by a loader that has been started again and again at one position, before it touches the records itself."""

    def survives(self, records: Sequence[Record], seconds: float) -> bool:
        """Decode and encode records somewhere else; True when whoever did it is still there.

        May be repeated; has no effect. False also when it takes too much memory or too long: it returns after about
        `seconds` at most.
        """
        ...

    def works(self, seconds: float) -> bool:
        """Do the same over events that are good for certain; False tells that no death proves anything here and now."""
        ...
