"""Whether the stream that a producer sends to is still the one that it was made for.

A put knows a stream by its name. One that was deleted and made anew takes it as well, in another lineage: a receipt under
the old creation would speak of events that nobody will ever find there. So receipts speak only of what was acknowledged
before a look that found the stream unchanged; and a producer that was silent looks before it sends.
"""

from contextlib import suppress

from pipeline.core.errors import ConfigProblem, OutcomeUnknown, Transient
from pipeline.ports.clock import Clock
from pipeline.ports.stream import StreamCheck, Successor

# More than between two receipts, so that a busy producer asks once for each; less than a stream takes to be deleted and made.
LOOK_SECONDS = 15.0


class Lookout:
    """Asks, and remembers what it saw.

    Args:
        stream: its name and epoch.
        check: asks; None: the stream cannot be made anew.
        clock: for the time between looks.
    """

    def __init__(self, stream: tuple[str, str], check: StreamCheck | None, clock: Clock) -> None:
        self._stream, self._check, self._clock = stream, check, clock
        self._asked_at = clock.monotonic()
        self.successor: Successor | None = None

    def look(self) -> Successor | None:
        """Return what is in the stream's place; None where it is unchanged. Asks no more once that is seen.

        Raises:
            Transient, OutcomeUnknown, ConfigProblem: nothing is known.
        """
        if self._check is not None and self.successor is None:
            self._asked_at = self._clock.monotonic()
            self.successor = self._check.successor()
        return self.successor

    def look_after_silence(self) -> Successor | None:
        """Look if the last look is long ago; where nobody answers, as if all was well: receipts are looked after again."""
        if self._clock.monotonic() - self._asked_at >= LOOK_SECONDS:
            with suppress(Transient, OutcomeUnknown, ConfigProblem):
                self.look()
        return self.successor

    def why(self, unreceipted: int) -> str:
        """Return what to tell whoever sends.

        Args:
            unreceipted: batches that the new stream may have taken.
        """
        name, epoch = self._stream
        said = f"stream {name} was deleted and made anew (it was made at {epoch}, now at {self.successor.epoch if self.successor else '?'})"
        if not unreceipted:
            return said
        return f"{said}; {unreceipted} batches were acknowledged, perhaps by the new one, and have no receipt"
