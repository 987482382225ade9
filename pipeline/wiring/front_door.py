"""What the HTTP API is made of."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from pipeline.config import Settings
from pipeline.facts import FactSink
from pipeline.ports.clock import Clock

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


def front_door(settings: Settings, clock: Clock, facts: FactSink) -> FrontDoor:
    """Return the parts of one process of the API."""
    return FrontDoor(settings, clock, facts)
