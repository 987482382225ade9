"""Behaviour of the ports `LimitStore`, `Policies` and `Decisions`, the same in every world; and what they store."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
import pytest

from pipeline.aws.items import Item
from pipeline.aws.limits import (
    DynamoLimits,
    account_item,
    account_key,
    account_of,
    decided_of,
    decision_item,
    policy_item,
    policy_of,
)
from pipeline.core.errors import Corrupt
from pipeline.core.lease import Account, Change
from pipeline.core.policy import Limit, Policy
from pipeline.ports.limits import AccountKey, Decided
from tests.aws.backends import Faulty, World
from tests.golden.compare import matches_golden

KEY = AccountKey("acme", "plan")
CHECK = AccountKey("acme", "check#logins#door #1")
ACCOUNT = Account("r1", 1_710_072_000_000_000, (-5, 10**21), (10, 3), (1, 2_678_400), "2024-03", 110)
POLICY = Policy("logins", Limit(5, 60, 10))
DECIDED = Decided("ab12", b'{"allowed":true}')


def _next(revision: str, used: int = 0) -> Account:
    return Account(revision, 1, (1,), (1,), (1,), "2024-03", used)


@pytest.mark.parametrize("key", [KEY, CHECK], ids=["plan", "check"])
def test_an_account_is_stored_anew_once(place: World, key: AccountKey) -> None:
    """A whole account is stored over what was read, and over nothing else; the same call again says the same."""
    limits, read = place.limits(), _next("r0")
    assert limits.read(key) is None
    assert limits.write(key, Change(None, ACCOUNT), 10**15) == ACCOUNT
    assert limits.write(key, Change(None, ACCOUNT), 10**15) == ACCOUNT
    assert limits.read(key) == ACCOUNT
    assert limits.write(key, Change(None, _next("r2")), None) is None
    assert limits.write(key, Change(read, _next("r2")), None) is None
    assert limits.write(key, Change(ACCOUNT, _next("r2")), None) == _next("r2")
    assert limits.write(key, Change(ACCOUNT, _next("r2")), None) == _next("r2")
    assert limits.read(key) == _next("r2")
    assert limits.write(key, Change(ACCOUNT, _next("r3")), None) is None


def test_a_store_tells_its_own_time(place: World) -> None:
    """A table says with the answer to a read what time it is; memory has no clock of its own."""
    limits = place.limits()
    before_us = time.time_ns() // 1_000
    limits.read(KEY)
    told_us = limits.told_us()
    if place.name == "memory":
        assert told_us is None
        return
    assert told_us is not None
    assert before_us - 1_000_000 <= told_us <= time.time_ns() // 1_000


def _spend(
    read: Account, revision: str, least: tuple[int, ...] = (-1_000, 0), most_used: int = 130
) -> Change:
    units = (read.units[0] - 10, read.units[1] - 10**20)
    after = msgspec.structs.replace(read, revision=revision, units=units, used=read.used + 10)
    return Change(read, after, least, most_used)


def test_differences_add_up(place: World) -> None:
    """Two that read the same both spend, and each is told what is there then."""
    limits = place.limits()
    limits.write(KEY, Change(None, ACCOUNT), None)
    first = limits.write(KEY, _spend(ACCOUNT, "r2"), 10**15)
    assert first == msgspec.structs.replace(ACCOUNT, revision="r2", units=(-15, 9 * 10**20), used=120)
    both = limits.write(KEY, _spend(ACCOUNT, "r3"), None)
    assert both == msgspec.structs.replace(ACCOUNT, revision="r3", units=(-25, 8 * 10**20), used=130)
    assert limits.read(KEY) == both


@pytest.mark.parametrize(
    "change",
    [
        _spend(ACCOUNT, "r2", least=(0, 0)),
        _spend(ACCOUNT, "r2", least=(-10, 2 * 10**21)),
        _spend(ACCOUNT, "r2", most_used=109),
        _spend(msgspec.structs.replace(ACCOUNT, at_us=7), "r2"),
        _spend(msgspec.structs.replace(ACCOUNT, month="2024-02"), "r2"),
        _spend(msgspec.structs.replace(ACCOUNT, units=(-6, 10**21)), "r2"),
    ],
    ids=["first bucket", "second bucket", "quota", "stored anew", "month", "given back"],
)
def test_a_difference_that_is_not_for_what_is_stored(place: World, change: Change) -> None:
    """It is refused, and nothing changes; nor does it make an account."""
    limits = place.limits()
    assert limits.write(KEY, change, None) is None
    limits.write(KEY, Change(None, ACCOUNT), None)
    assert limits.write(KEY, change, None) is None
    assert limits.read(KEY) == ACCOUNT


def test_accounts_do_not_mix(place: World) -> None:
    """Each tenant's, and each name's, account is its own."""
    limits = place.limits()
    keys = [KEY, CHECK, AccountKey("acme", "credential#key:k1"), AccountKey("globex", "plan")]
    for number, key in enumerate(keys):
        assert limits.write(key, Change(None, _next(f"r{number}")), None)
    assert [limits.read(key) for key in keys] == [_next(f"r{number}") for number in range(4)]


def test_racing_processes_lose_no_token(place: World) -> None:
    """Of all that spend at the same time each counts; twice only where its answer was lost and it was overtaken."""
    limits = place.limits()

    def count(worker: int) -> None:
        done = 0
        while done < 6:
            found, name = limits.read(KEY), f"{worker}.{done}"
            if found is None:
                change = Change(None, _next(name, 1))
            else:
                after = msgspec.structs.replace(found, revision=name, used=found.used + 1)
                change = Change(found, after, (0,) if done % 2 else None, 100)
            done += limits.write(KEY, change, None) is not None

    workers = 1 if place.name == "moto" else 4  # its updates are not atomic
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(count, range(4)))
    account = limits.read(KEY)
    assert account is not None
    assert account.used >= 24
    assert account.used == 24 or isinstance(place, Faulty)


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
    assert decisions.find("acme", "k", 0) is None
    assert decisions.keep("acme", "k", DECIDED, 0, 10**15) == DECIDED
    assert decisions.keep("acme", "k", Decided("cd", b"{}"), 0, 10**15) == DECIDED
    assert decisions.find("acme", "k", 10**15 - 1_000_000) == DECIDED
    assert decisions.find("globex", "k", 0) is None


def test_a_decision_is_given_again_until_it_expires(place: World) -> None:
    """A key names a new request once its decision has expired, also where nobody has deleted it."""
    decisions, newer = place.decisions(), Decided("cd", b"{}")
    assert decisions.keep("acme", "k", DECIDED, 0, 10**15) == DECIDED
    assert decisions.find("acme", "k", 10**15) is None
    assert decisions.keep("acme", "k", newer, 10**15, 2 * 10**15) == newer
    assert decisions.find("acme", "k", 10**15) == newer


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
    assert decided_of(decision_item("acme", "k1", DECIDED, 5_000_000), 4_000_000) == DECIDED


_STORED: dict[str, tuple[Item, Callable[[Item], object]]] = {
    "account acme#check#logins#ann check": (
        account_item(AccountKey("acme", "check#logins#ann"), ACCOUNT, 5_000_000),
        account_of,
    ),
    "policy acme policy#": (policy_item("acme", POLICY), policy_of),
    "decision acme#k1 decision": (
        decision_item("acme", "k1", DECIDED, 5_000_000),
        lambda item: decided_of(item, 4_000_000),
    ),
}


@pytest.mark.parametrize("named", _STORED)
def test_an_odd_item_is_named(named: str) -> None:
    """Every attribute that is read: missing, or of another type, it is Corrupt, by table, kind and key, with the next step."""
    item, read = _STORED[named]
    read(item)
    not_read = {"partition", "expires_s"} if not named.startswith("decision") else {"partition", "name"}
    for name in item.keys() - not_read - {"name"}:
        for broken in ({**item, name: {"X": []}}, {k: v for k, v in item.items() if k != name}):
            with pytest.raises(Corrupt, match=rf"^table limits: {named}.*cannot be read.*delete this item"):
                read(broken)


def test_an_odd_account_in_the_table_is_named(place: World) -> None:
    """Wherever accounts are read; the item of another account is none of its business."""
    store = place.limits()
    if not isinstance(store, DynamoLimits):
        pytest.skip("only a table has odd items")
    store._dynamodb.put_item(TableName=store._table, Item=account_key(KEY))
    with pytest.raises(Corrupt, match=r"table limits: account acme plan"):
        store.read(KEY)
    assert store.read(AccountKey("initech", "plan")) is None
