"""API keys as text: `hr_<environment>_<id>_<secret>_<check>`.

The id is public: it is in logs, and it is how a key is looked up. The secret has 192 bits and is kept by nobody but its
owner; of it the SHA-256 is stored, which needs no salt and no slow hash, as there is nothing to guess. The check (CRC-32)
refuses a mistyped or cut key without asking anybody, and lets scanners find keys in files.
"""

import hashlib
import hmac
import re
import zlib
from dataclasses import dataclass, field
from typing import NamedTuple

from pipeline.core.caller import Denied

ID_BYTES, SECRET_BYTES = 8, 24
RANDOM_BYTES = ID_BYTES + SECRET_BYTES
ENVIRONMENT = r"[a-z0-9]{1,16}"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_SECRET_DIGITS = 33  # 62**33 > 2**192
_CHECK_DIGITS = 6  # 62**6 > 2**32
_KEY = re.compile(
    rf"hr_{ENVIRONMENT}_(?P<id>[0-9a-f]{{16}})_(?P<secret>[0-9A-Za-z]{{33}})_(?P<check>[0-9A-Za-z]{{6}})"
)
MAX_KEY_CHARACTERS = 80  # the longest has 79: nothing longer is looked at


class PresentedKey(NamedTuple):
    """What a caller showed: well formed, and not yet compared with what is stored."""

    id: str
    secret: str


@dataclass(frozen=True)
class NewKey:
    """A key at the only moment when it is known whole; it does not show itself in a message or log."""

    id: str
    text: str = field(repr=False)
    secret_hash: bytes = field(repr=False)


def make_key(environment: str, randomness: bytes) -> NewKey:
    """Make a key.

    Args:
        environment: of which deployment it is; 1 to 16 of a-z 0-9.
        randomness: `RANDOM_BYTES` bytes that nobody can guess.

    Raises:
        ValueError: one of them has another form.
    """
    if len(randomness) != RANDOM_BYTES or not re.fullmatch(ENVIRONMENT, environment):
        raise ValueError(
            f"a key takes {RANDOM_BYTES} random bytes, and 1 to 16 of a-z 0-9 as its environment"
        )
    key_id = randomness[:ID_BYTES].hex()
    secret = _digits(int.from_bytes(randomness[ID_BYTES:], "big"), _SECRET_DIGITS)
    body = f"hr_{environment}_{key_id}_{secret}"
    return NewKey(key_id, f"{body}_{_check(body)}", secret_hash(secret))


def parse_key(text: str) -> PresentedKey:
    """Read a key.

    Raises:
        Denied: it has not the form of a key, or a letter of it is wrong. The message does not repeat it.
    """
    found = _KEY.fullmatch(text) if len(text) <= MAX_KEY_CHARACTERS else None
    if found is None or found["check"] != _check(text[: -_CHECK_DIGITS - 1]):
        raise Denied("malformed_key", "this is no API key: it begins with hr_, and all of it is needed")
    return PresentedKey(found["id"], found["secret"])


def secret_hash(secret: str) -> bytes:
    """Return what is stored of a secret: SHA-256, 32 bytes."""
    return hashlib.sha256(secret.encode()).digest()


def secret_matches(secret: str, stored_hash: bytes) -> bool:
    """True when that is the secret; takes the same time wherever they differ."""
    return hmac.compare_digest(secret_hash(secret), stored_hash)


def _check(body: str) -> str:
    return _digits(zlib.crc32(body.encode()), _CHECK_DIGITS)


def _digits(number: int, width: int) -> str:
    """Write a number in base 62, always of the same width."""
    found = []
    for _ in range(width):
        number, digit = divmod(number, len(_DIGITS))
        found.append(_DIGITS[digit])
    return "".join(reversed(found))
