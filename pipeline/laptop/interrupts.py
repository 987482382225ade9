"""Ctrl-C, SIGTERM and a closed terminal, taken only where nothing can be lost.

Between starting a child and recording it, and while children are being stopped, a signal is remembered; everywhere
else it raises KeyboardInterrupt at once.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Handlers of the signals that ask this program to end; only for the main thread.

    Attributes:
        asked: how many signals arrived while they were held.
        told: called for each signal that is held, to say that it was heard.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.told: Callable[[], None] | None = None
        self._holds = 0

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        if not self._holds:
            raise KeyboardInterrupt
        self.asked += 1
        if self.told is not None:
            self.told()

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handle the signals in the body; afterwards they do what they did before."""
        before = {number: signal.signal(number, self._arrived) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Remember signals during the body, then raise KeyboardInterrupt once if any came."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        if self.asked and not self._holds:
            self.asked = 0
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Remember signals from here on: the program is ending anyway."""
        self._holds += 1
        self.asked = 0
