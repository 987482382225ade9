"""Who is let in: credential, scope, plan. The only place where a request becomes a caller."""

from collections.abc import Callable, Collection
from typing import Protocol

from falcon.asgi import Request

from pipeline.core.caller import Caller, Denied, Scope
from pipeline.core.plan import DELIVERED, Plan
from pipeline.web.problems import Problem
from pipeline.web.route import Route
from pipeline.wiring.front_door import FrontDoor

NOBODY = Caller("", "nobody", frozenset(), DELIVERED[0])


class Gate(Protocol):
    """What the application asks. Called for every request of a route that is not open."""

    nobody: Caller

    async def admit(self, request: Request, route: Route) -> Caller:
        """Return who calls, when that credential has the route's scope and its plan has room.

        Raises:
            Denied: there is no valid credential.
            Problem: it is not for this route, or the plan is used up.
        """
        ...

    def problem(self, denied: Denied) -> Problem:
        """Return what a caller is told: never which part of the credential was wrong."""
        ...


class LocalGate:
    """Lets in who names a tenant of a local stack as its key: `X-API-Key: demo`."""

    nobody = NOBODY

    def __init__(self, tenants: Callable[[], Collection[str]], plan: Plan = DELIVERED[-1]) -> None:
        self._tenants, self._plan = tenants, plan
        self._callers: dict[str, Caller] = {}

    async def admit(self, request: Request, route: Route) -> Caller:  # noqa: ARG002 - any scope
        """Return the tenant's caller, which may do everything."""
        key = request.get_header("X-API-Key") or ""
        caller = self._callers.get(key)
        if caller is None:
            if key not in self._tenants():
                raise Denied("unknown_key", "no such tenant")
            caller = self._callers[key] = Caller(key, f"key:{key}", frozenset(Scope), self._plan)
        return caller

    def problem(self, denied: Denied) -> Problem:  # noqa: ARG002 - which part was wrong is not said
        """Return what a caller is told."""
        return Problem("unauthenticated", "send a valid X-API-Key")


def gate_of(door: FrontDoor) -> Gate:
    """Return what lets requests in."""
    return LocalGate(lambda: door.rules().tenants)
