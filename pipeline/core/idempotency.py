"""What makes a repeated request the same request: its key, its fingerprint, and the ids that follow from them.

Source: draft-ietf-httpapi-idempotency-key-header. A key belongs to one tenant and lives for `LIFETIME_SECONDS` from its first
use; until then the same key means the same request, and afterwards a new one, even if nobody has deleted the old item yet.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

LIFETIME_SECONDS = 24 * 3_600
MAX_KEY_CHARS = 128  # a UUID has 36; longer keys would only make every item dearer
_BARE = re.compile(rf"[!#-+\-./0-:<-\[\]-~]{{1,{MAX_KEY_CHARS}}}")  # visible ASCII without " , ; \
_QUOTED = re.compile(r'"((?:[ !#-\[\]-~]|\\["\\])+)"')  # a string of RFC 9651, as the draft writes the header
_UUID_VERSION_8, _UUID_VARIANT = 0x8 << 76, 0b10 << 62  # RFC 9562: version 8 is free for digests
_UUID_FREE_BITS = ~((0xF << 76) | (0b11 << 62))

State = Literal["in_progress", "complete"]


@dataclass(frozen=True)
class StoredAnswer:
    """What was answered the first time: given again, byte for byte."""

    status: int
    headers: Mapping[str, str]
    media_type: str
    body: bytes


@dataclass(frozen=True)
class Entry:
    """One key of one tenant, as it is stored.

    Attributes:
        tenant, key: whose, and which.
        fingerprint: of the request that used it first; another one is refused.
        owner: the attempt that holds it now; whoever has another one lost it.
        begun_us: of the first attempt; ids and times of the request follow from it, so later attempts keep it.
        locked_until_us: until then the holder is taken to be at work; 0: it gave up.
        expires_us: from then on there is no such entry.
        answer: None while in progress.
    """

    tenant: str
    key: str
    fingerprint: str
    owner: str
    begun_us: int
    locked_until_us: int
    expires_us: int
    answer: StoredAnswer | None = field(default=None, repr=False)

    @property
    def state(self) -> State:
        """Return whether its request was answered."""
        return "in_progress" if self.answer is None else "complete"


def parse_idempotency_key(header: str) -> str | None:
    """Return the key that an `Idempotency-Key` header names: a quoted string as in the draft, or the bare word.

    None: it is neither, or longer than `MAX_KEY_CHARS`.
    """
    quoted = _QUOTED.fullmatch(header)
    if quoted:
        key = re.sub(r"\\(.)", r"\1", quoted[1])
        return key if len(key) <= MAX_KEY_CHARS else None
    return header if _BARE.fullmatch(header) else None


def fingerprint(method: str, path: str, media_type: str, body: bytes) -> str:
    """Return the digest of all that makes a request what it is; `path` with its query, `body` as it arrived."""
    digest = hashlib.sha256()
    for part in (method.encode(), path.encode(), media_type.encode(), body):
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.hexdigest()


def derived_event_id(tenant: str, key: str, index: int, begun_us: int = 0) -> str:
    """Return the id of an event that came without one: the same at every attempt of the same request.

    Args:
        tenant: whose key.
        key: the request's `Idempotency-Key`.
        index: of the event in the request, from 0.
        begun_us: of the request's first attempt: a key used again after its lifetime makes other events.
    """
    text = "\0".join(("event", tenant, str(begun_us), str(index), key))
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:16], "big")
    digits = f"{number & _UUID_FREE_BITS | _UUID_VERSION_8 | _UUID_VARIANT:032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))
