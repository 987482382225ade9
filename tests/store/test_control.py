"""What the port `Control` promises: in memory, on SQLite, on PostgreSQL."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem, NotFound
from pipeline.core.event import Limits
from pipeline.core.plan import DELIVERED, Plan
from pipeline.core.rules import make_rules
from pipeline.core.tenant import Publication
from pipeline.flows.publish import NotOwned, Published, publish
from pipeline.ports.clock import SystemClock
from pipeline.ports.control import Control
from pipeline.store.connect import sqlite_url
from pipeline.store.open import Patience, migrated, open_control
from tests.fakes.control import MemoryControl
from tests.store.values import ACME, AT_US, DOCUMENT, act, client, key, publication


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Control:
    """Return an empty store of each kind."""
    if request.param == "memory":
        return MemoryControl()
    url = (
        sqlite_url(tmp_path / "c.sqlite")
        if request.param == "sqlite"
        else request.getfixturevalue("postgres_url")
    )
    migrated(url, SystemClock(), Patience(20.0))
    return open_control(url, SystemClock())


@pytest.fixture
def peopled(store: Control) -> Control:
    """Return a store that knows the tenant acme."""
    store.put_tenant(ACME, act(), new=True)
    return store


def test_the_delivered_plans_are_there(store: Control) -> None:
    """A new store has the three plans that are delivered, and nothing else."""
    assert store.plans() == sorted(DELIVERED, key=lambda plan: plan.name)
    assert (store.tenants(), store.keys(), store.clients(), store.publications()) == ([], [], [], [])
    assert (list(store.acts()), store.revision()) == ([], 0)


def test_a_plan_is_found_by_name_and_what_is_judged_is_read_together(peopled: Control) -> None:
    """One plan, or none; all tenants and publications, with the number of writes that they are of."""
    peopled.publish(publication(), act("schema.publish", "schema:door.opened/1"))
    assert (peopled.plan("basic"), peopled.plan("none")) == (DELIVERED[0], None)
    assert peopled.judged() == (2, [ACME], [publication()])


def test_tenants_that_publish_one_new_type_at_once_share_no_type(store: Control) -> None:
    """Each type is one tenant's, however many publish it in the same moment, in whatever version; the others are refused."""
    if isinstance(store, MemoryControl):
        pytest.skip("one thread's")
    base, barrier = make_rules([], [], Limits(), {}), Barrier(4)

    def publishing(number: int) -> list[bool]:
        done = []
        for round_ in range(6):
            wanted = Publication(
                f"door.t{round_}", number % 2 + 1, DOCUMENT, "key:1", AT_US, f"tenant-{number}"
            )
            barrier.wait()
            try:
                done.append(publish(store, base, wanted, act("schema.publish")) is not None)
            except (NotOwned, Published):
                done.append(False)
        return done

    with ThreadPoolExecutor(4) as threads:
        done = list(threads.map(publishing, range(4)))
    assert [sum(of_round) for of_round in zip(*done, strict=True)] == [1] * 6
    assert len(store.publications()) == 6


def test_what_is_put_is_given_back(peopled: Control) -> None:
    """Every value survives the way into the store and back, alone and in its list."""
    one, full = key(), key("00fe", expires_us=AT_US + 1, requests_per_second=7, created_us=AT_US + 1)
    peopled.put_key(one, act("key.create", "key:00ff"), new=True)
    peopled.put_key(full, act("key.create", "key:00fe"), new=True)
    peopled.put_client(client(), act("client.add", "client:4k2"), new=True)
    peopled.publish(publication(), act("schema.publish", "schema:door.opened/1"))
    assert peopled.tenant("acme") == ACME
    assert peopled.tenants() == [ACME]
    assert peopled.keys("acme") == peopled.keys() == [full, one]
    assert (peopled.key("00ff"), peopled.client("4k2")) == (one, client())
    assert peopled.clients() == [client()]
    assert peopled.publications() == [publication()]
    assert list(peopled.publications()[0].document["properties"]) == ["z", "a"]  # columns follow this order


def test_what_is_not_there_is_none(peopled: Control) -> None:
    """A look-up of an unknown name says so, and a list of an unknown tenant is empty."""
    assert (peopled.tenant("x"), peopled.key("x"), peopled.client("x")) == (None, None, None)
    assert (peopled.keys("x"), peopled.clients("x"), list(peopled.acts("x"))) == ([], [], [])


def test_each_write_has_its_act(peopled: Control) -> None:
    """The acts tell who did what, newest first, and can be asked for by subject."""
    peopled.put_key(key(), act("key.create", "key:00ff", scopes=["read"]), new=True)
    assert [one.action for one in peopled.acts()] == ["key.create", "tenant.add"]
    assert list(peopled.acts("key:00ff")) == [act("key.create", "key:00ff", scopes=["read"])]
    assert [one.action for one in peopled.acts(limit=1)] == ["key.create"]


def test_a_refused_write_leaves_nothing(peopled: Control) -> None:
    """What is refused changes neither the values, nor the acts, nor the revision."""
    before = (peopled.tenants(), peopled.keys(), list(peopled.acts()), peopled.revision())
    with pytest.raises(ConfigProblem):
        peopled.put_tenant(ACME, act(), new=True)
    with pytest.raises(ConfigProblem):
        peopled.put_tenant(replace(ACME, name="b", plan="gold"), act(), new=True)
    with pytest.raises(NotFound):
        peopled.put_tenant(replace(ACME, name="b"), act(), new=False)
    with pytest.raises(NotFound):
        peopled.put_key(key(tenant="b"), act(), new=True)
    with pytest.raises(NotFound):
        peopled.put_key(key("77"), act(), new=False)
    with pytest.raises(NotFound):
        peopled.put_client(client(tenant="b"), act(), new=True)
    assert (peopled.tenants(), peopled.keys(), list(peopled.acts()), peopled.revision()) == before


def test_a_taken_id_is_refused(peopled: Control) -> None:
    """A new key or client never takes the place of another."""
    peopled.put_key(key(), act(), new=True)
    peopled.put_client(client(), act(), new=True)
    with pytest.raises(ConfigProblem):
        peopled.put_key(key(label="other"), act(), new=True)
    with pytest.raises(ConfigProblem):
        peopled.put_client(client(label="other"), act(), new=True)


def test_a_change_over_another_change_is_refused(peopled: Control) -> None:
    """Who changes a tenant that somebody changed meanwhile is told so, and the first change stays."""
    suspended = replace(ACME, state="suspended")
    peopled.put_tenant(suspended, act("tenant.suspend"), new=False, was=ACME)
    with pytest.raises(ConfigProblem):
        peopled.put_tenant(replace(ACME, plan="premium"), act("tenant.plan"), new=False, was=ACME)
    assert peopled.tenant("acme") == suspended


def test_a_revocation_is_never_put_off(peopled: Control) -> None:
    """Of two revocations the earlier holds, in whichever order they come."""
    peopled.put_key(key(), act(), new=True)
    peopled.put_client(client(), act(), new=True)
    for revoked_us, holds_us in ((AT_US + 9, 9), (AT_US + 5, 5), (AT_US + 7, 5), (None, 5)):
        peopled.put_key(key(revoked_us=revoked_us), act("key.revoke"), new=False)
        peopled.put_client(client(revoked_us=revoked_us), act("client.revoke"), new=False)
        stored, other = peopled.key("00ff"), peopled.client("4k2")
        assert stored
        assert other
        assert stored.revoked_us == other.revoked_us == AT_US + holds_us


def test_last_use_goes_only_forward(peopled: Control) -> None:
    """The last use is the latest that any server told; unknown keys are passed over, and it is no act."""
    peopled.put_key(key(), act(), new=True)
    before = (list(peopled.acts()), peopled.revision())
    for used_us in (AT_US + 5, AT_US + 3):
        peopled.keys_used({"00ff": used_us, "gone": used_us})
    peopled.keys_used({})
    stored = peopled.key("00ff")
    assert stored
    assert stored.last_used_us == AT_US + 5
    assert (list(peopled.acts()), peopled.revision()) == before


def test_a_published_version_stays(store: Control) -> None:
    """The same document again is no error and no act; another one under the same version is refused."""
    store.publish(publication(), act("schema.publish"))
    again = dict(reversed(DOCUMENT.items()))
    store.publish(publication(document=again), act("schema.publish"))
    with pytest.raises(ConfigProblem):
        store.publish(publication(document={"type": "object"}), act("schema.publish"))
    store.publish(replace(publication(2, {"type": "object"}), owner="acme"), act("schema.publish"))
    assert [(one.version, one.document, one.owner) for one in store.publications()] == [
        (1, DOCUMENT, ""),
        (2, {"type": "object"}, "acme"),
    ]
    assert len(list(store.acts())) == 2


def test_a_publication_checked_against_old_schemas_is_refused(store: Control) -> None:
    """What was held against other schemas holds only while nobody has changed them."""
    seen = store.revision()
    store.publish(publication(), act("schema.publish"), seen=seen)
    with pytest.raises(ConfigProblem, match="meanwhile"):
        store.publish(publication(2), act("schema.publish"), seen=seen)
    store.publish(publication(2), act("schema.publish"), seen=store.revision())
    assert [one.version for one in store.publications()] == [1, 2]


def test_every_act_moves_the_revision(store: Control) -> None:
    """Whoever keeps a copy sees by one number that it is old."""
    seen = [store.revision()]
    store.put_tenant(ACME, act(), new=True)
    seen.append(store.revision())
    store.put_plan(Plan("tiny", 1, 1, 1, 1, 1, 1), act("plan.put"))
    seen.append(store.revision())
    store.publish(publication(), act("schema.publish"))
    seen.append(store.revision())
    assert len(set(seen)) == 4


def test_an_act_of_a_change_elsewhere_is_kept(peopled: Control) -> None:
    """It stands among the others, each time that it is noted; nobody needs to read anything anew, and no publishing is overtaken."""
    before, done = peopled.revision(), act("policy.put", "policy:acme/logins", tokens=5)
    peopled.note(done)
    peopled.note(done)
    assert list(peopled.acts("policy:acme/logins")) == [done, done]
    assert [one.action for one in peopled.acts()] == ["policy.put", "policy.put", "tenant.add"]
    assert peopled.revision() == before


def test_a_plan_may_be_changed(store: Control) -> None:
    """A plan is data: put again it is another, for all of its tenants."""
    store.put_plan(replace(DELIVERED[0], burst_requests=21), act("plan.put"))
    assert next(plan for plan in store.plans() if plan.name == "basic").burst_requests == 21
    assert len(store.plans()) == 3


def test_writers_at_once_lose_nothing(peopled: Control) -> None:
    """Many threads write at once: all of it is there, each with its act, and of equal names one wins."""

    def write(number: int) -> bool:
        peopled.put_key(key(f"k{number}"), act("key.create", f"key:k{number}"), new=True)
        try:
            peopled.put_tenant(replace(ACME, name="one"), act(), new=True)
        except ConfigProblem:
            return False
        return True

    if isinstance(peopled, MemoryControl):
        pytest.skip("one thread's")
    with ThreadPoolExecutor(8) as pool:
        wins = list(pool.map(write, range(24)))
    assert wins.count(True) == 1
    assert len(peopled.keys()) == 24
    assert peopled.revision() == len(list(peopled.acts(limit=1_000))) == 26


def test_a_scope_of_a_later_release_is_not_granted(store: Control) -> None:
    """Scopes are read as far as this program knows them; the rest is nobody's."""
    store.put_tenant(ACME, act(), new=True)
    store.put_key(key(scopes=frozenset({Scope.READ, "fly"})), act(), new=True)
    stored = store.key("00ff")
    assert stored
    if not isinstance(store, MemoryControl):
        assert stored.scopes == {Scope.READ}
