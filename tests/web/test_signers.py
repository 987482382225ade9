"""The keys that an issuer signs tokens with, at the gate: when they are read again, and which of them count."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from jwt.algorithms import RSAAlgorithm

from pipeline.core.errors import Transient
from pipeline.facts import LookUpsFailed, TokenKeysRead
from pipeline.flows.ready import Kept
from pipeline.flows.signing_keys import AGAIN_SECONDS, OLD_SECONDS
from tests.web.credentials import Asking, Headers, House, bearer, jwk, rsa


@pytest.fixture
def house() -> House:
    return House()


def _status(house: House, headers: Headers) -> int:
    return house.ask(headers)[0].status_code


def test_the_issuer_is_asked_once(house: House) -> None:
    """A hundred tokens are one look at its keys."""
    house.ask(*(bearer(house.token(jti=str(number))) for number in range(100)))
    assert house.keys.fetched == 1
    assert [fact.keys for fact in house.facts.told if isinstance(fact, TokenKeysRead)] == [1]


def test_tokens_at_once_wait_for_one_look(house: House) -> None:
    """At start nothing is known: all the first tokens wait for the same look, and get in."""

    async def talk(asking: Asking) -> None:
        tokens = [bearer(house.token(jti=str(number))) for number in range(50)]
        assert {one.status_code for one in await asyncio.gather(*map(asking, tokens))} == {200}

    house.asking(talk)
    assert house.keys.fetched == 1


def test_keys_are_rotated(house: House) -> None:
    """A token of the new key is known at once, one of the old key until it is withdrawn and the set is an hour old."""
    old = house.token(exp=house.clock.now_us() // 10**6 + 7_200)
    assert _status(house, bearer(old)) == 200
    house.keys.members.append(jwk("k2", rsa("second")))
    house.clock.advance(AGAIN_SECONDS)
    new = house.token("k2", rsa("second"), exp=house.clock.now_us() // 10**6 + 7_200)
    assert [one.status_code for one in house.ask(bearer(new), bearer(old))] == [200, 200]
    assert house.keys.fetched == 2
    house.keys.members.pop(0)
    house.clock.advance(OLD_SECONDS)
    house.ask(bearer(new))  # is answered with what is known; the set is read meanwhile
    assert [one.status_code for one in house.ask(bearer(new), bearer(old))] == [200, 401]
    assert house.codes() == {"unknown_signer": 1}


def test_a_flood_of_unknown_signers(house: House) -> None:
    """The issuer is asked at most once in 30 s."""
    good = bearer(house.token())
    assert _status(house, good) == 200
    for _ in range(3):
        flood = [bearer(house.token(f"kid {number}")) for number in range(20)]
        assert {one.status_code for one in house.ask(*flood)} == {401}
        house.clock.advance(AGAIN_SECONDS / 3)
    assert house.keys.fetched == 1 + 0  # the first look was a moment ago
    assert {one.status_code for one in house.ask(*flood)} == {401}
    assert house.keys.fetched == 2


def test_readiness_asks_until_there_are_keys(house: House) -> None:
    """Without any key set the issuer is failing, and why is told; from then on what is known holds, whatever the issuer does."""
    signers = house.issuer().signers
    house.keys.down = True
    with pytest.raises(Transient):
        signers.kept()
    told = [one for one in house.facts.told if isinstance(one, LookUpsFailed)]
    assert [(one.calls, one.error) for one in told] == [
        ({"signers": 1}, "Transient: the issuer does not answer")
    ]
    house.keys.down = False
    house.clock.advance(AGAIN_SECONDS)
    read_at = house.clock.monotonic()
    assert signers.kept() == Kept(read_at)
    house.keys.down = True
    house.clock.advance(10 * OLD_SECONDS)
    assert signers.kept() == Kept(read_at)
    assert house.keys.fetched == 2


def test_many_want_the_keys_and_one_reads_them(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """A probe and the gate at the same time are one look at the issuer; neither takes the other's look for a failed one."""
    signers, begun, go, plain = house.issuer().signers, threading.Event(), threading.Event(), house.keys.fetch

    def slow() -> bytes:
        begun.set()
        assert go.wait(10)
        return plain()

    monkeypatch.setattr(house.keys, "fetch", slow)
    with ThreadPoolExecutor() as pool:
        probe = pool.submit(signers.kept)
        assert begun.wait(10)
        gate = pool.submit(signers.refresh)
        go.set()
        gate.result(10)
        probe.result(10)
    assert house.keys.fetched == 1


def test_the_issuer_is_down(house: House) -> None:
    """Old keys stay good; of a new key nobody can say, and nothing is hammered."""
    good = bearer(house.token(exp=house.clock.now_us() // 10**6 + 80_000))
    assert _status(house, good) == 200
    house.keys.down = True
    house.clock.advance(10 * OLD_SECONDS)
    assert [one.status_code for one in house.ask(*[good] * 20)] == [200] * 20
    assert [one.status_code for one in house.ask(*[bearer(house.token("k2"))] * 20)] == [503] * 20
    assert house.keys.fetched == 2
    assert next(fact.calls for fact in house.facts.told if isinstance(fact, LookUpsFailed))["signers"] == 1


def test_the_issuer_was_never_up(house: House) -> None:
    """Tokens can be neither good nor bad: try again. Soon after it is up they are judged."""
    house.keys.down = True
    assert [one.status_code for one in house.ask(*[bearer(house.token())] * 20)] == [503] * 20
    assert house.keys.fetched == 1
    house.keys.down = False
    house.clock.advance(2)
    assert _status(house, bearer(house.token())) == 200


@pytest.mark.parametrize(
    "document",
    [b"", b"garbage", b"[]", b"{}", b'{"keys":[]}', b'{"keys":{}}', b'{"keys":[1,null,{}]}', b"[" * 60_000],
)
def test_a_wrong_key_set(house: House, document: bytes) -> None:
    """What is no key set changes nothing."""
    assert _status(house, bearer(house.token())) == 200
    house.keys.document = document
    house.clock.advance(AGAIN_SECONDS)
    assert _status(house, bearer(house.token("k2"))) == 503
    assert _status(house, bearer(house.token(jti="2"))) == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"kty": "EC"},
        {"use": "enc"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"n": "AQAB"},
        {"n": 7},
        {"d": "AQAB"},
        {"e": ""},
    ],
)
def test_a_key_that_is_not_for_this(house: House, changes: dict[str, object]) -> None:
    """Keys of other kinds, uses and lengths, and private ones, are passed over; the good one beside them counts."""
    house.keys.members = [jwk("odd", rsa("first"), **changes), jwk("k1", rsa("first"))]
    assert _status(house, bearer(house.token("odd"))) == 401
    assert _status(house, bearer(house.token())) == 200


def test_a_published_private_key(house: House) -> None:
    """It is everybody's, so it signs for nobody."""
    house.keys.members.append(RSAAlgorithm.to_jwk(rsa("second"), as_dict=True) | {"kid": "open"})
    assert _status(house, bearer(house.token("open", rsa("second")))) == 401


@pytest.mark.filterwarnings("ignore:The RSA key is 1024 bits long")
def test_a_short_key(house: House) -> None:
    """1,024 bits are not enough, whoever publishes them."""
    house.keys.members.append(jwk("short", rsa("short", 1024)))
    assert _status(house, bearer(house.token("short", rsa("short", 1024)))) == 401


def test_the_first_of_two_keys_with_one_name(house: House) -> None:
    """A second member with the same `kid` replaces nothing."""
    house.keys.members.append(jwk("k1", rsa("forger")))
    assert _status(house, bearer(house.token(key=rsa("forger")))) == 401
    assert _status(house, bearer(house.token())) == 200
