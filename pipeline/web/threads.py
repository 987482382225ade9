"""Short calls to stores: in a thread, never on the event loop, and waited for no longer than a request may take."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import Any, TypeVar

from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.web.problems import Problem
from pipeline.wiring.front_door import FrontDoor

T = TypeVar("T")
RETRY_AFTER_SECONDS = 5


async def in_thread(door: FrontDoor, work: Callable[..., T], *arguments: Any) -> T:
    """Return what `work` returns, called in one of the threads for the control store.

    At the deadline the caller is answered; the thread ends by itself.

    Raises:
        Problem: unavailable, when it takes too long, or what it needs does not answer.
    """
    return await _in(door, door.control_threads, partial(work, *arguments))


async def in_change(door: FrontDoor, work: Callable[..., T], *arguments: Any) -> T:
    """Do as `in_thread`, in one of the threads for what tenants change: those hold up no look at a credential."""
    return await _in(door, door.change_threads, partial(work, *arguments))


async def in_table(door: FrontDoor, work: Callable[..., T], *arguments: Any) -> T:
    """Do as `in_thread`, in one of the threads for tables: those that wait for a table hold up nobody else."""
    return await _in(door, door.table_threads, partial(work, *arguments))


async def _in(door: FrontDoor, threads: Executor, work: Callable[[], T]) -> T:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(door.settings.web.deadline_seconds):
            return await loop.run_in_executor(threads, work)
    except (TimeoutError, Transient, OutcomeUnknown) as exc:
        raise unavailable() from exc


def unavailable(
    detail: str = "a part that this needs does not answer in time; send the request again",
) -> Problem:
    """Return the refusal of a request that would work at another time."""
    return Problem("unavailable", detail, {"Retry-After": str(RETRY_AFTER_SECONDS)})
