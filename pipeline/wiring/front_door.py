"""What the HTTP API is made of."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.config import Settings
from pipeline.facts import FactSink
from pipeline.flows.decision_log import DecisionLog
from pipeline.flows.limit import Limiter
from pipeline.flows.ratelimits import RateLimits
from pipeline.ports.clock import Clock
from pipeline.wiring.limiting import limits

_THREADS = (
    16  # calls to stores that one process has under way; further ones wait, bounded by the request's deadline
)


@dataclass(frozen=True)
class FrontDoor:
    """Everything that handlers use. Made once in a process; safe from its event loop and its threads.

    Attributes:
        limiter: takes from plans; close it when the process stops.
        ratelimits: the rate-limit service for others, over the same leases.
        decision_log: where its decisions go as events; None: nowhere.
    """

    settings: Settings
    clock: Clock
    facts: FactSink
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
    )
    limiter: Limiter | None = None
    ratelimits: RateLimits | None = None
    decision_log: DecisionLog | None = None


def front_door(settings: Settings, clock: Clock, facts: FactSink) -> FrontDoor:
    """Return the parts of one process of the API."""
    limiter, ratelimits = limits(settings, clock, facts)
    return FrontDoor(settings, clock, facts, limiter=limiter, ratelimits=ratelimits)
