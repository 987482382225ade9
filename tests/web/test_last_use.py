"""Last use of keys on a quiet server: handed over by itself, in a thread, and only when there is news."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping

import pytest

from pipeline.core.credential import Presented
from pipeline.facts import LookUpsFailed
from pipeline.flows.authenticate import USED_EVERY_SECONDS
from pipeline.machine.processes import wait_until
from pipeline.web import serve
from pipeline.web.gate import CredentialGate
from tests.web.credentials import House
from tests.web.serving import serving

_PATIENCE_SECONDS = 10.0


@pytest.fixture
def house() -> House:
    return House()


def _used_once(house: House) -> None:
    """Use a key, just after another hand-over."""
    house.authenticator.hand_over()
    house.look_up(Presented("key", house.key()))
    house.control.calls.clear()


def _at_the_gate(house: House, talk: Callable[[CredentialGate], Awaitable[None]]) -> None:
    """Run on an event loop with a gate."""

    async def run() -> None:
        await talk(CredentialGate(house.door(), house.authenticator))

    asyncio.run(run())


async def _caught_up(house: House, gate: CredentialGate) -> None:
    """Do what the server does once a second, and wait for what that began."""
    gate.catch_up()
    await asyncio.gather(*gate._readings.values(), return_exceptions=True)
    await asyncio.sleep(0)
    house.clock.advance(1)


def test_a_use_is_handed_over_once(house: House) -> None:
    """A minute after the hand-over before, though nobody calls any more; then there is no news, and no write."""
    _used_once(house)
    used_us = house.clock.now_us()

    async def talk(gate: CredentialGate) -> None:
        for _ in range(int(3 * USED_EVERY_SECONDS)):
            await _caught_up(house, gate)

    _at_the_gate(house, talk)
    assert house.control.calls == ["keys_used"]
    assert house.control.keys()[0].last_used_us == used_us


def test_a_use_is_kept_while_the_store_is_away(house: House) -> None:
    """It is told that it could not be handed over, once in a while, and is handed over when the store is back."""
    _used_once(house)
    house.control.down = True

    async def talk(gate: CredentialGate) -> None:
        for second in range(int(3 * USED_EVERY_SECONDS)):
            house.control.down = second < 2 * USED_EVERY_SECONDS
            await _caught_up(house, gate)
        await gate.close()

    _at_the_gate(house, talk)
    assert house.control.calls == ["keys_used"] * 2
    assert [one.calls for one in house.facts.told if isinstance(one, LookUpsFailed)] == [{"used": 1}]
    assert house.control.keys()[0].last_used_us


def test_a_quiet_server_hands_over(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real server, by itself, and in a thread: its event loop waits for no store."""
    threads, plain = list[str](), house.control.keys_used

    def noted(used_us: Mapping[str, int]) -> None:
        threads.append(threading.current_thread().name)
        plain(used_us)

    monkeypatch.setattr(house.control, "keys_used", noted)
    monkeypatch.setattr(serve, "_TALLY_SECONDS", 0.01)
    door = house.door()
    with serving(door, CredentialGate(door, house.authenticator)):
        _used_once(house)
        house.clock.advance(USED_EVERY_SECONDS)
        assert wait_until(lambda: house.control.keys()[0].last_used_us is not None, _PATIENCE_SECONDS)
    assert len(threads) == 1
    assert threads[0].startswith("ThreadPoolExecutor")
