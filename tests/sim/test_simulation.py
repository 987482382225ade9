"""The protocol of the loader, and of replay, under every fault a seed can think of (design §6, §7 and §11).

`make simulate SEEDS=n` runs more; FIRST_SEED moves on to others.
"""

import os
from collections.abc import Iterable

import pytest

from tests.sim.guards import GUARDS
from tests.sim.history import MAX_LINES
from tests.sim.registry import simulate_one
from tests.sim.run import simulate

_SEEDS = int(os.environ.get("SEEDS", "500"))
_FIRST = int(os.environ.get("FIRST_SEED", "0"))
_PER_TEST = 25
_REPLAY_SHARE = 5  # one seed of replay, and one of redrive, for so many of the loader


@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _SEEDS, _PER_TEST))
def test_rows_are_equal_after_any_faults(first: int) -> None:
    """Whatever crashes, is lost, comes late or runs twice: the archive holds exactly what was produced."""
    _hold("none", range(first, min(first + _PER_TEST, _FIRST + _SEEDS)))


@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _SEEDS // _REPLAY_SHARE, _PER_TEST))
def test_results_are_equal_after_any_faults(first: int) -> None:
    """Whatever happens to senders, processors and messages: results are those of a plain count over the job's basis."""
    _hold("replay", range(first, first + _PER_TEST))


@pytest.mark.parametrize("first", range(_FIRST, _FIRST + _SEEDS // _REPLAY_SHARE, _PER_TEST))
def test_what_was_refused_goes_through_once(first: int) -> None:
    """Whatever happens to loaders and redrives: what the mended rules accept is archived once, with one mark."""
    _hold("redrive", range(first, first + _PER_TEST))


def _hold(name: str, seeds: Iterable[int]) -> None:
    for seed in seeds:
        outcome = simulate_one(name, seed)
        if outcome.violations:
            pytest.fail(outcome.report(), pytrace=False)


@pytest.mark.parametrize("name", ["none", "replay", "redrive"])
def test_a_seed_repeats_itself(name: str) -> None:
    """The same seed gives the same history, so that a failure can be looked at."""
    assert simulate_one(name, 7).history == simulate_one(name, 7).history


def test_a_failure_is_told_in_short() -> None:
    """A failed seed names what broke and one command that repeats it; its history fits on a few screens."""
    outcome = next(one for seed in range(100) if (one := simulate(seed, GUARDS["fence"])).violations)
    told = outcome.report().splitlines()
    assert len(outcome.history) > MAX_LINES
    assert len(told) <= MAX_LINES + 10
    assert told[-1].startswith(
        f"repeat with: python -m tests.sim --first {outcome.seed} --seeds 1 --guard 'fence'"
    )
    assert outcome.history[-1] in outcome.report(full=True)


def test_the_seeds_visit_every_corner() -> None:
    """Within a few dozen seeds each kind of fault and of event happens, so a silent simulator is noticed."""
    history = "\n".join(line for seed in range(80) for line in simulate(seed).history)
    corners = (
        "crashes before it",
        "| crash after",
        "| lose answer",
        "| fails",
        "| throttled",
        "gives up",
        "suspended before it",
        " took place",
        "arrives -> holds",
        "arrives -> ordinal taken",
        "-> seal moved",
        "-> 1 planned",
        "every worker dies",
        "splits into",
        "merge into",
        "shardId-000000000001 splits",
        "is created anew",
        "are deployed",
        "the later code",
        "seal raised to",
        "the wall clock of",
        "objects.put late/",
        "objects.put quarantine/",
        "objects.get ids/",
        "driver: apart checkpoint",
        "driver: kcl",
        "-> LeaseLost",
        "lease.ended",
        "stream.put",
        "ProvisionedThroughput",
        "receipts.put",
    )
    assert [corner for corner in corners if corner not in history] == []


def test_the_seeds_of_replay_visit_every_corner() -> None:
    """The same of replay: what queues, senders and processors may do happens."""
    history = "\n".join(line for seed in range(30) for line in simulate_one("replay", seed).history)
    corners = (
        "a message: again",
        "a message: lost",
        "a message: forged",
        "the queue is shuffled",
        "queue.bury",
        "arrives",
        "jobs.freeze -> None | tear",
        "resumer",
        "jobs.finish_chunk 1 -> False",
        "days.put_newer -> None | tear",
        "ledger.commit",
        "jobs.move done -> True",
    )
    assert [corner for corner in corners if corner not in history] == []


def test_the_seeds_of_redrive_visit_every_corner() -> None:
    """The same of redrive: several at once, refused plans, faults at what they decide."""
    history = "\n".join(line for seed in range(30) for line in simulate_one("redrive", seed).history)
    corners = (
        "objects.put redriven/",
        "ledger.register_redrive",
        "-> ordinal taken",
        "-> seal moved",
        "objects.put late/",
        "| crash after",
        "| lose answer",
        "| tear",
        "arrives",
        "| fails",
        "mended schema",
    )
    assert [corner for corner in corners if corner not in history] == []
