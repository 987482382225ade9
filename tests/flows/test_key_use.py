"""The last use of keys: no write for each request, and nothing lost while the store is away."""

from pipeline.core.caller import Scope
from pipeline.flows.admin import Admin, KeyTerms
from pipeline.flows.key_use import FLUSH_SECONDS, KeyUse
from tests.fakes.clock import SteppedClock
from tests.fakes.control import MemoryControl


def test_many_requests_are_one_write() -> None:
    """A thousand uses become one write after a minute, and the store has the last of them."""
    control, clock = MemoryControl(), SteppedClock()
    admin = Admin(control, clock, "jo", bytes)
    admin.add_tenant("acme", "basic")
    made, _ = admin.create_key("acme", KeyTerms(frozenset({Scope.READ})))
    use = KeyUse(control, clock)
    control.calls.clear()
    for _ in range(1_000):
        use.note(made.id)
        clock.advance(0.001)
    assert not use.is_due()
    clock.advance(FLUSH_SECONDS)
    assert use.is_due()
    use.flush()
    use.flush()
    assert control.calls == ["keys_used"]
    assert admin.key(made.id).last_used_us == clock.now_us() - round((FLUSH_SECONDS + 0.001) * 1e6)
    assert not use.is_due()


def test_what_could_not_be_told_is_told_later() -> None:
    """A store that is down loses no use, and a later one is not overwritten by it."""
    control, clock = MemoryControl(), SteppedClock()
    use = KeyUse(control, clock)
    use.note("a")
    control.down = True
    use.flush()
    control.down = False
    clock.advance(FLUSH_SECONDS)
    assert use.is_due()
    use.note("b")
    use.flush()
    assert not use.is_due()
    assert control.calls == ["keys_used", "keys_used"]
