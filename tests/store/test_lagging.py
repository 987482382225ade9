"""A copy that lags while the primary is away for a moment: nothing that is decided or remembered rests on it."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.core.api_key import make_key
from pipeline.core.credential import Presented
from pipeline.core.errors import Transient
from pipeline.core.event import Limits
from pipeline.core.plan import DELIVERED
from pipeline.core.retry import Backoff
from pipeline.core.rules import make_rules
from pipeline.core.tenant import Publication
from pipeline.flows.authenticate import Authenticator, Missing
from pipeline.flows.publish import NotOwned, publish
from pipeline.flows.rules import StoredRules
from pipeline.store.connect import open_engine
from pipeline.store.control import SqlControl
from pipeline.store.migrate import migrate
from pipeline.store.transactions import Transactions
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.store.values import ACME, act, key

ONCE = Backoff(1, 0.01, 0.01)
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}}
BASE = make_rules([], [], Limits(), {})


class Pair:
    """A primary and an empty copy of it; after `good` answers the primary is away until told otherwise."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.good = SteppedClock(), 1_000
        engines = [open_engine(f"sqlite:///{folder / name}.sqlite") for name in ("primary", "copy")]
        for engine in engines:
            migrate(engine)
        primary = Transactions(engines[0], self.clock, ONCE, is_standby=self._away)
        self.control = SqlControl(primary, Transactions(engines[1], self.clock, ONCE, "copy"))

    def _away(self, _session: object) -> bool:
        self.good -= 1
        return self.good < 0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    made.control.put_tenant(ACME, act(), new=True)
    yield made
    made.control.close()


@pytest.mark.parametrize("good", range(5))
def test_rules_of_a_copy_are_not_taken_for_the_newest(pair: Pair, good: int) -> None:
    """Whenever the primary goes away during a look, the tenant that it knows is known once it is back."""
    rules = StoredRules(BASE, lambda: pair.control, pair.clock, FactList())
    pair.good = good
    try:
        rules.newest(pair.clock.now_us())
    except Transient:
        pair.clock.advance(60)
    pair.good = 1_000
    pair.clock.advance(60)
    assert ACME.name in rules.newest(pair.clock.now_us()).tenants


@pytest.mark.parametrize("good", range(5))
def test_whose_a_type_is_does_not_rest_on_a_copy(pair: Pair, good: int) -> None:
    """Whenever the primary goes away for a read, another tenant adds no version to a type that the copy has not heard of."""
    first = Publication("door.opened", 1, SCHEMA, "key:1", 1, ACME.name)
    assert publish(pair.control, BASE, first, act("schema.publish"))
    pair.good = good
    second = replace(first, version=2, owner="globex")
    with pytest.raises((NotOwned, Transient)):
        publish(pair.control, BASE, second, act("schema.publish"))
    pair.good = 1_000
    assert [one.owner for one in pair.control.publications()] == [ACME.name]


@pytest.mark.parametrize("good", range(5))
def test_a_plan_that_the_copy_lacks_is_no_unknown_tenant(pair: Pair, good: int) -> None:
    """Whenever the primary goes away between tenant and plan, nobody knows: the tenant is not taken for gone."""
    pair.control.put_plan(replace(DELIVERED[0], name="gold"), act("plan.put"))
    pair.control.put_tenant(replace(ACME, plan="gold"), act("tenant.plan"), new=False)
    made = make_key("test", bytes(range(32)))
    pair.control.put_key(key(made.id, secret_hash=made.secret_hash), act("key.create"), new=True)
    authenticator, shown = Authenticator(pair.control, pair.clock), Presented("key", made.text)
    wanted = authenticator.resolved(shown)
    assert isinstance(wanted, Missing)
    pair.good = good
    with suppress(Transient):
        authenticator.reading(wanted)()
    found = authenticator.resolved(shown)  # raises Denied where it takes the tenant for gone
    assert isinstance(found, Missing) or found.plan.name == "gold"
