"""Each guard of the protocol, switched off: what it protects breaks, and the simulator sees it.

Some guards are covered by others, so that nothing breaks without them alone:

* *predecessor*: ordinal and start come from one consistent read of a committed newest segment, and a decided segment
  never changes; only a loader that breaks one of these rules could plan on a wrong predecessor. Tested with each.
* *digest* and *if-none-match*: objects are written from the staging object of a decided segment alone, so two writers of
  one key hold the same bytes. Tested without staging; then the digest turns silent damage into `Corrupt`.
* *commit compares*: only who planned or read a segment commits it. Tested with a worker that takes an unknown plan for held.
* *totals ahead are refused*: no total runs ahead while the others hold; `tests/flows/test_load_cases.py` plants one.
"""

import pytest

from tests.sim.oracle import names
from tests.sim.registry import SIMULATIONS, expected, simulate_one
from tests.sim.table import read_table

_SEEDS = 500
_PROTECTING = [name for name in SIMULATIONS if expected(name)]
_COVERED = [name for name in SIMULATIONS if not expected(name) and name not in {"none", "replay", "redrive"}]


@pytest.mark.parametrize("guard", _PROTECTING)
def test_a_missing_guard_is_caught(guard: str) -> None:
    """Without the guard, one of the invariants it protects breaks within 500 seeds.

    The table in `docs/guarantees.md` says which seed was the first: it is looked at first.
    """
    row = read_table().get(guard)
    likely = row.first if row is not None and row.first is not None else 0
    for seed in (likely, *range(_SEEDS)):
        if names(simulate_one(guard, seed).violations) & expected(guard):
            return
    pytest.fail(f"without {guard}: {_SEEDS} seeds, and none of {sorted(expected(guard))} broke")


@pytest.mark.parametrize("guard", _COVERED)
def test_a_covered_guard_is_a_second_line(guard: str) -> None:
    """Without it alone nothing breaks; its partners above show what it is for."""
    for seed in range(10):
        outcome = simulate_one(guard, seed)
        assert outcome.violations == [], outcome.report()


def test_the_table_names_every_guard() -> None:
    """`docs/guarantees.md` tells of each guard that has a switch, and of no other."""
    assert sorted(read_table()) == sorted(_PROTECTING)
