"""A key ends when the wall clock says so, also where somebody sets that clock."""

from typing import Any

import pytest

from pipeline.core.api_key import make_key
from pipeline.core.caller import Caller, Denied
from pipeline.core.credential import Presented
from pipeline.flows.authenticate import Authenticator
from tests.fakes.clock import NOON_US, SteppedClock
from tests.fakes.control import MemoryControl
from tests.store.values import ACME, act, key


class SetClock(SteppedClock):
    """A clock whose time of day can be set; what is measured goes on."""

    set_us = 0

    def now_us(self) -> int:
        """Return the time of day."""
        return super().now_us() + self.set_us


@pytest.mark.parametrize("end", ["expires_us", "revoked_us"])
def test_a_key_ends_to_the_moment(end: str) -> None:
    """In use all the time, it is good a microsecond before its end and refused at it, though the clock was set in between."""
    clock, control, made = SetClock(), MemoryControl(), make_key("test", bytes(range(32)))
    control.put_tenant(ACME, act(), new=True)
    ends_us = NOON_US + 3_600_000_000
    ending: dict[str, Any] = {end: ends_us}
    control.put_key(key(made.id, secret_hash=made.secret_hash, **ending), act(), new=True)
    authenticator, shown = Authenticator(control, clock), Presented("key", made.text)
    authenticator.warm()
    assert isinstance(authenticator.resolved(shown), Caller)
    clock.advance(1)
    clock.set_us = ends_us - 1 - (NOON_US + 1_000_000)
    assert isinstance(authenticator.resolved(shown), Caller)
    assert authenticator.recognised(made.text.encode()) is not None
    clock.set_us += 1
    assert authenticator.recognised(made.text.encode()) is None
    with pytest.raises(Denied):
        authenticator.resolved(shown)
