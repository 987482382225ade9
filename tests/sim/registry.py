"""Every simulation by name: with all guards, and with each guard off."""

from tests.sim.guards import GUARDS
from tests.sim.invariants import Invariant
from tests.sim.redrive import simulate_redrive
from tests.sim.redrive_guards import REDRIVE_GUARDS
from tests.sim.replay import simulate_replay
from tests.sim.replay_guards import REPLAY_GUARDS
from tests.sim.run import Outcome, simulate

SIMULATIONS = {**GUARDS, **REPLAY_GUARDS, **REDRIVE_GUARDS}


def simulate_one(name: str, seed: int) -> Outcome:
    """Run one seed of one of them."""
    if name in REPLAY_GUARDS:
        return simulate_replay(seed, REPLAY_GUARDS[name])
    if name in REDRIVE_GUARDS:
        return simulate_redrive(seed, REDRIVE_GUARDS[name])
    return simulate(seed, GUARDS[name])


def expected(name: str) -> frozenset[Invariant]:
    """Return the invariants that must break; none where nothing may."""
    return SIMULATIONS[name].caught_by
