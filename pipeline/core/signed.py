"""Texts that only this deployment can have made: cursors, receipts. They can be read by anyone, and changed by nobody.

    base64url(MAC, 16 bytes | body), without padding        MAC = HMAC-SHA256(key, purpose | 0 | body), its first half

`purpose` keeps one kind of text from being taken for another. A text holds nothing that its holder may not know.
"""

import base64
import binascii
import hmac

from pipeline.core.errors import HeadraceError

_MAC_BYTES = 16  # 128 bits: half of SHA-256, as RFC 2104 section 5 allows
MAX_CHARACTERS = (
    8_192  # of a text, as a receipt over all shards of a large stream; longer ones are none of ours
)


class Forged(HeadraceError):
    """A text was not made here, or not for this purpose, or was changed on its way."""


def sign(key: bytes, purpose: str, body: bytes) -> str:
    """Return a text that `opened` gives `body` back for; letters, digits, `-` and `_`."""
    return base64.urlsafe_b64encode(_mac(key, purpose, body) + body).rstrip(b"=").decode()


def opened(key: bytes, purpose: str, text: str) -> bytes:
    """Return what was signed.

    Raises:
        Forged: it is not what `sign` made with this key and purpose.
    """
    if len(text) > MAX_CHARACTERS:
        raise Forged(f"longer than {MAX_CHARACTERS:,} characters")
    try:
        held = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as exc:
        raise Forged("not base64url") from exc
    mac, body = held[:_MAC_BYTES], held[_MAC_BYTES:]
    if not hmac.compare_digest(mac, _mac(key, purpose, body)):
        raise Forged("not signed by this deployment")
    if sign(key, purpose, body) != text:  # unused bits of the last character
        raise Forged("not written as it was made")
    return body


def _mac(key: bytes, purpose: str, body: bytes) -> bytes:
    return hmac.digest(key, purpose.encode() + b"\0" + body, "sha256")[:_MAC_BYTES]
