"""Opaque texts that we hand out and get back: signed, and bound to whom they were given.

A text that was made for another purpose, another tenant, another stream, or that was changed, is no text of ours: nobody
learns which.
"""

import base64
import binascii
import hashlib
import hmac
from functools import lru_cache

_MAC_BYTES = 16  # of SHA-256: 128 bits, as nobody can try offline
_BLOCK_BYTES = 64  # of SHA-256
_INNER, _OUTER = (bytes(byte ^ pad for byte in range(256)) for pad in (0x36, 0x5C))
_MAX_CHARACTERS = 8_192  # far more than a receipt over all shards of a large stream


def sign(body: bytes, key: bytes, bound_to: str) -> str:
    """Return a text for URLs that `unsign` takes back for the same `bound_to`."""
    return base64.urlsafe_b64encode(_mac(body, key, bound_to) + body).rstrip(b"=").decode()


def unsign(text: str, key: bytes, bound_to: str) -> bytes | None:
    """Return what was signed; None when it was not signed by this key for this purpose."""
    if len(text) > _MAX_CHARACTERS or not text.isascii():
        return None
    try:
        whole = base64.b64decode(text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    mac, body = whole[:_MAC_BYTES], whole[_MAC_BYTES:]
    return body if hmac.compare_digest(mac, _mac(body, key, bound_to)) else None


def _mac(body: bytes, key: bytes, bound_to: str) -> bytes:
    begun_inner, begun_outer = _begun(key)
    inner, outer = begun_inner.copy(), begun_outer.copy()
    inner.update(bound_to.encode() + b"\0" + body)
    outer.update(inner.digest())
    return outer.digest()[:_MAC_BYTES]


@lru_cache(maxsize=8)  # a process has a key or two
def _begun(key: bytes) -> "tuple[hashlib._Hash, hashlib._Hash]":
    """Return the two hashes of HMAC (RFC 2104) with the key in them: half of what a short text costs."""
    block = hashlib.sha256(key).digest() if len(key) > _BLOCK_BYTES else key
    block = block.ljust(_BLOCK_BYTES, b"\0")
    return hashlib.sha256(block.translate(_INNER)), hashlib.sha256(block.translate(_OUTER))
