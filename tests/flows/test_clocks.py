"""One process whose clock is wrong, among others of one store that tells its own time."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.lease import Account
from pipeline.core.plan import DELIVERED
from pipeline.core.quota import month_of
from pipeline.flows.leases import IDLE_SECONDS, Leases
from pipeline.flows.limit import plan_key
from pipeline.ports.limits import AccountKey
from tests.fakes.facts import FactList
from tests.fakes.limits import MemoryLimits
from tests.flows.test_leases import TINY, Skewed, Town, caller

DAY_US = 86_400 * 1_000_000
WRONG = [25 * DAY_US, -25 * DAY_US, 400 * DAY_US, 120 * 1_000_000, -120 * 1_000_000]


@pytest.mark.parametrize("store_down", ["open", "closed"])
@pytest.mark.parametrize("off_us", WRONG)
def test_a_process_with_a_wrong_clock_takes_nothing(off_us: int, store_down: Any) -> None:
    """It refuses as if limits could not be checked, says why, and leaves the account as it was."""
    town, who = Town(off_us=(off_us, 0), store_down=store_down), caller(DELIVERED[0])
    town.ask(1, who)
    before = town.store.accounts[plan_key(who)]
    found = town.ask(0, who)
    assert (found.allowed, found.which, found.retry_after_seconds) == (False, "store", 1)
    assert town.store.accounts[plan_key(who)] == before
    told = [one for one in town.facts.told if type(one).__name__ == "ClockFoundWrong"]
    assert len(told) == 1
    assert abs(told[0].ahead_seconds - off_us / 1e6) <= 2  # type: ignore[attr-defined]


@pytest.mark.parametrize("off_us", [-55_000_000, 59_000_000])
def test_a_clock_that_is_a_little_off_is_let_be(off_us: int) -> None:
    """Seconds are no reason to refuse."""
    town, who = Town(off_us=(off_us, 0)), caller(DELIVERED[0])
    assert town.ask(0, who).allowed
    assert town.facts.told == []


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 1), st.sampled_from(["ask", "jump", "stop", "wait"]), st.integers(0, 4)),
        max_size=80,
    )
)
def test_others_do_not_notice_a_wrong_clock(steps: list[tuple[int, str, int]]) -> None:
    """Clocks of two processes jump by days; the third is never told of another month, and its month's quota holds."""
    town, who, allowed = Town(3), caller(TINY), 0
    month = month_of(town.clock.now_us())
    for process, act, number in steps:
        if act == "jump":
            town.clocks[process].off_us = WRONG[number]
        elif act == "wait":
            town.clock.advance(number)
        elif act == "stop":
            town.limiters[process].close()
            town.clocks[process].off_us = 0
        else:
            allowed += town.ask(process, who).allowed + town.ask(2, who).allowed
        account = town.store.accounts.get(plan_key(who))
        assert account is None or (account.month == month and account.at_us <= town.clock.now_us())
        assert allowed <= TINY.requests_per_month


def test_a_clock_that_jumps_gives_nothing_back() -> None:
    """What a process held when its clock went wrong is nobody's: to give it back would store its time."""
    town, who = Town(1), caller(DELIVERED[2])
    town.ask(0, who)
    before = town.store.accounts[plan_key(who)]
    town.clocks[0].off_us = 25 * DAY_US
    town.clock.advance(IDLE_SECONDS + 1)
    town.leases[0].sweep()
    town.limiters[0].close()
    assert town.store.accounts[plan_key(who)] == before


def test_a_clock_that_is_corrected_counts_again() -> None:
    """It is told every ten seconds as long as it is wrong, once when it is right; then leases are taken."""
    town, who = Town(off_us=(DAY_US,)), caller(DELIVERED[0])
    for _ in range(25):
        town.ask(0, who)
        town.clock.advance(1)
    assert town.facts.names() == ["ClockFoundWrong"] * 3
    town.clocks[0].off_us = 0
    assert town.ask(0, who).allowed
    assert town.facts.names()[3:] == ["ClockCorrected"]


def test_the_state_of_the_clock_can_be_asked_for() -> None:
    """Readiness and usage fail with the difference and the setting, not with another month's numbers."""
    town, who = Town(off_us=(25 * DAY_US, 0)), caller(DELIVERED[0])
    town.limiters[1].ask_time()
    town.limiters[0].ask()
    for ask in (town.limiters[0].ask_time, lambda: town.limiters[0].usage(who)):
        with pytest.raises(Transient, match=r"21599\d\d s ahead of .*limits\.max_clock_skew_seconds"):
            ask()


def test_a_refused_signature_is_seen_for_what_it_is() -> None:
    """AWS refuses what is signed at a wrong time: the clock is told then, and nothing is let in by this process alone."""
    town, who = Town(off_us=(DAY_US,), store_down="open"), caller(DELIVERED[0])

    def refuse(_key: AccountKey) -> Account | None:
        raise ConfigProblem("Signature not yet current")

    town.store.read = refuse  # type: ignore[method-assign, assignment]
    assert not town.ask(0, who).allowed
    assert town.facts.names() == ["ClockFoundWrong"]


def test_an_account_that_is_ahead_is_told() -> None:
    """What a wrong clock has stored before is named; its tenant is served on in the account's time."""
    town, who = Town(1), caller(DELIVERED[0])
    wrong = Skewed(town.clock, 25 * DAY_US)
    store = MemoryLimits()  # it tells no time: nobody judges
    store.accounts = town.store.accounts
    terms = town.limiters[0]._terms(who)
    Leases(store, wrong, FactList()).renew(plan_key(who), terms, (1, 0, 0))
    assert town.ask(0, who).allowed
    assert [repr(one) for one in town.facts.told] == [
        "AccountFoundAhead(tenant='acme', account='plan', ahead_seconds=2160000)"
    ]
