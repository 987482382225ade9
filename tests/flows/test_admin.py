"""Acts of administrators: what is stored, who is named, and what is refused."""

from dataclasses import replace

import pytest

from pipeline.core.api_key import parse_key, secret_matches
from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem, NotFound
from pipeline.core.plan import DELIVERED
from pipeline.flows.admin import Admin, KeyTerms, state_of_key
from tests.fakes.clock import SteppedClock
from tests.fakes.control import MemoryControl
from tests.sim.events import rules

READ = KeyTerms(frozenset({Scope.READ}))
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}


class Office:
    """An administrator with an empty store, and a tenant."""

    def __init__(self) -> None:
        self.control, self.clock, self.drawn = MemoryControl(), SteppedClock(), 0
        self.admin = Admin(self.control, self.clock, "jo@desk", self.draw, "live")
        self.admin.add_tenant("acme", "basic")

    def draw(self, count: int) -> bytes:
        self.drawn += 1
        return bytes([self.drawn]) * count

    def acts(self) -> list[tuple[str, str]]:
        return [(one.action, one.subject) for one in reversed(list(self.control.acts()))]


@pytest.fixture
def office() -> Office:
    return Office()


def test_each_act_names_who_and_when(office: Office) -> None:
    """Everything that changes something is one act of this administrator, now."""
    made, _ = office.admin.create_key("acme", READ)
    office.admin.set_state("acme", "suspended")
    office.admin.set_plan("acme", "premium")
    office.admin.put_plan(replace(DELIVERED[0], name="tiny"))
    office.admin.add_client("c1", "acme", frozenset({Scope.READ}))
    office.admin.revoke_client("c1")
    office.admin.revoke_key(made.id)
    office.admin.publish(rules(), "gate.opened", 1, SCHEMA)
    assert office.acts() == [
        ("tenant.add", "tenant:acme"),
        ("key.create", f"key:{made.id}"),
        ("tenant.suspend", "tenant:acme"),
        ("tenant.plan", "tenant:acme"),
        ("plan.put", "plan:tiny"),
        ("client.add", "client:c1"),
        ("client.revoke", "client:c1"),
        ("key.revoke", f"key:{made.id}"),
        ("schema.publish", "schema:gate.opened/1"),
    ]
    assert {(one.actor, one.at_us) for one in office.control.acts()} == {("jo@desk", office.clock.now_us())}


def test_what_changes_nothing_is_no_act(office: Office) -> None:
    """A tenant that is as asked for, and a credential that is revoked, stay as they are."""
    made, _ = office.admin.create_key("acme", READ)
    office.admin.revoke_key(made.id)
    before = office.acts()
    office.admin.set_state("acme", "active")
    office.admin.set_plan("acme", "basic")
    office.admin.revoke_key(made.id)
    assert office.admin.take_in(["acme"], "basic") == []
    assert office.acts() == before


def test_a_key_is_stored_as_a_hash_alone(office: Office) -> None:
    """The secret is in what is given back once, and in nothing that is stored, acts included."""
    made, key = office.admin.create_key("acme", replace(READ, lifetime_seconds=60, requests_per_second=3))
    secret = parse_key(made.text).secret
    assert secret_matches(secret, key.secret_hash)
    assert office.control.key(made.id) == key
    assert key.expires_us == office.clock.now_us() + 60_000_000
    assert key.requests_per_second == 3
    assert secret not in repr((office.control.keys(), list(office.control.acts())))


def test_a_rotation_has_an_overlap(office: Office) -> None:
    """The new key has the same terms; the old one is good until the overlap ends, and then no more."""
    made, old = office.admin.create_key("acme", replace(READ, label="ci", lifetime_seconds=1_000))
    office.clock.advance(500)
    _, new = office.admin.rotate_key(made.id, 100)
    assert (new.scopes, new.label, new.tenant) == (old.scopes, "ci", "acme")
    assert new.expires_us == office.clock.now_us() + 1_000_000_000
    stored = office.admin.key(made.id)
    assert state_of_key(stored, office.clock.now_us()) == "ending"
    office.clock.advance(100)
    assert state_of_key(stored, office.clock.now_us()) == "revoked"
    with pytest.raises(ConfigProblem, match="revoked already"):
        office.admin.rotate_key(made.id, 100)


def test_a_revocation_ends_an_overlap(office: Office) -> None:
    """Whoever revokes a key that is being rotated ends it now."""
    made, _ = office.admin.create_key("acme", READ)
    office.admin.rotate_key(made.id, 1_000)
    office.admin.revoke_key(made.id)
    assert state_of_key(office.admin.key(made.id), office.clock.now_us()) == "revoked"


def test_an_expired_key_is_expired(office: Office) -> None:
    """A key with a lifetime ends by itself."""
    _, key = office.admin.create_key("acme", replace(READ, lifetime_seconds=10))
    assert state_of_key(key, office.clock.now_us()) == "active"
    assert state_of_key(key, office.clock.now_us() + 10_000_000) == "expired"


def test_wrong_input_is_refused_before_anything_is_stored(office: Office) -> None:
    """Each refusal is a sentence, and leaves no act."""
    before, admin = office.acts(), office.admin
    for call in (
        lambda: admin.add_tenant("ACME", "basic"),
        lambda: admin.put_plan(replace(DELIVERED[0], name="no name")),
        lambda: admin.put_plan(replace(DELIVERED[0], events_per_second=0)),
        lambda: admin.put_plan(replace(DELIVERED[0], burst_requests=1)),
        lambda: admin.create_key("acme", KeyTerms(frozenset())),
        lambda: admin.create_key("acme", replace(READ, lifetime_seconds=0)),
        lambda: admin.create_key("acme", replace(READ, label="x" * 201)),
        lambda: admin.create_key("acme", replace(READ, label="two\nlines")),
        lambda: admin.add_client("a b", "acme", READ.scopes),
        lambda: admin.rotate_key("x", -1),
    ):
        with pytest.raises(ConfigProblem):
            call()
    for unknown in (lambda: admin.key("x"), lambda: admin.client("x"), lambda: admin.tenant("x")):
        with pytest.raises(NotFound, match="headrace"):
            unknown()
    assert office.acts() == before


@pytest.mark.parametrize(
    ("event_type", "version", "document"),
    [
        ("Gate", 1, SCHEMA),
        ("gate.opened", 0, SCHEMA),
        ("gate.opened", 1, {"type": "objekt"}),
        ("gate.opened", 1, {"type": "array"}),
        ("gate.opened", 1, {"type": "object", "properties": {"n": {"pattern": "("}}}),
        ("gate.opened", 1, {"type": "object", "properties": {"n": {"$ref": "#/nowhere"}}}),
        ("door.opened", 2, {"type": "object", "properties": {"n": {"type": "string"}}}),
        ("door-opened", 1, SCHEMA),
        ("events", 1, SCHEMA),
    ],
)
def test_a_schema_is_checked_like_a_file(
    office: Office, event_type: str, version: int, document: dict[str, object]
) -> None:
    """What a file could not be is not published: no schema, a changed column, another type's table."""
    with pytest.raises(ConfigProblem):
        office.admin.publish(rules(), event_type, version, document)
    assert office.control.publications() == []
