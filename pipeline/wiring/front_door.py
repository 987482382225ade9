"""What the HTTP API is made of."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.config import Settings
from pipeline.core.rules import Rules
from pipeline.facts import FactSink
from pipeline.flows.authenticate import Authenticator
from pipeline.flows.idempotency import Idempotency
from pipeline.flows.ready import Readiness
from pipeline.ports.clock import Clock
from pipeline.ports.control import Control
from pipeline.ports.usage import TellsUsage
from pipeline.wiring.loading import rules as settled_rules
from pipeline.wiring.reads import Reads, probes, reads
from pipeline.wiring.trusting import idempotency

_THREADS = (
    16  # calls to stores that one process has under way; further ones wait, bounded by the request's deadline
)


@dataclass(frozen=True)
class FrontDoor:
    """Everything that handlers use. Made once in a process; safe from its event loop and its threads."""

    settings: Settings
    clock: Clock
    facts: FactSink
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
    )
    authenticator: Authenticator | None = None
    idempotency: Idempotency | None = None
    reads: Reads | None = None
    ready: Readiness | None = None
    rules: Callable[[], Rules] | None = None
    control: Control | None = None
    limiter: TellsUsage | None = None


def front_door(settings: Settings, clock: Clock, facts: FactSink) -> FrontDoor:
    """Return the parts of one process of the API."""
    judged_by = settled_rules(settings)
    return FrontDoor(
        settings,
        clock,
        facts,
        idempotency=idempotency(settings, clock, facts),
        reads=reads(settings, clock, facts),
        ready=Readiness(probes(settings, facts), clock),
        rules=lambda: judged_by,
    )
