"""Publishing while others write to the control store."""

from collections.abc import Callable

import pytest

from pipeline.core.errors import Transient
from pipeline.core.event import Limits
from pipeline.core.plan import DELIVERED
from pipeline.core.rules import make_rules
from pipeline.core.tenant import Act, Publication
from pipeline.flows.publish import NotOwned, Published, publish
from tests.fakes.control import MemoryControl

BASE = make_rules([], [], Limits(), {})
ACT = Act(1, "jo@desk", "schema.publish", "schema:door.opened/1", {})


def door(tenant: str, version: int = 1, **properties: str) -> Publication:
    """Return a version of a tenant's."""
    columns = {name: {"type": kind} for name, kind in {"n": "integer", **properties}.items()}
    return Publication(
        "door.opened", version, {"type": "object", "properties": columns}, f"key:{tenant}", 1, tenant
    )


class Overtaking(MemoryControl):
    """A store to which somebody else writes first, as often as there is something to be done."""

    def __init__(self, *meanwhile: Callable[[MemoryControl], None]) -> None:
        super().__init__()
        self._meanwhile = list(meanwhile)

    def publish(self, publication: Publication, act: Act, *, seen: int | None = None) -> None:
        """Store one, after what comes between."""
        if self._meanwhile:
            self._meanwhile.pop(0)(self)
        super().publish(publication, act, seen=seen)


def _plan_changed(control: MemoryControl) -> None:
    control.put_plan(DELIVERED[0], ACT)


def test_acts_of_others_meanwhile_refuse_nobody() -> None:
    """What was decided before them is decided again; the caller does not notice."""
    control = Overtaking(_plan_changed, _plan_changed)
    assert publish(control, BASE, door("acme"), ACT)
    assert [one.owner for one in control.publications()] == ["acme"]


def test_of_two_tenants_that_publish_a_new_type_at_once_one_owns_it() -> None:
    """The other is told that it is another's, in whatever version, and not that its schema is wrong."""
    for version, refusal in ((1, Published), (2, NotOwned)):
        control = Overtaking(lambda other: MemoryControl.publish(other, door("globex"), ACT))
        with pytest.raises(refusal):
            publish(control, BASE, door("acme", version, note="string"), ACT)
        assert [(one.owner, one.version) for one in control.publications()] == [("globex", 1)]


def test_the_same_version_published_twice_at_once_is_there_once() -> None:
    """Two processes of one tenant publish what they begin with: both succeed."""
    control = Overtaking(lambda other: MemoryControl.publish(other, door("acme"), ACT))
    assert publish(control, BASE, door("acme"), ACT) is None
    assert len(control.publications()) == 1


def test_a_store_that_never_rests_is_no_fault_of_the_schema() -> None:
    """Whoever is always overtaken may try again: the schema was not judged."""
    control = Overtaking(*[_plan_changed] * 100)
    with pytest.raises(Transient):
        publish(control, BASE, door("acme"), ACT)
