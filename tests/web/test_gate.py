"""Keys and tokens at the gate: what is asked of the stores, how soon a change holds, and what is told."""

import asyncio
import threading
from dataclasses import replace

import pytest

from pipeline.core.api_key import RANDOM_BYTES, make_key
from pipeline.core.caller import Caller, Denied, Scope
from pipeline.core.credential import Presented
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.plan import DELIVERED
from pipeline.core.tenant import ApiKey
from pipeline.facts import CredentialsRefused, LookUpsFailed
from pipeline.flows import remembered
from pipeline.flows.authenticate import Missing
from pipeline.flows.remembered import FRESH_SECONDS, NEW_AT_ONCE, NEW_BURST, NEW_PER_SECOND, SOON_SECONDS
from pipeline.flows.remembered import STALE_SECONDS as STALE
from pipeline.web.gate import gate_of
from tests.web.credentials import ACT, Asking, Headers, House, bearer, with_key


@pytest.fixture
def house() -> House:
    return House()


def _stranger(number: int) -> str:
    """Return a well-formed key that nobody has."""
    return make_key("test", (10**9 + number).to_bytes(8, "big") + bytes(RANDOM_BYTES - 8)).text


def _status(house: House, headers: Headers) -> int:
    return house.ask(headers)[0].status_code


def test_a_key(house: House) -> None:
    """Tenant, scopes and plan are those of the key."""
    [found] = house.ask(with_key(house.key("acme", Scope.READ, Scope.INGEST)))
    assert found.json() == {
        "tenant": "acme",
        "credential": f"key:{house.control.keys()[0].id}",
        "scopes": ["ingest", "read"],
        "plan": "standard",
    }


def test_keys_that_are_refused(house: House) -> None:
    """Unknown, mistyped, of a suspended tenant, revoked, expired, with another's secret: one answer to all of them."""
    now = house.clock.now_us()
    key = house.key()
    other = make_key("test", b"\0" * 8 + bytes(range(24)))
    house.key(seed=3 << 192)  # makes the id below exist
    mixed = make_key("test", (3).to_bytes(8, "big") + bytes(range(24))).text
    shown: dict[str, list[Headers]] = {
        "unknown_key": [with_key(_stranger(0))],
        "malformed_key": [with_key(key[:-1] + "!"), with_key(""), with_key("x" * 5_000), with_key("hr_" + "\xe9")],
        "wrong_secret": [with_key(mixed)],
        "suspended_tenant": [with_key(house.key("globex", seed=4 << 192))],
        "revoked_key": [with_key(house.key(seed=5 << 192, revoked_us=now))],
        "expired_key": [with_key(house.key(seed=6 << 192, expires_us=now))],
        "missing": [[]],
        "two_credentials": [[*with_key(key), *bearer(house.token())]],
        "repeated_header": [[*with_key(key), *with_key(key)], [*bearer(house.token()), *bearer(house.token())]],
        "malformed_header": [
            [("Authorization", value)] for value in ("", "Bearer", "Basic YTpi", f"Bearer {key}, {key}", key, "Bearer a b")
        ],
    }  # fmt: skip
    answers = house.ask(*(headers for several in shown.values() for headers in several))
    assert {one.status_code for one in answers} == {401}
    bodies = {one.text.replace(one.headers["x-request-id"], "") for one in answers}
    assert len(bodies) == 1
    named = {"x-request-id", "x-trace-id"}
    assert (
        len({tuple(sorted((n, v) for n, v in one.headers.items() if n not in named)) for one in answers}) == 1
    )
    assert house.codes() == {code: len(several) for code, several in shown.items()}
    assert other.id == "0" * 16
    assert key not in repr(house.facts.told)


def test_a_key_beside_an_empty_header_of_the_other_kind(house: House) -> None:
    """Two headers are two credentials, also when one of them says nothing."""
    key = house.key()
    assert _status(house, [*with_key(key), ("Authorization", "")]) == 401


def test_the_store_is_asked_once_in_a_while(house: House) -> None:
    """A thousand requests within some seconds are one look at the key and one at the tenant."""
    key = house.key()
    assert {one.status_code for one in house.ask(*[with_key(key)] * 1_000)} == {200}
    asked = [house.control.calls.count(name) for name in ("key", "tenant", "plan")]
    assert asked == [1, 1, 1]


def test_many_at_once_are_one_question(house: House) -> None:
    """However many wait for the same key: one thread asks, once."""
    key = house.key()
    house.control.calls.clear()

    async def talk(asking: Asking) -> None:
        answers = await asyncio.gather(*(asking(with_key(key)) for _ in range(200)))
        assert {one.status_code for one in answers} == {200}

    house.asking(talk)
    assert house.control.calls == ["key", "tenant", "plan", "keys_used"]  # the last one as the process ends


def test_a_hot_key_waits_for_nobody(house: House) -> None:
    """Used again before it is old, it is answered at once, and read anew meanwhile: a slow store is not felt."""
    key = house.key()
    assert _status(house, with_key(key)) == 200
    house.clock.advance(SOON_SECONDS)
    go, plain = threading.Event(), house.control.key

    def slow(key_id: str) -> ApiKey | None:
        assert go.wait(10)
        return plain(key_id)

    house.control.key = slow  # type: ignore[method-assign]

    async def talk(asking: Asking) -> None:
        for _ in range(3):
            assert (await asking(with_key(key))).status_code == 200
        go.set()

    house.asking(talk)
    assert house.control.calls.count("key") == 2


@pytest.mark.parametrize("down", [False, True])
@pytest.mark.parametrize("every", [1.0, 7.0, 16.0, 59.0])
def test_a_revocation_holds_within_a_minute(house: House, every: float, down: bool) -> None:
    """However often the key is used, and whether the store answers or not: after 60 s nobody gets in with it."""
    key = house.key()
    [stored] = house.control.keys()
    assert _status(house, with_key(key)) == 200
    house.control.put_key(replace(stored, revoked_us=house.clock.now_us()), ACT, new=False)
    house.control.down = down
    revoked_at = house.clock.monotonic()
    while house.clock.monotonic() - revoked_at + every < 60:
        house.clock.advance(every)
        house.ask(with_key(key), with_key(key))
    house.clock.advance(60 - (house.clock.monotonic() - revoked_at))
    assert _status(house, with_key(key)) == (503 if down else 401)


def test_a_tenant_is_suspended(house: House) -> None:
    """Its keys and its clients are refused within a minute, and let in again when it is active again."""
    shown = [with_key(house.key()), bearer(house.token())]
    tenant = house.control.tenant("acme")
    assert tenant is not None
    for state, status in (("suspended", 401), ("active", 200)):
        house.control.put_tenant(replace(tenant, state=state), ACT, new=False)  # type: ignore[arg-type]
        house.clock.advance(FRESH_SECONDS + 1)
        assert [one.status_code for one in house.ask(*shown)] == [status, status]


def test_a_revocation_that_lies_ahead(house: House) -> None:
    """Rotation with overlap: the old key holds until its moment, and not a second longer, without a look at the store."""
    key = house.key(revoked_us=house.clock.now_us() + 5_000_000)
    assert _status(house, with_key(key)) == 200
    house.clock.advance(4.9)
    assert _status(house, with_key(key)) == 200
    house.clock.advance(0.1)
    house.control.down = True
    assert _status(house, with_key(key)) == 401


def test_a_new_key(house: House) -> None:
    """Tried before it was made, it is good some seconds after."""
    text = _stranger(7)
    assert _status(house, with_key(text)) == 401
    made = make_key("test", (10**9 + 7).to_bytes(8, "big") + bytes(RANDOM_BYTES - 8))
    assert made.text == text
    house.control.put_key(
        ApiKey(made.id, "acme", "", frozenset({Scope.READ}), made.secret_hash, 0), ACT, new=True
    )
    house.clock.advance(FRESH_SECONDS + 1)
    assert _status(house, with_key(text)) == 200


def test_the_store_is_away_for_a_while(house: House) -> None:
    """Who was known gets in for fifty seconds; who was not is told to try again, and the log says what failed."""
    key = house.key()
    token = bearer(house.token())
    assert [one.status_code for one in house.ask(with_key(key), token)] == [200, 200]
    house.control.down = True
    for _ in range(4):
        house.clock.advance(12)
        assert [one.status_code for one in house.ask(with_key(key), token)] == [200, 200]
    unknown = house.ask(with_key(_stranger(1)))[0]
    assert (unknown.status_code, unknown.headers["retry-after"].isdigit()) == (503, True)
    house.clock.advance(STALE - 48 + 1)
    assert _status(house, with_key(key)) == 503
    house.control.down = False
    assert _status(house, with_key(key)) == 200
    failed = [fact for fact in house.facts.told if isinstance(fact, LookUpsFailed)]
    assert sum(fact.calls.get("key", 0) for fact in failed) >= 2
    assert house.codes() == {}


def test_a_store_with_wrong_settings(house: House) -> None:
    """It is no fault of the caller, and none of the handler's."""
    key = house.key()

    def refuse(_: str) -> None:
        raise ConfigProblem("control store: wrong password")

    house.control.key = refuse  # type: ignore[method-assign,assignment]
    [found] = house.ask(with_key(key))
    assert (found.status_code, found.json()["code"]) == (503, "unavailable")
    assert "password" not in found.text


def test_a_flood_of_invented_keys(house: House) -> None:
    """The store hears of a bounded number of them; who is known gets in; afterwards new keys do, too."""
    key = house.key()
    assert _status(house, with_key(key)) == 200
    house.control.calls.clear()
    answers = house.ask(*(with_key(_stranger(number)) for number in range(500)), with_key(key))
    assert house.control.calls.count("key") == NEW_BURST - 1  # the good one was new, too
    assert answers[-1].status_code == 200
    assert {one.status_code for one in answers[:-1]} == {401, 503}
    house.clock.advance(2)
    more = house.ask(*(with_key(_stranger(number)) for number in range(500, 700)))
    assert [one.status_code for one in more].count(401) == 2 * NEW_PER_SECOND
    house.clock.advance(1)
    assert _status(house, with_key(house.key(seed=9 << 192))) == 200


def test_a_restart_under_load(house: House) -> None:
    """A process that begins knows all keys, tenants and clients there are: none of them is taken for an invented one."""
    keys = [with_key(house.key(seed=number << 192)) for number in range(1, int(NEW_BURST) + 50)]
    house.authenticator.warm()
    house.control.calls.clear()
    assert {one.status_code for one in house.ask(*keys, bearer(house.token()))} == {200}
    assert house.control.calls == ["keys_used"]
    house.clock.advance(STALE + 1)
    assert {one.status_code for one in house.ask(*keys)} == {200}


def test_a_flood_at_a_slow_store(house: House) -> None:
    """It holds a few of the threads at most."""
    for number in range(NEW_AT_ONCE):
        house.authenticator.reading(Missing("key", f"{number:016x}"))
    with pytest.raises(Transient):
        house.authenticator.reading(Missing("key", "f" * 16))


def test_what_is_remembered_is_bounded(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Absent names push out absent ones, and never a name that is there."""
    monkeypatch.setattr(remembered, "MOST_NAMES", 3)
    names = remembered.Remembered[int](house.clock, most=3)
    names.learned("there", 1, 0)
    for number in range(100):
        names.learned(f"absent {number}", None, 0)
    assert names.usable("there") is not None
    assert names.usable("absent 96") is None
    assert names.usable("absent 99") is not None
    for number in range(3):
        names.learned(str(number), number, 0)
    assert names.usable("there") is None


def test_last_use(house: House) -> None:
    """It reaches the store once a minute for all keys together, and when the process ends, to ten seconds."""
    keys = [house.key(seed=number << 192) for number in (1, 2)]
    house.ask(*map(with_key, keys))  # ends, and so tells
    house.control.calls.clear()
    used_at = house.clock.now_us()

    async def talk(asking: Asking) -> None:
        for step in range(130):
            house.clock.advance(1)
            for key in keys:
                await asking(with_key(key))
            if step == 100:
                await asyncio.sleep(0.05)
                assert house.control.calls.count("keys_used") == 1

    house.asking(talk)
    assert house.control.calls.count("keys_used") == 3
    stored = house.control.keys()
    assert len(stored) == len(keys)
    assert all(120_000_000 <= (one.last_used_us or 0) - used_at <= 130_000_000 for one in stored)


def test_last_use_while_the_store_is_away(house: House) -> None:
    """It is kept for the next time."""
    key = house.key()
    house.look_up(Presented("key", key))
    house.control.down = True
    with pytest.raises(Transient):
        house.authenticator.hand_over()
    house.control.down = False
    house.authenticator.hand_over()
    assert house.control.keys()[0].last_used_us == house.clock.now_us()


def test_refusals_are_told_together(house: House) -> None:
    """A hundred refusals are one fact, with a number for each code."""
    house.ask(*[[]] * 60, *[with_key("x")] * 40)
    [fact] = [fact for fact in house.facts.told if isinstance(fact, CredentialsRefused)]
    assert fact.codes == {"missing": 60, "malformed_key": 40}


# The issuer's keys


def test_without_an_event_loop(house: House) -> None:
    """The same in one thread: look up, then from memory."""
    shown = Presented("token", house.token())
    assert not isinstance(house.authenticator.resolved(shown), Caller)
    caller = house.look_up(shown)
    assert house.authenticator.resolved(shown) == caller
    assert caller.plan == DELIVERED[1]
    with pytest.raises(Denied):
        house.look_up(Presented("key", "x"))


def test_a_door_without_credentials(house: House) -> None:
    """Nobody is let in by omission: there is no gate."""
    door = replace(house.door(), authenticator=None)
    with pytest.raises(ConfigProblem, match="credentials"):
        gate_of(door)
