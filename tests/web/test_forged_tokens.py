"""Tokens that nobody may get in with: forged, borrowed, old, of somebody else, or no tokens at all."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from pipeline.core.access_token import LEEWAY_SECONDS, MAX_LIFE_SECONDS, signer_of
from pipeline.core.caller import Denied, Scope
from pipeline.core.credential import DENIALS, MAX_TOKEN_CHARS
from tests.web.credentials import ISSUER, House, bearer, jwk, part, rsa


@pytest.fixture
def house() -> House:
    return House()


def _pem() -> bytes:
    return rsa("first").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _hs256(house: House, secret: bytes) -> str:
    text = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'k1'})}.{part(house.claims())}"
    return f"{text}.{part(hmac.digest(secret, text.encode(), hashlib.sha256))}"


def _header(**more: Any) -> Callable[[House], str]:
    return lambda house: house.signed({"alg": "RS256", "kid": "k1", **more}, house.claims())


def _claims(**changes: Any) -> Callable[[House], str]:
    return lambda house: house.token(**changes)


def _seconds(house: House) -> int:
    return house.clock.now_us() // 1_000_000


def _es256(house: House) -> str:
    return jwt.encode(house.claims(), ec.generate_private_key(ec.SECP256R1()), "ES256", {"kid": "k1"})


def _tampered(house: House) -> str:
    head, _, signature = house.token().split(".")
    return f"{head}.{part(house.claims(client_id='client-of-initech'))}.{signature}"


FORGED: dict[str, tuple[str, Callable[[House], str]]] = {
    "none": ("malformed_token", lambda house: f"{part({'alg': 'none', 'kid': 'k1'})}.{part(house.claims())}."),
    "none, signed": (
        "wrong_algorithm",
        lambda house: f"{part({'alg': 'none', 'kid': 'k1'})}.{part(house.claims())}.{part(b'x')}",
    ),
    "None": ("wrong_algorithm", _header(alg="nOnE")),
    "no algorithm": ("wrong_algorithm", lambda house: house.signed({"kid": "k1"}, house.claims())),
    "a list of algorithms": ("wrong_algorithm", _header(alg=["RS256"])),
    "HS256 with the public key": ("wrong_algorithm", lambda house: _hs256(house, _pem())),
    "HS256 with the modulus": (
        "wrong_algorithm",
        lambda house: _hs256(house, jwk("k1", rsa("first"))["n"].encode()),
    ),
    "HS256 with nothing": ("wrong_algorithm", lambda house: _hs256(house, b"")),
    "RS512": (
        "wrong_algorithm",
        lambda house: jwt.encode(house.claims(), rsa("first"), "RS512", {"kid": "k1"}),
    ),
    "PS256": (
        "wrong_algorithm",
        lambda house: jwt.encode(house.claims(), rsa("first"), "PS256", {"kid": "k1"}),
    ),
    "ES256": ("wrong_algorithm", _es256),
    "another's key": ("bad_signature", lambda house: house.token(key=rsa("forger"))),
    "tampered": ("bad_signature", _tampered),
    "signature cut": ("bad_signature", lambda house: house.token()[:-20]),
    "signature of nothing": ("malformed_token", lambda house: house.token().rpartition(".")[0] + "."),
    "kid of nobody": ("unknown_signer", lambda house: house.token(kid="k2")),
    "kid as a path": ("unknown_signer", lambda house: house.token(kid="../../../../dev/null")),
    "kid as an address": ("unknown_signer", lambda house: house.token(kid="https://evil.example/jwks.json")),
    "kid as SQL": ("unknown_signer", lambda house: house.token(kid="k1' OR '1'='1")),
    "kid in other letters": ("unknown_signer", lambda house: house.token(kid="K1")),
    "kid with a space": ("unknown_signer", lambda house: house.token(kid="k1 ")),
    "kid with a zero": ("unknown_signer", lambda house: house.token(kid="k1\x00")),
    "no kid": ("unknown_signer", lambda house: house.token(kid=None)),
    "kid empty": ("unknown_signer", _header(kid="")),
    "kid a number": ("unknown_signer", _header(kid=1)),
    "kid a list": ("unknown_signer", _header(kid=["k1"])),
    "kid huge": ("unknown_signer", lambda house: house.token(kid="k" * 1_000)),
    "jku": ("odd_header", _header(jku="https://evil.example/jwks.json")),
    "jwk": ("odd_header", _header(jwk=jwk("k1", rsa("first")))),
    "jwk of the forger": (
        "odd_header",
        lambda house: jwt.encode(
            house.claims(), rsa("forger"), "RS256", {"kid": "k1", "jwk": jwk("k1", rsa("forger"))}
        ),
    ),
    "x5u": ("odd_header", _header(x5u="https://evil.example/cert.pem")),
    "x5c": ("odd_header", _header(x5c=["MIIB"])),
    "crit": ("odd_header", _header(crit=["b64"], b64=True)),
    "wrong issuer": ("wrong_issuer", _claims(iss="https://cognito-idp.us-east-1.amazonaws.com/us-east-1_evil")),
    "issuer with more": ("wrong_issuer", _claims(iss=f"{ISSUER}/")),
    "issuer in a list": ("wrong_issuer", lambda house: house.signed(
        {"alg": "RS256", "kid": "k1"}, house.claims(iss=[ISSUER]))),
    "no issuer": ("wrong_issuer", _claims(iss=None)),
    "wrong audience": ("wrong_audience", _claims(aud="another-service")),
    "audiences of others": ("wrong_audience", _claims(aud=["another-service", "headrace-test"])),
    "id token": ("wrong_use", _claims(token_use="id", aud="client-of-acme")),
    "no use": ("wrong_use", _claims(token_use=None)),
    "expired": ("expired_token", lambda house: house.token(
        exp=_seconds(house) - LEEWAY_SECONDS, iat=_seconds(house) - 3600)),
    "no end": ("bad_claims", _claims(exp=None)),
    "end in words": ("bad_claims", _claims(exp="tomorrow")),
    "end as text": ("bad_claims", _claims(exp="4102444800")),
    "end true": ("bad_claims", _claims(exp=True)),
    "end without end": ("bad_claims", lambda house: house.signed(
        {"alg": "RS256", "kid": "k1"}, json.dumps(house.claims()).replace(
            f'"exp": {_seconds(house) + 3600}', '"exp": 1e400').encode())),
    "end in a thousand years": ("long_lived_token", lambda house: house.token(exp=_seconds(house) + 10**10)),
    "lives too long": ("long_lived_token", lambda house: house.token(exp=_seconds(house) + MAX_LIFE_SECONDS + 1)),
    "no beginning": ("bad_claims", _claims(iat=None)),
    "issued in the future": ("early_token", lambda house: house.token(iat=_seconds(house) + LEEWAY_SECONDS + 1)),
    "not yet": ("early_token", lambda house: house.token(nbf=_seconds(house) + LEEWAY_SECONDS + 1)),
    "oversized": ("oversized_token", _claims(junk="x" * MAX_TOKEN_CHARS)),
    "scope a list": ("bad_claims", _claims(scope=["headrace/read"])),
    "no client": ("bad_claims", _claims(client_id=None)),
    "client a number": ("bad_claims", _claims(client_id=7)),
    "claims a list": ("bad_claims", lambda house: house.signed({"alg": "RS256", "kid": "k1"}, [house.claims()])),
    "claims garbage": ("bad_claims", lambda house: house.signed({"alg": "RS256", "kid": "k1"}, b"\xff\x00")),
    "claims nested": ("bad_claims", lambda house: house.signed(
        {"alg": "RS256", "kid": "k1"}, b'{"a":' + b"[" * 4_000 + b"]" * 1_000)),
    "header garbage": ("malformed_token", lambda house: "AAAA." + house.token().partition(".")[2]),
    "header nested": ("malformed_token", lambda _: f"{part(b'[' * 3_000)}.e30.e30"),
    "header a list": ("malformed_token", lambda house: f"{part([1])}.{part(house.claims())}.{part(b'x')}"),
    "garbage": ("malformed_token", lambda _: "garbage"),
    "dots": ("malformed_token", lambda _: "..."),
    "five parts": ("malformed_token", lambda house: house.token() + ".e30.e30"),
    "another client of the pool": ("unknown_client", _claims(client_id="client-of-nobody")),
    "a client's name in other letters": ("unknown_client", _claims(client_id="CLIENT-OF-ACME")),
    "a suspended tenant's client": ("suspended_tenant", _claims(client_id="client-of-globex")),
    "a revoked client": ("revoked_client", _claims(client_id="client-of-old")),
}  # fmt: skip


def _same(answers: list[httpx.Response]) -> set[tuple[int, str, str]]:
    """Return what is left of answers without the request's id."""
    found = set()
    for answer in answers:
        body = answer.json()
        named = body.pop("request_id")
        assert named == answer.headers.pop("x-request-id") == answer.headers.pop("x-trace-id")
        found.add((answer.status_code, json.dumps(body), json.dumps(sorted(answer.headers.items()))))
    return found


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_token_is_refused(house: House, name: str) -> None:
    """The answer is the one to no credential at all; what was wrong is counted, and nothing of the token is told."""
    code, forge = FORGED[name]
    house.client("client-of-old", "acme", Scope.READ, revoked_us=house.clock.now_us())
    token = forge(house)
    good, nothing, forged, again = house.ask(bearer(house.token()), [], bearer(token), bearer(token))
    assert good.status_code == 200
    assert len(_same([nothing, forged, again])) == 1
    assert (forged.status_code, forged.headers["www-authenticate"]) == (401, 'Bearer realm="headrace"')
    assert house.codes() == {"missing": 1, code: 2}
    told = repr(house.facts.told)
    assert not any(secret in told for secret in token.split(".") if len(secret) > 8)


def test_every_code_is_declared() -> None:
    """The label of the metric is a closed set."""
    assert {code for code, _ in FORGED.values()} <= set(DENIALS)


def test_a_good_token(house: House) -> None:
    """Tenant and plan are the client's, scopes those that token and client share; other services' are nobody's."""
    [found] = house.ask(bearer(house.token(scope="headrace/read headrace/admin other/ingest headrace/readx")))
    assert found.json() == {
        "tenant": "acme",
        "credential": "client:client-of-acme",
        "scopes": ["read"],
        "plan": "standard",
    }


@pytest.mark.parametrize("audience", ["headrace", ["other", "headrace"]])
def test_a_token_that_names_us(house: House, audience: object) -> None:
    """An audience is not needed; one that is there must be ours."""
    assert house.ask(bearer(house.token(aud=audience)))[0].status_code == 200


def test_clocks_that_differ_a_little(house: House) -> None:
    """Some seconds are forgiven at both ends."""
    now = _seconds(house)
    early = house.token(iat=now + LEEWAY_SECONDS, nbf=now + LEEWAY_SECONDS)
    late = house.token(iat=now - 3600, exp=now - LEEWAY_SECONDS + 1)
    assert [one.status_code for one in house.ask(bearer(early), bearer(late))] == [200, 200]


def test_a_token_ends_while_it_is_remembered(house: House) -> None:
    """Verified once, it is refused from its end on."""
    token = house.token(exp=_seconds(house) + 60)
    assert house.ask(bearer(token))[0].status_code == 200
    house.clock.advance(60 + LEEWAY_SECONDS)
    assert house.ask(bearer(token))[0].status_code == 401
    assert house.codes() == {"expired_token": 1}


def test_a_token_without_the_scope(house: House) -> None:
    """It is genuine, and not for this: 403 names the scope that is needed."""
    token = house.token(scope="headrace/ingest")
    read, replay, open_ = (house.ask(bearer(token), path=path)[0] for path in ("/read", "/replay", "/open"))
    assert (read.status_code, replay.status_code, open_.status_code) == (403, 403, 200)
    assert "`read`" in read.json()["detail"]
    assert "insufficient_scope" in read.headers["www-authenticate"]
    assert house.codes() == {"wrong_scope": 2}


def test_no_issuer(house: House) -> None:
    """Where none is set, no token is good, and nobody is asked for keys."""
    house.authenticator._issuer = None
    assert house.ask(bearer(house.token()))[0].status_code == 401
    assert house.keys.fetched == 0


def test_nothing_is_looked_up_for_a_forged_token(house: House) -> None:
    """The control store hears only of clients that the issuer has named."""
    house.ask(bearer(house.token(key=rsa("forger"))), bearer(house.token(iss="https://evil.example")))
    assert house.control.calls.count("client") == 0


def test_a_long_token_is_not_decoded() -> None:
    """Its length is looked at before anything else, whoever asks."""
    with pytest.raises(Denied) as refused:
        signer_of("a" * (MAX_TOKEN_CHARS + 1))
    assert refused.value.code == "oversized_token"
