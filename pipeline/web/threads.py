"""Calls to stores, away from the event loop: every one ends by the request's deadline, in an answer or in a `Problem`."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from pipeline.core.errors import OutcomeUnknown, Transient
from pipeline.web.problems import Problem
from pipeline.wiring.front_door import FrontDoor

T = TypeVar("T")

RETRY_AFTER = {"Retry-After": "1"}


async def in_thread(door: FrontDoor, work: Callable[..., T], *arguments: object) -> T:
    """Return what `work(*arguments)` returns, run on one of the door's threads.

    Raises:
        Problem: `busy`, when no thread was free or none ended in time; `unavailable`, when the store does not answer.
    """
    loop = asyncio.get_running_loop()
    called = loop.run_in_executor(door.threads, work, *arguments)
    try:
        return await asyncio.wait_for(called, door.settings.web.deadline_seconds)
    except TimeoutError as exc:
        raise Problem("busy", "the stores behind this service are slow; try again", RETRY_AFTER) from exc
    except (Transient, OutcomeUnknown) as exc:
        detail = "a store behind this service does not answer; try again"
        raise Problem("unavailable", detail, RETRY_AFTER) from exc
