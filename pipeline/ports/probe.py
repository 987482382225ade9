"""Whether a process survives what a loader does with some records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from pipeline.core.event import Record

# crash: it ended by itself, or was ended from outside. memory, processor: it reached a limit that a setting gives it.
# clock: it was not ready in time, which may be the machine's fault.
Kind = Literal["crash", "memory", "processor", "clock"]


@dataclass(frozen=True)
class Death:
    """How a child came to no good end: in one word, and in a sentence that names the setting where one would help."""

    kind: Kind
    words: str


class Probe(Protocol):
    """Asked by a loader that has been started again and again at one position, before it touches the records itself."""

    def death(self, records: Sequence[Record], seconds: float) -> Death | None:
        """Decode and encode records somewhere else; None when whoever did it is still there.

        May be repeated; has no effect. It returns after about `seconds` at most, with a death by the clock then.
        """
        ...

    def works(self, seconds: float) -> bool:
        """Do the same over events that are good for certain; False tells that no death proves anything here and now."""
        ...
