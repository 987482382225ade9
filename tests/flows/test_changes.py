"""Waiting for a change: by any number, at the cost of one."""

import asyncio
from collections.abc import Awaitable, Callable

from pipeline.core.errors import Transient
from pipeline.flows.changes import Changes

FIRST, SECOND = object(), object()
LONG = 20.0


class Known:
    """What is known of every name; `asked` counts questions, `down` makes them fail."""

    def __init__(self) -> None:
        self.value, self.asked, self.down = FIRST, 0, False
        self.often = asyncio.Event()
        self.changes = Changes(self.ask, 0.001)

    async def ask(self, _name: str) -> object:
        """Return the value."""
        self.asked += 1
        if self.asked > 5:
            self.often.set()
        if self.down:
            raise Transient("away")
        return self.value

    @property
    def at_rest(self) -> bool:
        """True when nothing is kept for anybody."""
        return not self.changes._tasks and not self.changes._waiting


def run(test: Callable[[Known], Awaitable[None]]) -> None:
    """Run a test on a loop of its own; at its end nothing is left."""

    async def whole() -> None:
        known = Known()
        async with asyncio.timeout(LONG / 2):
            await test(known)
            await asyncio.gather(*known.changes._tasks.values())
        assert known.at_rest

    asyncio.run(whole())


def test_nobody_is_woken_while_nothing_changes() -> None:
    """A thousand who wait ask once a round together, sleep through it, and are woken by a change, all of them."""

    async def test(known: Known) -> None:
        waiting = [asyncio.ensure_future(known.changes.wait({"a": FIRST}, LONG)) for _ in range(1_000)]
        await known.often.wait()
        assert not any(one.done() for one in waiting)
        asked, known.value = known.asked, SECOND
        await asyncio.gather(*waiting)
        assert known.asked - asked <= 2

    run(test)


def test_a_change_before_the_wait_is_seen() -> None:
    """Who has seen an older value than others that wait is woken by the next look."""

    async def test(known: Known) -> None:
        known.value = SECOND
        other = asyncio.ensure_future(known.changes.wait({"a": SECOND}, LONG))
        await asyncio.sleep(0)
        await known.changes.wait({"a": FIRST}, LONG)
        assert not other.done()
        known.value = FIRST
        await other

    run(test)


def test_one_of_several_names_is_enough() -> None:
    """A request over several shards is woken by the first that moves."""

    async def test(known: Known) -> None:
        await known.changes.wait({"a": known.value, "b": SECOND}, LONG)

    run(test)


def test_a_question_that_fails_wakes_whoever_waits() -> None:
    """They ask for themselves, and are told; nobody waits on for an answer that does not come."""

    async def test(known: Known) -> None:
        known.down = True
        await known.changes.wait({"a": FIRST}, LONG)

    run(test)


def test_the_wait_ends_in_time() -> None:
    """Without a change it ends after its seconds, and when whoever waits has gone."""

    async def test(known: Known) -> None:
        await known.changes.wait({"a": FIRST}, 0.01)
        gone = asyncio.ensure_future(known.changes.wait({"a": FIRST}, LONG))
        await asyncio.sleep(0.005)
        gone.cancel()
        await asyncio.wait({gone})
        assert gone.cancelled()

    run(test)
