"""JSON Web Tokens of one Cognito user pool: whether one is genuine, and what it says.

Only RS256, with a key that the issuer's key set names by exactly the token's `kid`; nothing in a token says how it is to be
checked. Times are compared with the caller's clock, not with the library's.
Source: "Verifying JSON web tokens" (Cognito's guide), RFC 7519, RFC 8725 (best practices).
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import RSAAlgorithm
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from pipeline.core.caller import Denied, Scope
from pipeline.core.credential import MAX_TOKEN_CHARS

ALGORITHM = "RS256"
LEEWAY_SECONDS = 5  # between two clocks that are both kept by NTP
MAX_LIFE_SECONDS = 24 * 3_600  # Cognito's own limit for access tokens
MIN_KEY_BITS = 2_048  # RFC 7518, section 3.3
MAX_KEYS = 32  # a pool has two or three
_MAX_KID_CHARS = 256
_POINTERS = (
    "jku",
    "jwk",
    "x5u",
    "x5c",
    "crit",
    "b64",
    "zip",
)  # would choose the key, or the meaning, from inside
_TOKEN = re.compile(r"([A-Za-z0-9_-]+)\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_JWS = PyJWS()

Keys = Mapping[str, RSAPublicKey]


@dataclass(frozen=True)
class Trust:
    """Whose tokens are taken, and how they name our scopes.

    Attributes:
        issuer: exactly what `iss` must say.
        resource_server: our identifier in the pool: scopes are `<resource_server>/<scope>`, and an `aud` must be it.
    """

    issuer: str
    resource_server: str


@dataclass(frozen=True)
class Token:
    """A genuine token: what it is good for, and until when."""

    client_id: str
    scopes: frozenset[Scope]
    signer: str
    expires_us: int


def signer_of(token: str) -> str:
    """Return the `kid` of a token, before anything of it is believed.

    Raises:
        Denied: it is too long, no token, not RS256, or tries to choose its own key.
    """
    if len(token) > MAX_TOKEN_CHARS:
        raise Denied("oversized_token", f"a token has at most {MAX_TOKEN_CHARS} characters")
    found = _TOKEN.fullmatch(token)
    if found is None:
        raise Denied("malformed_token", "not three parts of base64url")
    header = _object(found[1])
    if header.get("alg") != ALGORITHM:
        raise Denied("wrong_algorithm", f"only {ALGORITHM}")
    if any(name in header for name in _POINTERS):
        raise Denied("odd_header", "the header says how it is to be checked")
    kid = header.get("kid")
    if not isinstance(kid, str) or not 0 < len(kid) <= _MAX_KID_CHARS:
        raise Denied("unknown_signer", "no `kid`")
    return kid


def _object(part: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(
            base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)), type=dict[str, Any]
        )
    except (msgspec.MsgspecError, binascii.Error, ValueError, RecursionError) as exc:
        raise Denied("malformed_token", "the header is no JSON object") from exc


def genuine(token: str, keys: Keys, trust: Trust, now_us: int) -> Token:
    """Return what a token says, after its signature, issuer, use and times were checked.

    Args:
        token: as it came, its signer already among `keys`.
        keys: the issuer's, by `kid`.
        trust: whose tokens are taken.
        now_us: the time.

    Raises:
        Denied: it is not genuine, not for us, or not of now.
    """
    signer = signer_of(token)
    if signer not in keys:
        raise Denied("unknown_signer", "the issuer has no such key")
    try:
        payload = _JWS.decode_complete(token, keys[signer], algorithms=[ALGORITHM])["payload"]
    except (PyJWTError, ValueError) as exc:
        raise Denied("bad_signature", "not signed by the issuer") from exc
    try:
        claims = msgspec.json.decode(payload, type=dict[str, Any])
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise Denied("bad_claims", "the claims are no JSON object") from exc
    _check_origin(claims, trust)
    expires_us = _check_times(claims, now_us)
    client_id, scope = claims.get("client_id"), claims.get("scope", "")
    if not isinstance(client_id, str) or not client_id or not isinstance(scope, str):
        raise Denied("bad_claims", "`client_id` or `scope` is no text")
    return Token(client_id, _scopes(scope, trust.resource_server), signer, expires_us)


def _check_origin(claims: dict[str, Any], trust: Trust) -> None:
    if claims.get("iss") != trust.issuer:
        raise Denied("wrong_issuer", "another issuer")
    if claims.get("token_use") != "access":
        raise Denied("wrong_use", "no access token")
    if "aud" in claims:  # Cognito writes one only when the client asked for a resource
        audience = claims["aud"]
        if trust.resource_server not in (audience if isinstance(audience, list) else [audience]):
            raise Denied("wrong_audience", "for another service")


def _check_times(claims: dict[str, Any], now_us: int) -> int:
    """Return when the token ends, microseconds."""
    expires, issued, begins = (_seconds(claims, name) for name in ("exp", "iat", "nbf"))
    if expires is None or issued is None:
        raise Denied("bad_claims", "`exp` and `iat` are needed")
    now = now_us / 1e6
    if expires + LEEWAY_SECONDS <= now:
        raise Denied("expired_token", "expired")
    if max(issued, begins or 0) > now + LEEWAY_SECONDS:
        raise Denied("early_token", "of the future")
    if expires - issued > MAX_LIFE_SECONDS:
        raise Denied("long_lived_token", "lives longer than the issuer ever lets one live")
    return round((expires + LEEWAY_SECONDS) * 1e6)


def _seconds(claims: dict[str, Any], name: str) -> float | None:
    value = claims.get(name)
    if name not in claims:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 2**40:
        raise Denied("bad_claims", f"`{name}` is no time")
    return value


def _scopes(claim: str, resource_server: str) -> frozenset[Scope]:
    """Return those of our scopes that a token names; others are other services'."""
    ours = {f"{resource_server}/{scope}": scope for scope in Scope}
    return frozenset(ours[name] for name in claim.split() if name in ours)


def signing_keys(document: bytes) -> dict[str, RSAPublicKey]:
    """Return the usable keys of a key set (RFC 7517), by `kid`: public RSA keys for signatures, long enough.

    Raises:
        ValueError: it is no key set, too large, or has no usable key.
    """
    found: dict[str, RSAPublicKey] = {}
    try:
        members = msgspec.json.decode(document, type=dict[str, Any]).get("keys")
    except (msgspec.MsgspecError, RecursionError) as exc:
        raise ValueError(f"no JSON object ({type(exc).__name__})") from exc
    if not isinstance(members, list) or len(members) > MAX_KEYS:
        raise ValueError(f"`keys` must be a list of at most {MAX_KEYS}")
    for member in members:
        kid = member.get("kid") if isinstance(member, dict) else None
        if not isinstance(kid, str) or kid in found:
            continue
        key = _public_key(member)
        if key is not None:
            found[kid] = key
    if not found:
        raise ValueError("no usable RSA key in it")
    return found


def _public_key(member: dict[str, Any]) -> RSAPublicKey | None:
    fits = member.get("kty") == "RSA" and member.get("use", "sig") == "sig"
    if not fits or member.get("alg", ALGORITHM) != ALGORITHM:
        return None
    try:
        key = RSAAlgorithm.from_jwk(member)
    except (PyJWTError, ValueError, TypeError, KeyError):
        return None
    # A published private key would be everybody's, so one is no key.
    return key if isinstance(key, RSAPublicKey) and key.key_size >= MIN_KEY_BITS else None
