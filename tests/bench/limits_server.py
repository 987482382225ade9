"""The server of `tests.bench.limits`: the real application, a gate that believes a header, a table in memory."""

import sys
import time
from dataclasses import replace

import granian
from falcon.asgi import Request
from granian.constants import Interfaces

from pipeline.config import Settings
from pipeline.core.caller import Caller, Denied, Scope
from pipeline.core.event import Limits
from pipeline.core.lease import Account, Change
from pipeline.core.plan import DELIVERED
from pipeline.core.rules import make_rules
from pipeline.flows.decision_log import DecisionLog
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.flows.ratelimits import RateLimits
from pipeline.flows.rules import FixedRules
from pipeline.ports.clock import SystemClock
from pipeline.ports.limits import AccountKey
from pipeline.web.app import make_app
from pipeline.web.gate import NOBODY
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Route
from pipeline.web.routes import ROUTES
from pipeline.wiring.front_door import FrontDoor
from tests.fakes.limits import MemoryDecisions, MemoryLimits, MemoryPolicies

_LATENCY_SECONDS = 0.004  # of one call to DynamoDB from its region
_ROOMY = replace(
    DELIVERED[2], name="roomy", requests_per_second=10**6, burst_requests=10**6, requests_per_month=10**12
)
_PLANS = {"basic": DELIVERED[0], "quiet": DELIVERED[1], "roomy": _ROOMY}


class _Slow(MemoryLimits):
    def read(self, key: AccountKey) -> Account | None:
        time.sleep(_LATENCY_SECONDS)
        return super().read(key)

    def write(self, key: AccountKey, change: Change, expires_us: int | None) -> Account | None:
        time.sleep(_LATENCY_SECONDS)
        return super().write(key, change, expires_us)


class _Believing:
    nobody = NOBODY

    def __init__(self) -> None:
        self._callers = {
            name: Caller(name, "key:bench", frozenset(Scope), plan) for name, plan in _PLANS.items()
        }

    async def admit(self, request: Request, route: Route) -> Caller:
        del route
        return self._callers[request.get_header("X-Tenant") or "quiet"]

    def problem(self, denied: Denied) -> Problem:
        return Problem("unauthenticated", str(denied))

    def catch_up(self) -> None:
        """Begin nothing."""

    async def close(self) -> None:
        """Finish."""


async def _hello(door: FrontDoor, call: Call) -> Answer:
    del door, call
    return Answer({"hello": True})


async def _null(payload: bytes, tenant: str, entity: str) -> None:
    """Stand for a stream that has it at once."""
    del payload, tenant, entity


def _told(fact: object) -> None:
    print(fact, file=sys.stderr)


def _app() -> object:
    clock = SystemClock()
    leases = Leases(_Slow(), clock, _told)
    door = FrontDoor(
        Settings(),
        clock,
        _told,
        FixedRules(make_rules([], [], Limits(), {})),
        limiter=Limiter(leases, clock, 2**20),
        ratelimits=RateLimits(leases, MemoryPolicies(), MemoryDecisions(), clock),
        decision_log=DecisionLog(_null, clock, _told),
    )
    hello = Route("POST", "/hello", Scope.READ, "Say hello.", _hello)
    return make_app(door, _Believing(), (*ROUTES, hello))


app = _app()

if __name__ == "__main__":
    granian.Granian(
        "tests.bench.limits_server:app",
        address="127.0.0.1",
        port=int(sys.argv[1]),
        interface=Interfaces.ASGI,
        workers=1,
        log_enabled=False,
    ).serve()
