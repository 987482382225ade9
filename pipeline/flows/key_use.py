"""When keys were last used: noted in memory for each request, told to the control store once a minute."""

import threading
from collections.abc import Mapping
from contextlib import suppress

from pipeline.core.errors import Transient
from pipeline.ports.clock import Clock
from pipeline.ports.control import Control

FLUSH_SECONDS = 60.0  # what "last used" may be behind


class KeyUse:
    """The last uses of one process. `note` is called on the event loop, `flush` in a thread; what dies with it is lost."""

    def __init__(self, control: Control, clock: Clock) -> None:
        self._control, self._clock = control, clock
        self._used_us: dict[str, int] = {}
        self._lock = threading.Lock()
        self._flushed_at = clock.monotonic()

    def note(self, key_id: str) -> None:
        """Note that a key was used now. No I/O."""
        with self._lock:
            self._used_us[key_id] = self._clock.now_us()

    def is_due(self) -> bool:
        """True when there is something to tell, and a minute has passed."""
        return bool(self._used_us) and self._clock.monotonic() - self._flushed_at >= FLUSH_SECONDS

    def flush(self) -> None:
        """Tell the store what was noted, in one write; call it when it `is_due`, and at the end of the process.

        While the store does not answer it is kept for the next time.
        """
        with self._lock:
            used, self._used_us = self._used_us, {}
        self._flushed_at = self._clock.monotonic()
        told = not used
        with suppress(Transient):
            if used:
                self._control.keys_used(used)
            told = True
        if not told:
            self._keep(used)

    def _keep(self, used: Mapping[str, int]) -> None:
        with self._lock:
            self._used_us = {**used, **self._used_us}
