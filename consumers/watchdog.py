"""Ends a worker that hangs: one that computes over one batch for too long comes to no end by itself.

The alarm is `faulthandler`'s own thread, which needs no interpreter: it fires while another thread holds it for ever. It
writes where each thread stands (files, lines, functions: no values) and ends the process with status 1. The start that
follows finds the same position, and from the third on has the records tried elsewhere first.
"""

import faulthandler
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_AT_ONCE_SECONDS = 0.01
_LOOK_SECONDS = 0.5  # between two looks at who computes


class Watchdog:
    """Belongs to a process with one thread: watches from `watch` to `rest`, whatever is done in between."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def watch(self) -> None:
        """Set the alarm, or set it anew."""
        faulthandler.dump_traceback_later(self._seconds, exit=True)

    def rest(self) -> None:
        """Turn the alarm off."""
        faulthandler.cancel_dump_traceback_later()


class Watchdogs:
    """Belongs to a process with several threads: each watches its own batches, and nothing else counts.

    There is one alarm for all. Whoever begins a batch sets it if it is off, at once: the next moment it may hold the
    interpreter for ever. Putting it off and turning it off waits for a thread of C, too dear for each batch: `look` does
    it, by a thread of its own, which no call of AWS holds up.

    Args:
        seconds: how long one batch may be computed.
        monotonic: the clock of it.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds, self._monotonic = seconds, monotonic
        self._lock = threading.Lock()
        self._since: dict[int, float] = {}  # by thread
        self._is_set = False
        self._ended = threading.Event()
        self._looking = threading.Thread(target=self._look_on, name="watchdog", daemon=True)

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Watch what one thread computes meanwhile: it waits for nobody."""
        me = threading.get_ident()
        with self._lock:
            self._since[me] = self._monotonic()
            if not self._is_set:
                self._set(self._seconds)
        try:
            yield
        finally:
            with self._lock:
                del self._since[me]

    def look(self) -> None:
        """Put the alarm off as far as what is computed now has time left; turn it off where nothing is."""
        with self._lock:
            if self._since:
                longest = self._monotonic() - min(self._since.values())
                self._set(max(self._seconds - longest, _AT_ONCE_SECONDS))
            elif self._is_set:
                faulthandler.cancel_dump_traceback_later()
                self._is_set = False

    def start(self) -> None:
        """Look a few times a second from now on."""
        self._looking.start()

    def stop(self) -> None:
        """Look once more, and no longer; nothing is computed any more."""
        self._ended.set()
        self._looking.join()
        self.look()

    def _set(self, seconds: float) -> None:
        faulthandler.dump_traceback_later(seconds, exit=True)
        self._is_set = True

    def _look_on(self) -> None:
        while not self._ended.wait(_LOOK_SECONDS):
            self.look()
