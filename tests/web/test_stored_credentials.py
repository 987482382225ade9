"""The gate over the real control store, SQLite in a home: what an administrator does is what callers meet."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.config import load_settings
from pipeline.core.caller import Scope
from pipeline.flows.admin import Admin, KeyTerms
from pipeline.flows.remembered import FRESH_SECONDS
from pipeline.store.control import SqlControl
from pipeline.wiring.control import control
from pipeline.wiring.trusting import authenticator
from tests.web.credentials import House, with_key

READS = frozenset({Scope.READ})


@pytest.fixture
def house(tmp_path: Path) -> Iterator["Stored"]:
    """A front door over a control store in a folder of its own."""
    found = Stored(tmp_path / "home")
    yield found
    found.sql.close()


class Stored(House):
    """Credentials lie in SQL."""

    def __init__(self, home: Path) -> None:
        super().__init__()
        settings = load_settings({"paths": {"home": home}}, environ={})
        self.sql: SqlControl = control(settings, self.clock)
        self.authenticator = authenticator(settings, self.sql, self.clock, self.facts)
        randomness = iter(bytes([number]) * 32 for number in range(1, 9))
        self.admin = Admin(self.sql, self.clock, "jo@desk", lambda _size: next(randomness))
        self.admin.add_tenant("acme", "premium")

    def status(self, key: str) -> int:
        """Return what a request with a key is answered."""
        return self.ask(with_key(key))[0].status_code


def test_a_key_from_the_command(house: Stored) -> None:
    """It is good at once, for its tenant, with its scopes and its tenant's plan; its last use is stored."""
    made, stored = house.admin.create_key("acme", KeyTerms(READS, "ci"))
    found = house.ask(with_key(made.text))[0].json()
    assert (found["tenant"], found["scopes"], found["plan"]) == ("acme", ["read"], "premium")
    assert house.admin.key(stored.id).last_used_us == house.clock.now_us()


def test_revoked_and_suspended(house: Stored) -> None:
    """Both hold after some seconds, and so does a tenant's return."""
    one, other = (house.admin.create_key("acme", KeyTerms(READS, "ci"))[0] for _ in range(2))
    assert [house.status(one.text), house.status(other.text)] == [200, 200]
    house.admin.revoke_key(one.id)
    house.clock.advance(FRESH_SECONDS + 1)
    assert [house.status(one.text), house.status(other.text)] == [401, 200]
    house.admin.set_state("acme", "suspended")
    house.clock.advance(FRESH_SECONDS + 1)
    assert house.status(other.text) == 401
    house.admin.set_state("acme", "active")
    house.clock.advance(FRESH_SECONDS + 1)
    assert house.status(other.text) == 200


def test_rotated_with_overlap(house: Stored) -> None:
    """Old and new are good until the overlap ends; then the new one is."""
    old, _ = house.admin.create_key("acme", KeyTerms(READS, "ci"))
    new, _ = house.admin.rotate_key(old.id, overlap_seconds=600)
    assert [house.status(old.text), house.status(new.text)] == [200, 200]
    house.clock.advance(599)
    assert [house.status(old.text), house.status(new.text)] == [200, 200]
    house.clock.advance(1)
    assert [house.status(old.text), house.status(new.text)] == [401, 200]


def test_another_plan(house: Stored) -> None:
    """It holds after some seconds."""
    made, _ = house.admin.create_key("acme", KeyTerms(READS, "ci"))
    assert house.ask(with_key(made.text))[0].json()["plan"] == "premium"
    house.admin.set_plan("acme", "basic")
    house.clock.advance(FRESH_SECONDS + 1)
    assert house.ask(with_key(made.text))[0].json()["plan"] == "basic"
