"""The protocol of the loader under every fault a seed can think of (design §6 and §7).

`make simulate SEEDS=n` runs more; FIRST_SEED moves on to others.
"""

import os

import pytest

from tests.sim.run import simulate

_SEEDS = int(os.environ.get("SEEDS", "500"))
_FIRST = int(os.environ.get("FIRST_SEED", "0"))
_PER_TEST = 25


@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _SEEDS, _PER_TEST))
def test_rows_are_equal_after_any_faults(first: int) -> None:
    """Whatever crashes, is lost, comes late or runs twice: the archive holds exactly what was produced."""
    for seed in range(first, min(first + _PER_TEST, _FIRST + _SEEDS)):
        outcome = simulate(seed)
        if outcome.violations:
            pytest.fail(outcome.report(), pytrace=False)


def test_a_seed_repeats_itself() -> None:
    """The same seed gives the same history, so that a failure can be looked at."""
    assert simulate(7).history == simulate(7).history


def test_the_seeds_visit_every_corner() -> None:
    """Within a few dozen seeds each kind of fault and of event happens, so a silent simulator is noticed."""
    history = "\n".join(line for seed in range(100) for line in simulate(seed).history)
    corners = (
        "crashes before it",
        "| crash after",
        "| lose answer",
        "| fails",
        "suspended before it",
        "torn after",
        "arrives -> holds",
        "arrives -> ordinal taken",
        "-> seal moved",
        "-> 1 planned",
        "every worker dies",
        "splits into",
        "merge into",
        "is created anew",
        "seal raised to",
        "objects.put late/",
        "objects.put quarantine/",
        "objects.get ids/",
        "driver: apart checkpoint",
    )
    assert [corner for corner in corners if corner not in history] == []
