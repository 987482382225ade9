"""Plans at the door: take from one, pay for bodies, wait for a lease where that is needed, and say no in the caller's words.

One renewal of a tenant's lease is under way at a time, whoever waits for it: a tenant above its plan holds one thread.
"""

import asyncio
from concurrent.futures import Future

from falcon.asgi import Request

from pipeline.core.caller import Caller
from pipeline.core.decision import Decision
from pipeline.core.plan import Plan
from pipeline.web.body import read_bytes
from pipeline.web.entry import values_of
from pipeline.web.problems import Problem
from pipeline.web.threads import unavailable
from pipeline.wiring.front_door import FrontDoor

_OF_PLAN = {
    "requests": "{0.requests_per_second} requests a second and {0.burst_requests} at once",
    "events": "{0.events_per_second} events a second",
    "bytes": "{0.bytes_per_second} bytes of events a second",
}


async def take(
    door: FrontDoor, caller: Caller, requests: int = 1, events: int = 0, size_bytes: int = 0
) -> Decision:
    """Take from the caller's plan, once a lease is there; as `taken`, and `busy` (not decided in time)."""
    while (found := taken(door, caller, requests, events, size_bytes)) is None:
        if door.limiter is not None:
            needs = caller, requests, events, size_bytes
            await renewed(door, door.limiter.renewal(*needs, door.renewals.submit))
    return found


def taken(door: FrontDoor, caller: Caller, requests: int, events: int, size_bytes: int) -> Decision | None:
    """Take from the caller's plan what its lease has, as nearly always, without waiting; None: `take` must wait for one.

    Raises:
        Problem: `rate_limited`, `quota_used_up`, `too_large` (no waiting helps), `unavailable` (the limiter's table does
            not answer, and limits.store_down is closed).
    """
    limiter = door.limiter
    if limiter is None:
        raise unavailable("this process was made without a limiter")
    if requests:
        found = limiter.take(caller, requests, events, size_bytes)
    else:
        found = limiter.spend(caller, events, size_bytes)
    if found is None:
        return None
    if found.low:
        limiter.renewal(caller, 0, 0, 0, door.renewals.submit)
    if not found.allowed:
        raise problem(found, caller)
    return found


def settle(door: FrontDoor, caller: Caller, paid_bytes: int, request: Request) -> None:
    """Charge what was read of a body beyond what was paid for it, whatever became of the request; put back what was not read."""
    found = read_bytes(request)
    if found != paid_bytes and door.limiter is not None:
        door.limiter.settle(caller, paid_bytes, found)


def declared_bytes(door: FrontDoor, request: Request) -> int:
    """Return how many bytes are paid before a body is read; 1 where nobody can tell, or where it will not be read."""
    declared = values_of(request.scope, b"content-length")
    if len(declared) != 1 or not declared[0].isdigit():
        return 1
    size = int(declared[0])
    return size if size <= door.settings.web.max_body_bytes else 1


async def renewed(door: FrontDoor, renewal: Future[None]) -> None:
    """Wait for a renewal.

    Raises:
        Problem: it took too long.
    """
    try:
        await asyncio.wait_for(asyncio.wrap_future(renewal), door.settings.web.deadline_seconds)
    except TimeoutError as exc:
        raise Problem("busy", "the table of limits is slow; try again", {"Retry-After": "1"}) from exc


def problem(decision: Decision, caller: Caller) -> Problem:
    """Return a refusal: which limit, what it is, and when to come again."""
    headers, plan = decision.headers(), caller.plan
    when = f"; try again in {decision.retry_after_seconds} s"
    if decision.which == "store":
        return Problem("unavailable", f"limits cannot be checked at the moment{when}", headers)
    if decision.which == "month":
        detail = f"plan {plan.name} allows {plan.requests_per_month} requests in a calendar month of UTC"
        return Problem("quota_used_up", detail + when, headers, **_more(decision))
    if decision.retry_after_seconds is None:
        detail = f"plan {plan.name} never allows so many {decision.which} at once: {decision.limit} at most; send less"
        return Problem("too_large", detail, headers, **_more(decision))
    return Problem("rate_limited", _what(decision, caller, plan) + when, headers, **_more(decision))


def _what(decision: Decision, caller: Caller, plan: Plan) -> str:
    if decision.which == "credential":
        return f"this credential is limited to {caller.requests_per_second} requests a second"
    return f"plan {plan.name} allows " + _OF_PLAN[decision.which].format(plan)


def _more(decision: Decision) -> dict[str, object]:
    return {
        "which": decision.which,
        "limit": decision.limit,
        "reset_seconds": decision.reset_seconds,
        "retry_after_seconds": decision.retry_after_seconds,
    }
