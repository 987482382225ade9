"""The memory of several processes together, watched while they run: the most they held at one moment."""

import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from pipeline.machine.processes import memory_bytes

LOOK_SECONDS = 0.25


class MemoryWatch:
    """Looks now and then, from a thread of its own, between entry and exit.

    Args:
        pids: returns the processes by name; asked at every look, since they come and go.

    Attributes:
        most_bytes: the largest sum seen.
        most_by_name: the largest of each process seen, at any moment.
    """

    def __init__(self, pids: Callable[[], Iterable[tuple[str, int]]]) -> None:
        self._pids = pids
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="memory-watch", daemon=True)
        self.most_bytes = 0
        self.most_by_name: dict[str, int] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            total = 0
            for name, pid in self._pids():
                held = memory_bytes(pid)
                total += held
                self.most_by_name[name] = max(self.most_by_name.get(name, 0), held)
            self.most_bytes = max(self.most_bytes, total)
