"""Ctrl-C, SIGTERM and a closed terminal, taken only where nothing can be lost.

Between starting a child and recording it, and while children are being stopped, a signal is remembered; everywhere
else it raises KeyboardInterrupt at once. Python swallows an exception that arises in a finalizer or a weak reference's
callback (every import runs some), and a Ctrl-C with it; so each signal is also counted, and `check` raises again.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupts:
    """Handlers of the signals that ask this program to end; only for the main thread.

    Attributes:
        asked: how many signals arrived, since `hold` if that was called.
        told: called for each signal that is held, to say that it was heard.
    """

    def __init__(self) -> None:
        self.asked = 0
        self.told: Callable[[], None] | None = None
        self._holds = 0

    def _arrived(self, _number: int, _frame: FrameType | None) -> None:
        self.asked += 1
        if not self._holds:
            raise KeyboardInterrupt
        if self.told is not None:
            self.told()

    def check(self) -> None:
        """Raise KeyboardInterrupt when a signal arrived and is not held."""
        if self.asked and not self._holds:
            raise KeyboardInterrupt

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
        """Remember signals during the body, then raise KeyboardInterrupt if any came."""
        self._holds += 1
        try:
            yield
        finally:
            self._holds -= 1
        self.check()

    def hold(self) -> None:
        """Remember signals from here on: the program is ending anyway."""
        self._holds += 1
        self.asked = 0
