"""Bodies that are refused while they are read: they cost the bytes that were read, and nobody reads for free."""

import gzip
import random
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from pipeline.core.plan import Plan
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter, plan_key
from pipeline.ports.clock import SystemClock
from tests.fakes.clock import SteppedClock
from tests.fakes.facts import FactList
from tests.fakes.limits import MemoryLimits
from tests.flows.test_leases import MIB, Town, caller
from tests.web.doors import MemorySink, OpenGate, make_door, web_settings
from tests.web.limited import Limited
from tests.web.serving import serving

PLAN = Plan("narrow", 1_000, 2_000, 10**6, 1_000, MIB, 500)  # a second of bytes at once: 1 MiB
_BLANKS = "".join(random.Random(5).choices(" \t\n\r", k=65_536)).encode() * 176  # 11 MiB, 4 to 1 as gzip
_DENSE = (_BLANKS[:4_000] + b" " * 36_000) * 290  # 11 MiB, about 40 to 1: gzip looks back 32 KiB
BOMB = gzip.compress(b"[" + _DENSE)
_JSON = {"Content-Type": "application/json"}
_GZIP = _JSON | {"Content-Encoding": "gzip"}
LARGE = b'{"a": "' + b"x" * (300 * 1024)


def _damaged() -> bytes:
    stream = zlib.compressobj(wbits=31)
    good = stream.compress(_BLANKS[:400_000]) + stream.flush(zlib.Z_SYNC_FLUSH)
    return good + b"\xff" * 500


REFUSED = {
    "a bomb": (BOMB, _GZIP),
    "damaged": (_damaged(), _GZIP),
    "cut short": (gzip.compress(b"[" + _BLANKS[:400_000])[:-8], _GZIP),
    "no JSON": (LARGE, _JSON),
    "an empty array": (b"[" + b" " * 400_000 + b"]", _JSON),
}


@pytest.mark.parametrize(("body", "headers"), REFUSED.values(), ids=REFUSED)
def test_a_tenant_that_sends_only_such_bodies_is_refused_for_its_bytes(
    body: bytes, headers: dict[str, str]
) -> None:
    """Each is charged what was read of it; then nothing is read any more until that is paid."""
    api = Limited(PLAN)
    client = api.client()
    codes = [client.simulate_post("/v1/events", body=body, headers=headers) for _ in range(8)]
    refused = [one for one in codes if one.status_code == 429]
    assert codes[0].status_code in {400, 413}
    assert len(refused) >= 3
    assert {one.json["which"] for one in refused} == {"bytes"}
    assert client.simulate_get("/v1/schemas").status_code == 200  # who reads is not concerned


def test_what_was_read_is_paid_before_more_is_read() -> None:
    """A bomb that inflated to ten seconds of the plan closes the door for ten seconds, and not for longer."""
    api = Limited(PLAN)
    client = api.client()
    assert client.simulate_post("/v1/events", body=BOMB, headers=_GZIP).status_code == 413
    for _ in range(90):
        assert client.simulate_post("/v1/events", body=b"[]", headers=_JSON).status_code == 429
        api.clock.advance(0.1)
    api.clock.advance(2.0)
    assert client.simulate_post("/v1/events", body=b"[]", headers=_JSON).status_code == 400


def test_waiting_for_what_is_owed_asks_nobody() -> None:
    """A thousand refusals of a tenant that owes bytes are answered from memory, but for a few."""
    api = Limited(PLAN)
    client = api.client()
    client.simulate_post("/v1/events", body=BOMB, headers=_GZIP)
    client.simulate_post("/v1/events", body=BOMB, headers=_GZIP)
    reads = api.store.reads
    for _ in range(1_000):
        assert client.simulate_post("/v1/events", body=b"[]", headers=_JSON).status_code == 429
    assert api.store.reads - reads <= 40  # leases of requests


def test_a_body_that_is_not_read_costs_nothing() -> None:
    """One that says it is too large, or is of a type that is not taken, is refused unread."""
    api = Limited(PLAN)
    client = api.client()
    for _ in range(20):
        assert (
            client.simulate_post("/v1/events", body=LARGE, headers={"Content-Type": "text/plain"}).status_code
            == 415
        )
    for _ in range(3):
        assert client.simulate_post("/v1/events", body=_BLANKS, headers=_JSON).status_code == 413


@pytest.fixture
def narrow() -> Iterator[Any]:
    """A real server whose plan holds 64 KiB of bodies."""
    clock, settings = SystemClock(), web_settings(web={"max_body_bytes": 65_536})
    limiter = Limiter(Leases(MemoryLimits(), clock, FactList()), clock, 65_536)
    gate = OpenGate(bytes_per_second=100)
    with (
        serving(make_door(MemorySink(), settings, limiter=limiter), gate) as served,
        served.client() as client,
    ):
        yield client


def test_chunks_that_never_end_are_charged(narrow: Any) -> None:
    """A body that does not say how long it is, is charged as it comes, and the next is not read."""

    def endless() -> Iterator[bytes]:
        yield b"["
        for _ in range(200):
            yield b" " * 1_024

    found = [narrow.post("/v1/events", content=endless(), headers=_JSON) for _ in range(5)]
    codes = [one.status_code for one in found]
    assert codes[0] == 413
    assert codes.count(413) <= 2  # the first may end a byte above what the bucket holds, which is soon paid
    assert {one.json()["which"] for one in found if one.status_code == 429} == {"bytes"}


def test_small_bodies_at_hand_are_charged(narrow: Any) -> None:
    """What comes with its head is paid like the rest: rubbish of 4 kB is refused after 16 of them."""
    body = b'{"a": "' + b"x" * 4_000
    codes = [narrow.post("/v1/events", content=body, headers=_JSON).status_code for _ in range(30)]
    assert codes[:16] == [400] * 16
    assert set(codes[18:]) == {429}


def test_whoever_obeys_is_served() -> None:
    """A tenant whose every body is as large as its bucket is taken each time it waited as long as it was told."""
    api = Limited(PLAN)
    client, taken, body = api.client(), 0, gzip.compress(b"[" + _BLANKS[: MIB - 2] + b"]")
    for _ in range(40):
        answer = client.simulate_post("/v1/events", body=body, headers=_GZIP)
        taken += answer.status_code == 400  # read to its end: an empty array
        if answer.status_code == 429:
            api.clock.advance(float(answer.headers["retry-after"]))
    assert taken >= 19


def test_a_debt_goes_to_the_account() -> None:
    """What a process owes is taken from what all share, also when it stops."""
    town, who = Town(2), caller(PLAN)
    assert town.ask(0, who, 0, 0, MIB // 2).allowed
    town.limiters[0].settle(who, MIB // 2, 3 * MIB)
    assert town.ask(0, who, 1).allowed
    assert not town.ask(0, who, 0, 0, 1).allowed
    town.limiters[0].close()
    assert town.store.accounts[plan_key(who)].units[2] < 0
    refused = town.ask(1, who, 0, 0, 1)
    assert (refused.which, refused.allowed) == ("bytes", False)
    assert refused.shares[0].remaining == 0
    town.clock.advance(4)
    assert town.ask(1, who, 0, 0, MIB // 2).allowed


def test_a_debt_while_the_store_is_down_is_kept() -> None:
    """Without the table a process pays from its own bucket, at the plan's rate."""
    clock, store = SteppedClock(), MemoryLimits()
    store.down = True
    limiter, who = Limiter(Leases(store, clock, FactList()), clock, MIB), caller(PLAN)
    limiter.settle(who, 0, 5 * MIB)
    waited = 0.0
    while True:
        limiter.renew(who, 0, 0, 1)
        found = limiter.take(who, 0, 0, 1)
        if found is not None and found.allowed:
            break
        clock.advance(0.5)
        waited += 0.5
    assert 3.5 <= waited <= 6
