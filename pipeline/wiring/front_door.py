"""What the HTTP API is made of."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.config import Settings
from pipeline.facts import FactSink
from pipeline.flows.ready import Readiness
from pipeline.flows.rules import StoredRules
from pipeline.ports.clock import Clock
from pipeline.ports.control import Control
from pipeline.ports.rules import NewestRules
from pipeline.ports.usage import TellsUsage
from pipeline.wiring.control import control
from pipeline.wiring.loading import filed_rules
from pipeline.wiring.reads import Reads, probes, reads

_THREADS = (
    16  # calls to stores that one process has under way; further ones wait, bounded by the request's deadline
)


@dataclass(frozen=True)
class FrontDoor:
    """Everything that handlers use. Made once in a process; safe from its event loop and its threads.

    Attributes:
        control: the control store: from threads only.
        reads: gives each caller its own reader; close it when the process stops.
        ready: asks what the process depends on.
        rules: called, it gives the newest rules known, without waiting; `rules.newest(since_us)`, in a thread, looks for newer.
    """

    settings: Settings
    clock: Clock
    facts: FactSink
    control: Control
    rules: NewestRules
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(_THREADS, thread_name_prefix="store")
    )
    reads: Reads | None = None
    ready: Readiness | None = None
    limiter: TellsUsage | None = None


def front_door(settings: Settings, clock: Clock, facts: FactSink) -> FrontDoor:
    """Return the parts of one process of the API."""
    store = control(settings, clock)
    rules = StoredRules(filed_rules(settings), lambda: store, clock, facts)
    rules.newest(0)
    return FrontDoor(
        settings,
        clock,
        facts,
        store,
        rules,
        reads=reads(settings, clock, facts),
        ready=Readiness(probes(settings, facts) | {"control": store.revision}, clock),
    )
