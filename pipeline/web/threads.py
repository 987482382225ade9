"""Calls that wait, off the event loop: stores are asked in threads, within the request's deadline."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.web.problems import Problem
from pipeline.wiring.front_door import FrontDoor

T = TypeVar("T")
_BUSY = {"Retry-After": "1"}


async def in_thread(door: FrontDoor, work: Callable[..., T], *args: Any, **named: Any) -> T:
    """Return what `work` returns, called in one of the door's threads.

    Raises:
        Problem: `unavailable`: what it asked does not answer; `busy`: not in time. The call itself is not cut off.
    """
    call = asyncio.get_running_loop().run_in_executor(door.threads, partial(work, *args, **named))
    try:
        async with asyncio.timeout(door.settings.web.deadline_seconds):
            return await call
    except TimeoutError as exc:
        raise Problem("busy", "a store did not answer in time; try again", _BUSY) from exc
    except (Transient, OutcomeUnknown) as exc:
        raise Problem("unavailable", "a store that this needs does not answer; try again", _BUSY) from exc
