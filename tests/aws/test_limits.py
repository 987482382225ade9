"""Behaviour of the ports `LimitStore`, `Policies` and `Decisions`, the same in every world; and what they store."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from pipeline.aws.limits import (
    account_item,
    account_of,
    decided_of,
    decision_item,
    policy_item,
    policy_of,
)
from pipeline.core.lease import Account
from pipeline.core.policy import Limit, Policy
from pipeline.ports.limits import AccountKey, Decided
from tests.aws.backends import Faulty, World
from tests.golden.compare import matches_golden

KEY = AccountKey("acme", "plan")
CHECK = AccountKey("acme", "check#logins#door #1")
ACCOUNT = Account("r1", 1_710_072_000_000_000, (-5, 10**21), (1, 2_678_400), "2024-03", 110)
POLICY = Policy("logins", Limit(5, 60, 10))
DECIDED = Decided("ab12", b'{"allowed":true}')


def _next(revision: str, used: int = 0) -> Account:
    return Account(revision, 1, (1,), (1,), "2024-03", used)


@pytest.mark.parametrize("key", [KEY, CHECK], ids=["plan", "check"])
def test_an_account_is_written_by_compare_and_set(place: World, key: AccountKey) -> None:
    """A write holds over the revision that was read, and over no other; the same call again says the same."""
    limits = place.limits()
    assert limits.read(key) is None
    assert limits.write(key, None, ACCOUNT, 10**15)
    assert limits.write(key, None, ACCOUNT, 10**15)
    assert limits.read(key) == ACCOUNT
    assert not limits.write(key, None, _next("r2"), None)
    assert not limits.write(key, "r0", _next("r2"), None)
    assert limits.write(key, "r1", _next("r2"), None)
    assert limits.write(key, "r1", _next("r2"), None)
    assert limits.read(key) == _next("r2")
    assert not limits.write(key, "r1", _next("r3"), None)


def test_accounts_do_not_mix(place: World) -> None:
    """Each tenant's, and each name's, account is its own."""
    limits = place.limits()
    keys = [KEY, CHECK, AccountKey("acme", "credential#key:k1"), AccountKey("globex", "plan")]
    for number, key in enumerate(keys):
        assert limits.write(key, None, _next(f"r{number}"), None)
    assert [limits.read(key) for key in keys] == [_next(f"r{number}") for number in range(4)]


def test_racing_processes_lose_no_token(place: World) -> None:
    """Of all that count up at the same time each counts; twice only where its answer was lost and it was overtaken."""
    limits = place.limits()

    def count(worker: int) -> None:
        done = 0
        while done < 5:
            found = limits.read(KEY)
            after = _next(f"{worker}.{done}", found.used + 1 if found else 1)
            done += limits.write(KEY, found.revision if found else None, after, None)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    account = limits.read(KEY)
    assert account is not None
    assert account.used >= 20
    assert account.used == 20 or isinstance(place, Faulty)


def test_policies(place: World) -> None:
    """A policy is its tenant's alone, changed by another put, and gone after it was removed."""
    policies = place.policies()
    assert policies.get("acme", "logins") is None
    policies.put("acme", POLICY)
    policies.put("acme", Policy("api", Limit(1)))
    policies.put("globex", Policy("logins", Limit(7)))
    assert policies.all("acme") == [Policy("api", Limit(1)), POLICY]
    policies.put("acme", Policy("logins", Limit(6)))
    assert policies.get("acme", "logins") == Policy("logins", Limit(6))
    policies.delete("acme", "logins")
    assert not policies.delete("acme", "logins")
    assert policies.all("acme") == [Policy("api", Limit(1))]
    assert policies.get("globex", "logins") == Policy("logins", Limit(7))


def test_a_decision_stays(place: World) -> None:
    """The first decision under a key is the one that everybody is told."""
    decisions = place.decisions()
    assert decisions.find("acme", "k") is None
    assert decisions.keep("acme", "k", DECIDED, 10**15) == DECIDED
    assert decisions.keep("acme", "k", Decided("cd", b"{}"), 10**15) == DECIDED
    assert decisions.find("acme", "k") == DECIDED
    assert decisions.find("globex", "k") is None


@pytest.mark.parametrize(
    ("name", "item"),
    [
        ("limit_plan", account_item(KEY, ACCOUNT, None)),
        ("limit_check", account_item(CHECK, ACCOUNT, 1_710_072_000_000_000)),
        ("limit_policy", policy_item("acme", POLICY)),
        ("limit_decision", decision_item("acme", "k1", DECIDED, 1_710_072_000_000_000)),
    ],
)
def test_stored_items(name: str, item: dict[str, Any]) -> None:
    """What lies in the table is what lay there before."""
    matches_golden(f"item.{name}.json", item)


def test_round_trips() -> None:
    """Accounts, policies and decisions are read back equal."""
    assert account_of(account_item(KEY, ACCOUNT, 5)) == ACCOUNT
    assert policy_of(policy_item("acme", POLICY)) == POLICY
    assert decided_of(decision_item("acme", "k1", DECIDED, 5)) == DECIDED
