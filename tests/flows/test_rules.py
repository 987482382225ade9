"""Rules that follow the control store, and loaders that look for newer ones before they refuse."""

import orjson
import pytest

from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.event import RefusalCode
from pipeline.core.keys import rules_key
from pipeline.core.segment import CutLimits
from pipeline.core.tenant import Act, Publication, Tenant
from pipeline.flows.load import Loader
from pipeline.flows.rules import LOOK_SECONDS, StoredRules
from tests.fakes.control import MemoryControl
from tests.flows.loading import House, event
from tests.sim.archive import StoredRefusal, StoredRow
from tests.sim.events import rules

ACT = Act(0, "jo", "test", "test", {})
SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def add_tenant(control: MemoryControl, name: str) -> None:
    control.put_tenant(Tenant(name, "basic", "active", 0), ACT, new=True)


def publish(control: MemoryControl, version: int, event_type: str = "gate.opened") -> None:
    control.publish(Publication(event_type, version, SCHEMA, "jo", 0), ACT)


def of(tenant: str, number: int, **changes: object) -> bytes:
    return orjson.dumps(orjson.loads(event(number)) | {"tenant_id": tenant} | changes)


class Site(House):
    """A house with a control store."""

    def __init__(self, cut: CutLimits | None = None) -> None:
        super().__init__(cut)
        self.control = MemoryControl()
        self.newest = StoredRules(rules(), lambda: self.control, self.clock, self.facts)
        self.newest.newest(0)

    def started(self) -> Loader:
        made = self.loader(judged_by=self.newest)
        made.start()
        self.clock.advance(1)
        return made

    def codes(self) -> list[str]:
        return [one.code if isinstance(one, StoredRefusal) else one.tenant_id for one in self.rows()]


def test_rules_are_those_of_the_settings_and_of_the_store() -> None:
    """Tenants in any state and published schemas are added to what settings and files say."""
    site = Site()
    assert site.newest() is site.newest.newest(0)
    assert site.newest().digest == rules().digest
    add_tenant(site.control, "later")
    site.control.put_tenant(Tenant("idle", "basic", "suspended", 0), ACT, new=True)
    publish(site.control, 1)
    site.clock.advance(1)
    found = site.newest.newest(site.clock.now_us())
    assert found.tenants == rules().tenants | {"later", "idle"}
    assert found.schemas.keys() == rules().schemas.keys() | {"gate.opened"}
    assert site.newest() is found


def test_a_look_reads_one_number_while_nothing_changes() -> None:
    """Looks are cheap: tenants and schemas are read when the revision has moved, and not before."""
    site = Site()
    site.control.calls.clear()
    for _ in range(3):
        site.clock.advance(1)
        site.newest.newest(site.clock.now_us())
    assert site.control.calls == ["revision"] * 3
    site.newest.newest(site.clock.now_us())
    assert len(site.control.calls) == 3


def test_a_publication_that_contradicts_a_file_is_refused_by_name() -> None:
    """Files and publications may share a version only with one document; the old rules stay."""
    site = Site()
    publish(site.control, 1, "door.opened")
    site.clock.advance(1)
    with pytest.raises(ConfigProblem, match=r"door\.opened/1"):
        site.newest.newest(site.clock.now_us())
    assert site.newest().digest == rules().digest


def test_a_schema_that_may_not_be_judged_by_is_left_out() -> None:
    """One that was stored though it is too dear is told once; its events are in quarantine, those of all others archived."""
    site = Site()
    loader = site.started()
    publish(site.control, 1)
    doubling = {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(20)} | {"d20": {}}
    dear = {"type": "object", "$defs": doubling, "properties": {"n": {"$ref": "#/$defs/d0"}}}
    site.control.publish(Publication("dear.opened", 1, dear, "jo", 0), ACT)
    site.clock.advance(1)
    loader.process(
        site.put(
            of("acme", 1, event_type="gate.opened"),
            of("acme", 2, event_type="dear.opened"),
            event(3),
        )
    )
    loader.cut("test")
    assert site.codes() == ["acme", RefusalCode.UNKNOWN_TYPE, "acme"]
    add_tenant(site.control, "later")
    site.clock.advance(1)
    assert "later" in site.newest.newest(site.clock.now_us()).tenants
    told = [one for one in site.facts.told if type(one).__name__ == "SchemaLeftOut"]
    assert len(told) == 1
    assert "more than 200 times" in str(told[0])


@pytest.mark.parametrize(
    ("event_type", "version", "document"),
    [
        ("door.opened", 2, {"type": "object", "properties": {"n": {"type": "string"}}}),
        ("door-opened", 1, SCHEMA),
        ("events", 1, SCHEMA),
        ("gate.opened", 2, {"type": "object", "properties": {"n": {"type": "string"}}}),
    ],
    ids=["a column of a file", "a table of a file", "a table of ours", "a column of an earlier version"],
)
def test_a_schema_that_contradicts_others_is_left_out(
    event_type: str, version: int, document: dict[str, object]
) -> None:
    """What was there first stays, and tenants that were added are known."""
    site = Site()
    publish(site.control, 1)
    site.control.publish(Publication(event_type, version, document, "jo", 5), ACT)
    site.control.publish(Publication("hall.opened", 1, SCHEMA, "jo", 9), ACT)
    add_tenant(site.control, "later")
    site.clock.advance(1)
    found = site.newest.newest(site.clock.now_us())
    assert "later" in found.tenants
    assert found.schemas.keys() == rules().schemas.keys() | {"gate.opened", "hall.opened"}
    assert version not in found.schemas.get(event_type, found.schemas["hall.opened"]).versions or version == 1
    (told,) = [one for one in site.facts.told if type(one).__name__ == "SchemaLeftOut"]
    assert (told.event_type, told.version) == (event_type, version)  # type: ignore[attr-defined]


def test_a_tenant_added_while_a_loader_runs_is_archived() -> None:
    """An event of a tenant that the rules do not know makes the loader look, and is accepted."""
    site = Site()
    loader = site.started()
    add_tenant(site.control, "later")
    loader.process(site.put(event(1), of("later", 2), event(3)))
    loader.cut("test")
    assert site.codes() == ["acme", "later", "acme"]
    assert "RulesChanged" in site.facts.names()


def test_published_types_and_versions_are_found_too() -> None:
    """The same holds for a type, and for a version of a known type."""
    site = Site()
    loader = site.started()
    publish(site.control, 1)
    loader.process(site.put(of("acme", 1, event_type="gate.opened")))
    site.clock.advance(1)
    publish(site.control, 2)
    loader.process(site.put(of("acme", 2, event_type="gate.opened", schema_version=2)))
    loader.cut("test")
    assert site.codes() == ["acme", "acme"]


def test_a_segment_is_judged_by_one_set_of_rules_that_is_stored() -> None:
    """What was collected before is judged again: the ledger names the newer rules, which were stored before the plan."""
    site = Site()
    loader = site.started()
    loader.process(site.put(event(1)))
    add_tenant(site.control, "later")
    loader.process(site.put(of("later", 2)))
    loader.cut("test")
    segment = site.ledger.open(site.lineage.short).newest
    assert segment is not None
    assert segment.rules_digest == site.newest().digest != rules().digest
    assert rules_key(segment.rules_digest) in site.objects.stored
    assert segment.counts.units == segment.counts.rows == 2


def test_what_is_unknown_for_good_is_refused_after_one_look_a_batch() -> None:
    """Made-up names cost one number read per batch, and no more."""
    site = Site()
    loader = site.started()
    site.control.calls.clear()
    loader.process(site.put(*(of("nobody", number) for number in range(50))))
    assert site.control.calls == ["revision"]
    loader.cut("test")
    assert set(site.codes()) == {RefusalCode.UNKNOWN_TENANT}


def test_what_arrived_before_the_last_look_is_refused_without_another() -> None:
    """A backlog of unknown names asks nobody: it arrived when its tenant was not registered."""
    site = Site()
    records = site.put(of("nobody", 1))
    site.clock.advance(60)
    site.newest.newest(site.clock.now_us())
    loader = site.started()
    site.control.calls.clear()
    loader.process(records)
    assert site.control.calls == []


def test_a_store_that_is_down_holds_nobody_up() -> None:
    """Known events go on, the unknown are refused for a redrive, it is told once in five seconds, and then looked again."""
    site = Site()
    loader = site.started()
    add_tenant(site.control, "later")
    site.control.down = True
    for number in range(3):
        loader.process(site.put(event(number), of("later", 10 + number)))
    loader.cut("test")
    assert site.codes() == ["acme", RefusalCode.UNKNOWN_TENANT] * 3
    assert site.facts.names().count("RulesNotRefreshed") == 1
    site.control.down = False
    site.clock.advance(6)
    loader.process(site.put(of("later", 20)))
    loader.cut("test")
    assert site.codes()[-1] == "later"


def test_whoever_asks_is_told_that_the_store_is_down() -> None:
    """A caller that needs newer rules hears Transient; the known ones are still there."""
    site = Site()
    site.control.down = True
    site.clock.advance(1)
    with pytest.raises(Transient):
        site.newest.newest(site.clock.now_us())
    assert site.newest().digest == rules().digest


def test_a_loader_looks_every_half_minute() -> None:
    """Also without anything unknown; what is open then is as old as it was, and cut by its age."""
    site = Site(CutLimits(max_age_seconds=40, max_idle_seconds=1_000))
    loader = site.started()
    loader.process(site.put(event(1)))
    add_tenant(site.control, "later")
    site.clock.advance(LOOK_SECONDS)
    loader.tick()
    assert "later" in site.newest().tenants
    assert loader.pending_units == 1
    site.clock.advance(10)
    loader.tick()
    assert loader.pending_units == 0
    assert [row.tenant_id for row in site.rows() if isinstance(row, StoredRow)] == ["acme"]


def test_no_store_means_the_settings_until_somebody_makes_one() -> None:
    """Without a control store the rules are the settings'; one that appears is found by the next look."""
    site = Site()
    stores: list[MemoryControl | None] = [None]
    newest = StoredRules(rules(), lambda: stores[0], site.clock, site.facts)
    assert newest.newest(site.clock.now_us()).digest == rules().digest
    stores[0] = site.control
    add_tenant(site.control, "later")
    site.clock.advance(1)
    assert "later" in newest.newest(site.clock.now_us()).tenants


def test_a_store_that_hangs_is_left_alone_after_it_failed() -> None:
    """Whoever waited for a look that took long and failed does not make another one at once."""
    site, looks = Site(), 0

    def hangs() -> MemoryControl:
        nonlocal looks
        looks += 1
        site.clock.advance(12)
        raise Transient("control store: connection timed out")

    newest = StoredRules(rules(), hangs, site.clock, site.facts)
    for _ in range(10):
        with pytest.raises(Transient):
            newest.newest(site.clock.now_us())
    assert looks == 1
    site.clock.advance(6)
    with pytest.raises(Transient):
        newest.newest(site.clock.now_us())
    assert looks == 2
