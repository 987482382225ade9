"""Slots of an API's entities: always what the hash says, and never more of them than a bound."""

import random

import pytest

from pipeline.core.slots import slot_of
from pipeline.sending import batches
from pipeline.sending.batches import Slots


def test_a_remembered_slot_is_the_hashed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """For every tenant, before and after all are forgotten."""
    monkeypatch.setattr(batches, "_SLOTS_KEPT", 50)
    known, chance = Slots(64), random.Random(5)
    for _ in range(2_000):
        tenant_id, entity_id = f"tenant-{chance.randrange(3)}", f"entity-{chance.randrange(40)}"
        assert known[tenant_id][entity_id] == slot_of(tenant_id, entity_id, 64)
        assert sum(map(len, known.values())) <= known.kept <= 50


def test_what_is_remembered_is_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second look finds the first one's slot."""
    known = Slots(64)
    first = known["acme"]["door"]
    monkeypatch.setattr(batches, "slot_of", lambda *_: pytest.fail("hashed again"))
    assert known["acme"]["door"] == first
