"""Wait until what is known of something is another: one task asks for each name, however many wait for it.

Who waits costs nothing meanwhile. Ten thousand that looked for themselves four times a second would take most of a core, and
hold up every other request each time.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Generic, TypeVar

from pipeline.core.errors import HeadraceError

V = TypeVar("V")
_AT_ONCE = 100  # woken together: a few ms of their work, then other requests have their turn


class Changes(Generic[V]):
    """Wakes whoever waits for a change. Lives on one event loop.

    Args:
        ask: returns what is known of a name now; the very same object as long as nothing changed.
        every_seconds: between two questions, while somebody waits.
    """

    def __init__(self, ask: Callable[[str], Awaitable[V]], every_seconds: float) -> None:
        self._ask, self._every_seconds = ask, every_seconds
        self._waiting: dict[str, dict[asyncio.Future[None], V]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}

    async def wait(self, seen: Mapping[str, V], seconds: float) -> None:
        """Return once something else is known of one of these names, or nobody can tell, or after so many seconds."""
        loop = asyncio.get_running_loop()
        changed: asyncio.Future[None] = loop.create_future()
        for name, value in seen.items():
            self._waiting.setdefault(name, {})[changed] = value
            if name not in self._tasks:
                self._tasks[name] = loop.create_task(self._watch(name))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await changed
        finally:
            for name in seen:
                self._waiting.get(name, {}).pop(changed, None)

    async def _watch(self, name: str) -> None:
        waiting = self._waiting[name]
        try:
            while waiting:
                await asyncio.sleep(self._every_seconds)
                await self._look(name, waiting)
        finally:
            del self._tasks[name], self._waiting[name]
            _wake(waiting)  # none, unless the question failed in a way that nobody has foreseen

    async def _look(self, name: str, waiting: "Mapping[asyncio.Future[None], V]") -> None:
        try:
            value = await self._ask(name)
        except HeadraceError:
            woken = list(waiting)  # they ask for themselves, and are told
        else:
            woken = [one for one, seen in waiting.items() if seen is not value]
        for first in range(0, len(woken), _AT_ONCE):
            _wake(woken[first : first + _AT_ONCE])
            await asyncio.sleep(0)


def _wake(woken: "list[asyncio.Future[None]] | Mapping[asyncio.Future[None], V]") -> None:
    for one in woken:
        if not one.done():
            one.set_result(None)
