"""Each guard of the protocol, switched off: what it protects breaks, and the simulator sees it.

Three guards are covered by others, so that nothing breaks without them alone:

* *predecessor*: ordinal and start come from one consistent read of a committed newest segment, and a decided segment
  never changes; only a loader that breaks one of these rules could plan on a wrong predecessor. Tested with each.
* *digest* and *if-none-match*: objects are written from the staging object of a decided segment alone, so two writers of
  one key hold the same bytes. Tested without staging; then the digest turns silent damage into `Corrupt`.
"""

import pytest

from tests.sim.guards import GUARDS, Guard
from tests.sim.oracle import names
from tests.sim.run import simulate

_SEEDS = 500
_PROTECTING = [guard for guard in GUARDS.values() if guard.caught_by]
_COVERED = [guard for guard in GUARDS.values() if not guard.caught_by and guard.name != "none"]


@pytest.mark.parametrize("guard", _PROTECTING, ids=lambda guard: guard.name)
def test_a_missing_guard_is_caught(guard: Guard) -> None:
    """Without the guard, one of the invariants it protects breaks within 500 seeds."""
    for seed in range(_SEEDS):
        if names(simulate(seed, guard).violations) & guard.caught_by:
            return
    pytest.fail(f"without {guard.name}: {_SEEDS} seeds, and none of {sorted(guard.caught_by)} broke")


@pytest.mark.parametrize("guard", _COVERED, ids=lambda guard: guard.name)
def test_a_covered_guard_is_a_second_line(guard: Guard) -> None:
    """Without it alone nothing breaks; its partners above show what it is for."""
    for seed in range(40):
        outcome = simulate(seed, guard)
        assert outcome.violations == [], outcome.report()
