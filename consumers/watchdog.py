"""Ends a worker that hangs: one that computes over one batch for too long comes to no end by itself.

The alarm is `faulthandler`'s own thread, which needs no interpreter: it fires while another thread holds it for ever. It
writes where each thread stands (files, lines, functions: no values) and ends the process with status 1. The start that
follows finds the same position, and from the third on has the records tried elsewhere first.
"""

import faulthandler
from collections.abc import Iterable

_AT_ONCE_SECONDS = 0.01


class Watchdog:
    """Belongs to the worker's main loop, which calls `watch` a few times a second.

    A process with one thread calls it before each batch instead, and `rest` after it.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def watch(self, busy_since: Iterable[float | None], now: float) -> None:
        """Put the alarm off, as far as what is being computed has time left; both by the same monotonic clock."""
        longest = max((now - since for since in busy_since if since is not None), default=0.0)
        faulthandler.dump_traceback_later(max(self._seconds - longest, _AT_ONCE_SECONDS), exit=True)

    def rest(self) -> None:
        """Turn the alarm off."""
        faulthandler.cancel_dump_traceback_later()
