"""An API over limits in memory: a gate that lets one caller in, and a client that asks it."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import falcon.testing
from falcon.asgi import Request

from pipeline.config import Settings
from pipeline.core.caller import Caller, Scope
from pipeline.core.event import Limits
from pipeline.core.plan import DELIVERED, Plan
from pipeline.core.rules import make_rules
from pipeline.flows.decision_log import DecisionLog
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.flows.ratelimits import RateLimits
from pipeline.web.app import make_app
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor
from tests.fakes.clock import SteppedClock
from tests.fakes.control import MemoryControl
from tests.fakes.facts import FactList
from tests.fakes.limits import MemoryDecisions, MemoryLimits, MemoryPolicies
from tests.web.asking import client_of
from tests.web.doors import OpenGate, make_door

ROOMY = Plan("roomy", 100_000, 100_000, 10**9, 100_000, 2**30, 500)


class OneCaller(OpenGate):
    """Lets everybody in as one caller, which tests may change."""

    def __init__(self, caller: Caller) -> None:
        super().__init__()
        self.caller = caller

    async def admit(self, request: Request, route: Route) -> Caller:
        """Return the caller, if it has the scope."""
        del request
        if not route.lets_in(self.caller.scopes):
            raise Problem("forbidden", "no")
        return self.caller


class Limited:
    """One process of the API, over a store that others may share."""

    def __init__(
        self,
        plan: Plan = ROOMY,
        store: MemoryLimits | None = None,
        store_down: Any = "open",
        decisions: MemoryDecisions | None = None,
        policies: MemoryPolicies | None = None,
    ) -> None:
        self.clock, self.facts, self.sent = SteppedClock(), FactList(), list[tuple[bytes, str, str]]()
        self.control = MemoryControl()
        self.store = store or MemoryLimits()
        self.leases = leases = Leases(self.store, self.clock, self.facts, store_down)
        self.gate = OneCaller(Caller("acme", "key:k1", frozenset(Scope), plan))
        self.policies = policies or MemoryPolicies()
        self.service = RateLimits(leases, self.policies, decisions or MemoryDecisions(), self.clock)
        self.door = make_door(
            settings=Settings(),
            control=self.control,
            judged_by=make_rules([], [], Limits(), {}),
            clock=self.clock,
            facts=self.facts,
            limiter=Limiter(leases, self.clock, 2**20),
            ratelimits=self.service,
            decision_log=DecisionLog(self._put, self.clock, self.facts),
        )

    async def _put(self, payload: bytes, tenant: str, entity: str) -> None:
        self.sent.append((payload, tenant, entity))

    def become(self, **changed: Any) -> None:
        """Change the caller."""
        self.gate.caller = replace(self.gate.caller, **changed)

    def client(self, routes: Iterable[Route] | None = None) -> falcon.testing.TestClient:
        """Return a client of all routes, or of some."""
        app = make_app(self.door, self.gate) if routes is None else make_app(self.door, self.gate, routes)
        return client_of(app)


async def hello(door: FrontDoor, call: Call) -> Answer:
    """Answer."""
    del door, call
    return Answer({"hello": True})


HELLO = (Route("GET", "/hello", Scope.READ, "Say hello.", hello),)
BASIC = DELIVERED[0]
