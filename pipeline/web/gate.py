"""Who is let in: credential, scope, plan. The only place where a request becomes a caller."""

from typing import Protocol

from falcon.asgi import Request

from pipeline.core.caller import Caller, Denied
from pipeline.core.plan import DELIVERED
from pipeline.web.problems import Problem
from pipeline.web.route import Route

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
