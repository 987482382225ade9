"""One seed from beginning to end."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

from pipeline.flows import load
from tests.sim.guards import NONE, Guard
from tests.sim.history import shortened
from tests.sim.invariants import ViolatedError, Violation
from tests.sim.oracle import check
from tests.sim.scenario import Scenario, draw
from tests.sim.scheduler import Scheduler
from tests.sim.world import World


@dataclass(frozen=True)
class Outcome:
    """What one seed gave."""

    seed: int
    guard: str
    scenario: Scenario | None
    violations: list[Violation]
    history: list[str]

    def report(self, *, full: bool = False) -> str:
        """Return the story of a failed seed: how to repeat it, what happened, what broke."""
        command = f"python -m tests.sim --first {self.seed} --seeds 1"
        command += f" --guard {self.guard!r}" if self.guard != NONE.name else ""
        broken = [f"  {violation}" for violation in self.violations]
        history = self.history if full else shortened(self.history)
        said = ["what broke:", *broken, f"repeat with: {command} (--full shows every effect)"]
        return "\n".join([str(self.scenario or ""), *history, *said])


def simulate(seed: int, guard: Guard = NONE) -> Outcome:
    """Run one seed; the same seed gives the same history every time."""
    random = Random(seed)
    scenario = draw(random)
    with guard.off(), _chunks_of(scenario.chunk_records):
        world = World(random, scenario, guard)
        scheduler = Scheduler(random, world)
        try:
            scheduler.run()
            violations = check(world)
        except ViolatedError as broken:
            violations = [broken.violation]
    return Outcome(seed, guard.name, scenario, violations, scheduler.history)


@contextmanager
def _chunks_of(records: int) -> Iterator[None]:
    """Let the loader consider a cut after so few records that a seed of some dozens sees many cuts."""
    usual = load._CHUNK_RECORDS
    load._CHUNK_RECORDS = records
    try:
        yield
    finally:
        load._CHUNK_RECORDS = usual
