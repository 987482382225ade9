"""A credential as a request shows it: exactly one API key or one bearer token, said once."""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec

from pipeline.core.api_key import MAX_KEY_CHARACTERS
from pipeline.core.caller import Denied

MAX_TOKEN_CHARS = 8_192  # a Cognito access token has about 1,000; nothing longer is decoded
_BEARER = re.compile(r"[Bb][Ee][Aa][Rr][Ee][Rr] +([A-Za-z0-9._~+/=-]+)")  # RFC 6750, section 2.1

# Why a credential was refused: for facts and metrics, never for the caller.
DENIALS = (
    "missing",
    "two_credentials",
    "repeated_header",
    "malformed_header",
    "malformed_key",
    "unknown_key",
    "wrong_secret",
    "expired_key",
    "revoked_key",
    "tokens_off",
    "oversized_token",
    "malformed_token",
    "wrong_algorithm",
    "odd_header",
    "unknown_signer",
    "bad_signature",
    "bad_claims",
    "wrong_issuer",
    "wrong_use",
    "wrong_audience",
    "expired_token",
    "early_token",
    "long_lived_token",
    "unknown_client",
    "revoked_client",
    "unknown_tenant",
    "suspended_tenant",
    "wrong_scope",
)


class Presented(msgspec.Struct, frozen=True, gc=False):
    """What a caller showed. Its text is not shown in messages or logs."""

    kind: Literal["key", "token"]
    text: str

    def __repr__(self) -> str:
        return f"Presented(kind={self.kind!r})"


def presented(api_keys: Sequence[bytes], authorizations: Sequence[bytes]) -> Presented:
    """Return the one credential of a request.

    Args:
        api_keys: the values of all its headers `X-API-Key`.
        authorizations: the values of all its headers `Authorization`.

    Raises:
        Denied: there is none, there are two, or it has not the form of one.
    """
    if not api_keys and not authorizations:
        raise Denied("missing", "no credential")
    if api_keys and authorizations:
        raise Denied("two_credentials", "a key and a token: which one holds is nobody's guess")
    [value, *more] = api_keys or authorizations
    if more:
        raise Denied("repeated_header", "the same header twice")
    if len(value) > MAX_TOKEN_CHARS + len("Bearer "):
        raise Denied("oversized_token", f"a credential has at most {MAX_TOKEN_CHARS} characters")
    text = value.decode("latin-1").strip(" \t")
    if api_keys:
        if len(text) > MAX_KEY_CHARACTERS:
            raise Denied("malformed_key", "no API key is so long")
        return Presented("key", text)
    found = _BEARER.fullmatch(text)
    if found is None:
        raise Denied("malformed_header", "`Authorization` must be `Bearer TOKEN`")
    return Presented("token", found[1])
