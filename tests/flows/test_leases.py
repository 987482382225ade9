"""Leases and the limiter over a store in memory: several processes, clocks that differ, a store that fails."""

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.caller import Caller
from pipeline.core.decision import Decision
from pipeline.core.errors import Corrupt
from pipeline.core.lease import Account, Terms, lease_size
from pipeline.core.plan import DELIVERED, Plan
from pipeline.core.quota import month_ends_us
from pipeline.facts import LimitItemUnreadable
from pipeline.flows.leases import IDLE_SECONDS, Leases
from pipeline.flows.limit import Limiter, plan_key, plan_terms
from pipeline.ports.limits import AccountKey
from tests.fakes.clock import NOON_US, SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.limits import MemoryLimits

MIB = 2**20
TINY = Plan("tiny", 10, 20, 50, 1_000, MIB, 500)


class Skewed:
    """A clock that all processes share, seen by one whose wall clock is off."""

    def __init__(self, clock: SteppedClock, off_us: int) -> None:
        self._clock, self.off_us = clock, off_us

    def now_us(self) -> int:
        """Return the wrong time."""
        return self._clock.now_us() + self.off_us

    def monotonic(self) -> float:
        """Return seconds."""
        return self._clock.monotonic()

    def pause(self, seconds: float) -> None:
        """Wait."""
        self._clock.pause(seconds)

    def idle(self, seconds: float) -> None:
        """Wait."""
        self._clock.idle(seconds)


class Town:
    """Processes over one store."""

    def __init__(self, processes: int = 1, off_us: tuple[int, ...] = (), store_down: Any = "open") -> None:
        self.clock, self.facts = SteppedClock(), FactList()
        self.store = MemoryLimits(self.clock.now_us)
        offs = off_us or (0,) * processes
        self.clocks = [Skewed(self.clock, off) for off in offs]
        self.leases = [Leases(self.store, clock, self.facts, store_down) for clock in self.clocks]
        self.limiters = [
            Limiter(leases, clock, MIB) for leases, clock in zip(self.leases, self.clocks, strict=True)
        ]

    def ask(
        self, process: int, caller: Caller, requests: int = 1, events: int = 0, size: int = 0
    ) -> Decision:
        """Take as the API does: renew while the limiter says so."""
        limiter = self.limiters[process]
        for _ in range(10):
            found = limiter.take(caller, requests, events, size)
            if found is not None:
                if found.low:
                    limiter.renew(caller, 0, 0, 0)
                return found
            limiter.renew(caller, requests, events, size)
        raise AssertionError("the limiter never decides")


def caller(plan: Plan, tenant: str = "acme", own: int | None = None) -> Caller:
    """Return somebody who calls."""
    return Caller(tenant, "key:k1", frozenset(), plan, own)


@pytest.mark.parametrize("plan", DELIVERED, ids=lambda plan: plan.name)
@pytest.mark.parametrize("off_us", [(0, 0, 0, 0), (-150_000, 0, 90_000, 150_000)], ids=["together", "apart"])
def test_four_processes_allow_what_the_plan_says(plan: Plan, off_us: tuple[int, ...]) -> None:
    """Saturated for ten seconds, four processes together allow burst + rate x 10 within 5 %, at few writes."""
    town, who, allowed = Town(off_us=off_us), caller(plan), 0
    step = 1 / (plan.requests_per_second * 3)
    for number in range(round(10 / step)):
        town.clock.advance(step)
        allowed += town.ask(number % 4, who).allowed
    expected = plan.burst_requests + 10 * plan.requests_per_second
    assert abs(allowed - expected) <= 0.05 * expected
    if plan.name == "premium":
        assert town.store.writes <= allowed / 100
    assert town.store.writes <= 10 * 10 + plan.burst_requests + 8


@pytest.mark.parametrize("plan", DELIVERED, ids=lambda plan: plan.name)
def test_a_steady_window_is_within_the_plan(plan: Plan) -> None:
    """Ten seconds after the burst is gone, four processes allow rate x 10 within 5 %."""
    town, who, allowed = Town(4), caller(plan), 0
    step = 1 / (plan.requests_per_second * 3)
    for number in range(round(15 / step)):
        town.clock.advance(step)
        found = town.ask(number % 4, who).allowed
        allowed += found and number * step >= 5
    assert abs(allowed - 10 * plan.requests_per_second) <= 0.5 * plan.requests_per_second


def test_a_tenant_far_above_its_plan_costs_nothing() -> None:
    """A basic tenant at 100 times its plan asks the store at most ten times a second, and is denied in memory."""
    town, who = Town(1), caller(DELIVERED[0])
    for _ in range(5_000):
        town.clock.advance(0.001)
        town.ask(0, who)
    town.store.reads = town.store.writes = 0
    for _ in range(10_000):
        town.clock.advance(0.001)
        town.ask(0, who)
    assert town.store.writes <= 101
    assert town.store.reads <= 205


def test_plenty_is_never_refused() -> None:
    """A caller below its plan is never refused, and a premium one costs one write in a hundred requests."""
    town, who = Town(4), caller(DELIVERED[2])
    for number in range(5_000):
        town.clock.advance(1 / 500)
        assert town.ask(number % 4, who).allowed
    assert town.store.writes <= 5_000 / 100 + 4


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["ask", "crash", "stop", "wait"]), st.integers(1, 5)),
        max_size=120,
    )
)
def test_the_quota_is_never_exceeded(steps: list[tuple[int, str, int]]) -> None:
    """Whatever asks, crashes and stops: a month's requests stay within the quota, and only crashes leave some unused."""
    town, who = Town(off_us=(-150_000, 0, 150_000)), caller(TINY)
    allowed = crashes = 0
    for process, act, times in steps:
        if act == "ask":
            allowed += sum(town.ask(process, who).allowed for _ in range(times))
        elif act == "wait":
            town.clock.advance(times)
        else:
            if act == "stop":
                town.limiters[process].close()
            crashes += act == "crash"
            town.leases[process] = Leases(town.store, town.clocks[process], town.facts)
            town.limiters[process] = Limiter(town.leases[process], town.clocks[process], MIB)
        assert allowed <= TINY.requests_per_month
    for limiter in town.limiters:
        limiter.close()
    account = town.store.accounts.get(plan_key(who))
    used = account.used if account else 0
    assert allowed <= used <= allowed + 2 * crashes


def test_a_process_that_never_had_a_lease_says_what_is_left() -> None:
    """Its first refusal tells of the bucket and of the month what the others left of them, their leases taken off."""
    town, who = Town(2), caller(DELIVERED[0])
    for _ in range(20):
        assert town.ask(0, who).allowed
    events = town.ask(1, who, 0, 2_000)
    assert (events.which, events.retry_after_seconds, events.remaining) == ("events", None, 890)
    month = events.shares[1]
    assert (month.window_seconds, month.remaining) == (2_678_400, 99_980)


def test_a_new_month_begins_anew() -> None:
    """A used-up month refuses with the time of its end; then the next one's quota is there."""
    town, who = Town(1), caller(TINY)
    while town.ask(0, who).which != "month":
        town.clock.advance(0.2)
    refused = town.ask(0, who)
    assert refused.retry_after_seconds is not None
    left_us = month_ends_us("2024-03") - town.clock.now_us()
    assert abs(refused.retry_after_seconds - left_us / 1e6) <= 1
    town.clock.advance(left_us / 1e6 + 0.001)
    assert town.ask(0, who).allowed


def test_a_lease_of_an_old_month_is_not_spent() -> None:
    """Tokens leased in one month are not spent in the next: each month counts its own."""
    town, who = Town(1), caller(DELIVERED[2])
    town.ask(0, who)
    town.clock.advance((month_ends_us("2024-03") - NOON_US) / 1e6)
    town.ask(0, who)
    account = town.store.accounts[plan_key(who)]
    assert (account.month, account.used) == ("2024-04", 110)


def test_a_debt_outlives_the_month() -> None:
    """What was read above the plan in the last second of a month is paid in the first of the next."""
    town, who = Town(1), caller(Plan("wide", 1_000, 2_000, 10**7, 1_000, MIB, 500))
    month = town.ask(0, who).allowed and town.store.accounts[plan_key(who)].month
    assert month
    town.clock.advance((month_ends_us(month) - town.clock.now_us()) / 1e6 - 0.5)
    assert town.ask(0, who, 1, 0, 100).allowed
    town.limiters[0].settle(who, 1, 10 * MIB)
    town.clock.advance(1)
    assert town.ask(0, who, 1, 0, 0).allowed
    waited = 0
    while not town.ask(0, who, 1, 0, 100).allowed:
        town.clock.advance(0.1)
        waited += 1
    assert 70 <= waited <= 110  # ten seconds, less what the bucket holds and the second between the months


def test_a_larger_plan_counts_at_once() -> None:
    """A tenant that used up its month or bucket is let in at its larger plan's rate, from its first request on."""
    town = Town(1)
    while town.ask(0, caller(TINY)).which != "month":
        town.clock.advance(0.1)
    assert town.ask(0, caller(DELIVERED[0])).allowed
    while town.ask(0, caller(DELIVERED[0])).allowed:
        pass
    for _ in range(3):  # what was promised under the smaller plan comes first
        town.ask(0, caller(DELIVERED[2]))
        town.clock.advance(0.2)
    assert all(town.ask(0, caller(DELIVERED[2])).allowed for _ in range(100))


@pytest.mark.parametrize("used_up", [False, True])
def test_callers_under_two_plans_do_not_keep_each_other_waiting(used_up: bool) -> None:
    """While a plan changes, callers that know the old one and the new one are all told after a renewal each, let in or not."""
    town, tiny, basic = Town(1), caller(TINY), caller(DELIVERED[0])
    for who in (tiny, basic) if used_up else ():
        while town.ask(0, who).allowed:
            pass
    town.clock.advance(0.001)
    limiter, begun = town.limiters[0], list[tuple[Any, Any]]()

    def submit(work: Any, *given: Any) -> None:
        begun.append((work, given))

    def waits(who: Caller) -> bool:
        """Ask as a request does that an event loop wakes: whoever is woken next finds what this one left."""
        if limiter.take(who, 3) is not None:
            return False
        limiter.renewal(who, 3, 0, 0, submit)
        return True

    waiting = [who for who in (tiny, basic, tiny, basic) if waits(who)]
    for _ in range(4):
        if waiting:
            work, given = begun.pop()
            work(*given)
        waiting = [who for who in waiting if waits(who)]
    assert not waiting


def test_events_and_bytes_have_buckets_of_their_own() -> None:
    """A batch takes what it is; the bucket that is short is named; a batch above the bucket never comes in."""
    town, who = Town(1), caller(DELIVERED[0])
    assert town.ask(0, who, 0, 500, 1_000).allowed
    assert town.ask(0, who, 0, 500, 1_000).allowed
    refused = town.ask(0, who, 0, 500, 1_000)
    assert (refused.allowed, refused.which, refused.retry_after_seconds) == (False, "events", 1)
    assert town.ask(0, who, 1).allowed
    never = town.ask(0, who, 0, 0, 50 * MIB)
    assert (never.which, never.retry_after_seconds) == ("bytes", None)


def test_a_debt_is_paid_beside_processes_that_use_up_the_plan() -> None:
    """A process that owes three seconds of bytes serves its tenant again soon, though three others take all that comes."""
    town, who = Town(4), caller(Plan("wide", 1_000, 2_000, 10**7, 1_000, MIB, 500))
    for process in range(4):
        assert town.ask(process, who, 1, 0, 100).allowed
    town.limiters[0].settle(who, 1, 3 * MIB)
    allowed, reads = [0, 0, 0, 0], town.store.reads
    for _ in range(1_200):
        town.clock.advance(0.025)
        for process in range(4):
            allowed[process] += town.ask(process, who, 0, 0, 32_768).allowed
    assert min(allowed) > 0.5 * max(allowed)
    assert abs(sum(allowed) * 32_768 / MIB - (1 + 30 - 3)) <= 1.5  # what was read in debt is of the plan, too
    assert town.store.reads - reads <= 10 * 30 * 4


def test_a_credential_has_a_limit_of_its_own() -> None:
    """One slow credential is refused by name and takes nothing of its tenant's plan then; another one goes on."""
    town, slow, fast = Town(1), caller(DELIVERED[1], own=2), caller(DELIVERED[1])
    found = [town.ask(0, slow) for _ in range(10)]
    assert [one.allowed for one in found] == [True] * 4 + [False] * 6
    assert found[-1].which == "credential"
    account = town.store.accounts[plan_key(slow)]
    assert account.used == lease_size(town.limiters[0]._terms(slow).buckets[0])
    assert town.ask(0, fast).allowed


def test_the_store_is_down_and_open() -> None:
    """Each process goes on at the plan's rate, tells it, and the quota pays afterwards."""
    town, who = Town(1), caller(DELIVERED[0])
    town.store.down = True
    allowed = 0
    for _ in range(1_000):
        town.clock.advance(0.01)
        allowed += town.ask(0, who).allowed
    assert 110 <= allowed <= 121
    town.store.down = False
    town.clock.advance(2)
    while town.store.writes == 0:
        town.clock.advance(0.1)
        allowed += town.ask(0, who).allowed
    assert town.store.accounts[plan_key(who)].used >= allowed
    assert set(town.facts.names()) == {"LimitStoreFailed", "LimitStoreAnswered"}
    assert town.facts.names().count("LimitStoreFailed") <= 3


def test_what_went_over_the_quota_while_the_store_was_down_is_not_of_the_next_month() -> None:
    """Once it answers, the quota pays as far as it reaches, so nobody takes the rest; the next month begins whole."""
    town, who = Town(2), caller(Plan("tight", 10, 20, 150, 1_000, MIB, 500))

    def allowed(processes: int, steps: int) -> int:
        count = 0
        for number in range(steps):
            town.clock.advance(0.1)
            count += town.ask(number % processes, who).allowed
        return count

    before = allowed(2, 60)
    town.store.down = True
    over = allowed(1, 120) + before
    town.store.down = False
    assert over > 150
    town.clock.advance(2)
    assert allowed(1, 20) <= 1  # what it held
    assert town.store.accounts[plan_key(who)].used == 150
    told = town.ask(0, who)
    assert (told.which, told.shares[-1].remaining) == ("month", 0)
    assert allowed(2, 600) <= 1
    ends_us = month_ends_us(town.store.accounts[plan_key(who)].month)
    town.clock.advance((ends_us - town.clock.now_us()) / 1e6 + 1)
    assert allowed(2, 600) == 150


def test_nobody_waits_for_a_store_that_is_known_to_be_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again a second later, once whoever came has its tokens; a store that hangs holds up no request."""
    town, who = Town(1), caller(DELIVERED[0])
    town.store.down = True
    assert town.ask(0, who).allowed
    town.clock.advance(2)
    work, told, read = list[Any](), list[bool](), town.store.read

    def slow_read(key: AccountKey) -> Any:
        told.append(renewal.done())
        return read(key)

    monkeypatch.setattr(town.store, "read", slow_read)
    renewal = town.limiters[0].renewal(who, 1, 0, 0, lambda *given: work.append(given))
    for call, *rest in work:
        call(*rest)
    assert told == [True]
    assert town.limiters[0].take(who, 1, 0, 0)


def test_the_store_is_down_and_closed() -> None:
    """Everything is refused, by name, until the store answers; it is asked once a second."""
    town, who = Town(1, store_down="closed"), caller(DELIVERED[0])
    town.store.down = True
    refused = town.ask(0, who)
    assert (refused.allowed, refused.which, refused.retry_after_seconds) == (False, "store", 1)
    town.store.down = False
    assert not town.ask(0, who).allowed
    town.clock.advance(1.1)
    assert town.ask(0, who).allowed


def test_an_unreadable_account_does_not_keep_the_others_closed() -> None:
    """Asked first after an outage, it proves that the store answers: with limits closed, others are let in again."""
    town, damaged, good = Town(1, store_down="closed"), caller(TINY, "damaged"), caller(TINY, "good")
    town.store.down = True
    assert not town.ask(0, good).allowed
    town.store.down, town.store.unreadable = False, {plan_key(damaged)}
    town.clock.advance(1.1)
    for _ in range(3):
        assert not town.ask(0, damaged).allowed
        assert town.ask(0, good).allowed
        town.clock.advance(1.1)


def test_a_sweep_asks_a_store_that_is_down_once() -> None:
    """The leases of many tenants that went idle are let go at once: with a table that hangs, each would hold a thread for seconds."""
    town = Town(1)
    for number in range(50):
        town.ask(0, caller(DELIVERED[2], f"tenant-{number}"))
    town.clock.advance(IDLE_SECONDS + 1)
    town.store.down, town.store.asked = True, 0
    town.leases[0].sweep()
    assert town.store.asked == 1
    assert len(town.leases[0]) == 0


def test_a_tenant_that_comes_back_keeps_its_new_lease() -> None:
    """Driven out of memory by another and back before its old lease was given back, it loses nothing of its month."""
    town, who, other = Town(1), caller(DELIVERED[2]), caller(DELIVERED[2], "other")
    town.leases[0] = Leases(town.store, town.clock, town.facts, max_accounts=1)
    town.limiters[0] = Limiter(town.leases[0], town.clock, MIB)
    assert town.ask(0, who).allowed
    town.limiters[0].renewal(
        other, 1, 0, 0, lambda run, *given: run(*given) if given else None
    )  # no sweep yet
    assert town.ask(0, who).allowed
    assert town.store.accounts[plan_key(who)].used == 1 + lease_size(plan_terms(who.plan, MIB).buckets[0])


def test_a_renewal_after_the_end_says_so_to_whoever_waits_alone() -> None:
    """Threads that have ended take neither the renewal nor a sweep that is due: the waiter is told, nobody else is disturbed."""
    town, threads = Town(1), ThreadPoolExecutor(1)
    threads.shutdown()
    town.clock.advance(IDLE_SECONDS)
    renewal = town.limiters[0].renewal(caller(DELIVERED[2]), 1, 0, 0, threads.submit)
    assert isinstance(renewal.exception(), RuntimeError)


def test_unused_leases_are_given_back() -> None:
    """A lease that nobody used for a minute goes back, as do those of a process that stops."""
    town, who = Town(1), caller(DELIVERED[2])
    town.ask(0, who)
    assert town.store.accounts[plan_key(who)].used == 110
    town.clock.advance(IDLE_SECONDS + 1)
    town.leases[0].sweep()
    assert town.store.accounts[plan_key(who)].used == 1
    assert len(town.leases[0]) == 0
    town.ask(0, who)
    town.limiters[0].close()
    assert town.store.accounts[plan_key(who)].used == 2


def test_accounts_in_memory_are_bounded() -> None:
    """The least recently used account goes, and what it held goes back."""
    clock, store = SteppedClock(), MemoryLimits()
    leases = Leases(store, clock, FactList(), max_accounts=3)
    terms = Terms((DELIVERED_TERMS,))
    for number in range(10):
        leases.renew(AccountKey("acme", f"check#n#{number}"), terms, (1,))
    assert len(leases) <= 3
    leases.sweep()
    full = [one for one in store.accounts.values() if one.units[0] == DELIVERED_TERMS.full_units]
    assert len(full) == 7


DELIVERED_TERMS = (
    Limiter(Leases(MemoryLimits(), SteppedClock(), FactList()), SteppedClock(), MIB)
    ._terms(caller(DELIVERED[1]))
    .buckets[0]
)


def test_one_renewal_of_a_tenant_at_a_time() -> None:
    """Whoever waits for a lease waits for the same renewal."""
    town, who = Town(1), caller(DELIVERED[0])
    begun: list[Any] = []

    def submit(work: Any, *given: Any) -> None:
        begun.append((work, given))

    first: Future[None] = town.limiters[0].renewal(who, 1, 0, 0, submit)
    assert town.limiters[0].renewal(who, 1, 0, 0, submit) is first
    assert len(begun) == 1
    begun[0][0](*begun[0][1])
    assert first.done()
    assert town.ask(0, who).allowed


def test_what_was_used() -> None:
    """Usage names what was used and is left, without what this process merely holds."""
    town, who = Town(1), caller(DELIVERED[2])
    for _ in range(5):
        town.ask(0, who)
    usage = town.limiters[0].usage(who)
    assert (usage.month, usage.used, usage.left) == ("2024-03", 5, 9_999_995)
    assert usage.resets_at_us == month_ends_us("2024-03")
    assert [one.name for one in usage.now] == ["requests", "events", "bytes"]
    plan = DELIVERED[2]
    assert [plan.burst_requests - one.remaining for one in usage.now][:1] == [5]
    assert [one.remaining for one in usage.now][1:] == [one.limit for one in usage.now][1:]


@pytest.mark.parametrize("plan", DELIVERED, ids=lambda plan: plan.name)
def test_callers_are_told_what_is_left_to_a_hundredth(plan: Plan) -> None:
    """Exactly where it is little; where it is much, a number may be told to the next hundredth of the callers, too."""
    town, who = Town(1), caller(plan)
    told = [town.ask(0, who).remaining for _ in range(plan.burst_requests // 2)]
    for number, remaining in enumerate(told, 1):
        left = plan.burst_requests - number
        assert left <= remaining <= left + left // 99
    if plan.burst_requests < 100:
        assert told == [plan.burst_requests - number for number in range(1, len(told) + 1)]
    town.clock.advance(3_600)
    assert town.ask(0, who).remaining >= plan.burst_requests - 1


def test_a_clock_that_is_behind_catches_up() -> None:
    """A process whose clock was a minute ahead is gone: the others go on at the plan's rate, at once."""
    town, who = Town(off_us=(60_000_000, 0)), caller(DELIVERED[0])
    while town.ask(0, who).allowed:
        pass
    allowed = 0
    for _ in range(300):
        town.clock.advance(0.01)
        allowed += town.ask(1, who).allowed
    assert 27 <= allowed <= 30


class OneIsOdd(MemoryLimits):
    """One tenant's account was written by somebody else."""

    def read(self, key: AccountKey) -> Account | None:
        """Return an account."""
        if key.tenant == "acme":
            raise Corrupt("table limits: account acme plan: cannot be read")
        return super().read(key)


@pytest.mark.parametrize("store_down", ["open", "closed"])
def test_an_unreadable_account_is_one_account(store_down: Literal["open", "closed"]) -> None:
    """It is let in or refused as a store that is down; the others are counted in the store, and it is told by name."""
    clock, facts, store = SteppedClock(), FactList(), OneIsOdd()
    leases = Leases(store, clock, facts, store_down)
    limiter, odd = Limiter(leases, clock, MIB), caller(TINY, "acme")
    limiter.renew(odd)
    decision = limiter.take(odd)
    assert decision is not None
    assert decision.allowed == (store_down == "open")
    other = caller(TINY, "initech")
    limiter.renew(other)
    found = limiter.take(other)
    assert found is not None
    assert found.allowed
    assert store.accounts[plan_key(other)].used > 0
    leases.close()
    told = [one for one in facts.told if isinstance(one, LimitItemUnreadable)]
    assert [one.error for one in told] == ["table limits: account acme plan: cannot be read"]
    assert "LimitStoreFailed" not in facts.names()
