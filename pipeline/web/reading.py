"""How handlers read: by the caller's own reader, in a thread, as one of few of its tenant, until the deadline."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeVar

from pipeline.core.errors import Crossed, NotFound, OutcomeUnknown, Transient
from pipeline.facts import ReadsStopped
from pipeline.flows.tenant_reads import TenantReads
from pipeline.web.asked import route_of, tell_crossing
from pipeline.web.problems import Problem
from pipeline.web.route import Call
from pipeline.web.threads import unavailable
from pipeline.wiring.front_door import FrontDoor
from pipeline.wiring.reads import Reads, Turn

T = TypeVar("T")
_SLOW = "the answer took longer than {seconds:g} s: {less}"
MISSING = "there is no such thing"
LESS = "ask for a shorter time between from and to"
AGAIN = "try again; GET /readyz says which part is slow"  # of what is small as it is


async def read(
    door: FrontDoor,
    call: Call,
    work: Callable[[TenantReads], T],
    *,
    less: str = LESS,
    missing: str = MISSING,
) -> T:
    """Return what `work` reads.

    Args:
        door: of the process.
        call: whose caller reads.
        work: called in a thread with the caller's reader, which ends it soon after the deadline.
        less: what to ask for instead, when it takes too long.
        missing: what is said of a thing that does not exist; the same for one that is another tenant's.

    Raises:
        Problem: busy, unavailable or not_found.
        Corrupt: stored data contradict each other.
    """
    reads = reads_of(door)
    turn = reads.enter(call.caller)
    if turn is None:
        raise Problem(
            "busy", "too many reads of this tenant wait already: send fewer at once", {"Retry-After": "1"}
        )
    seconds = door.settings.web.deadline_seconds
    over = threading.Event()
    try:
        with refusing(door, call, missing):
            async with asyncio.timeout(seconds):
                reader = reads.of(call.caller, lambda: not over.is_set())
                return await _in_turn(reads, call, turn, lambda: work(reader))
    except TimeoutError as exc:
        door.facts(ReadsStopped(route=route_of(call), request_id=call.request_id))
        raise unavailable(_SLOW.format(seconds=seconds, less=less)) from exc
    finally:
        over.set()


@contextmanager
def refusing(door: FrontDoor, call: Call, missing: str) -> Iterator[None]:
    """Turn what a read raises into what its caller is told; `missing` is said of what is not there. Damage passes, as an error."""
    try:
        yield
    except Crossed as exc:
        tell_crossing(door, call)
        raise Problem("not_found", missing) from exc
    except NotFound as exc:
        raise Problem("not_found", missing) from exc
    except (Transient, OutcomeUnknown) as exc:
        raise unavailable() from exc


async def _in_turn(reads: Reads, call: Call, turn: Turn, work: Callable[[], T]) -> T:
    """Run in one of the tenant's threads; its place is free again when the thread is, not when the request gives up."""
    try:
        await turn.running.acquire()
    except asyncio.CancelledError:
        reads.leave(call.caller, turn)
        raise
    loop = asyncio.get_running_loop()
    future: Future[T] = reads.threads.submit(work)

    def free() -> None:
        turn.running.release()
        reads.leave(call.caller, turn)

    def done(_future: Future[T]) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(free)

    future.add_done_callback(done)
    return await asyncio.wrap_future(future)


def reads_of(door: FrontDoor) -> Reads:
    """Return the reading of this process."""
    if door.reads is None:
        raise unavailable("this process serves no reads")
    return door.reads
