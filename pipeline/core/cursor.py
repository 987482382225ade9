"""Cursors: where the next page of an answer begins. Opaque, signed, of one tenant and one question, and not for ever.

A cursor is of the tenant it was made for: another's is told apart from a forged one here, so that it can be counted,
and nowhere else.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from pipeline.core.errors import ConfigProblem
from pipeline.core.signed import sign, unsign

LIFE_US = 24 * 3_600 * 1_000_000  # somebody who reads page after page, with a night between them
_PURPOSE = "cursor"
_VERSION = 1

Reason = Literal["forged", "another tenant", "another question", "expired"]
Place = tuple[str | int, ...]


class CursorRefused(ConfigProblem):
    """A cursor is not for this. `reason` is for facts; a caller is not told which tenant's it is."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(f"the cursor is refused: {reason}")
        self.reason: Reason = reason


class _Cursor(msgspec.Struct, frozen=True, array_like=True):
    version: int
    until_us: int
    tenant: bytes
    question: bytes
    after: tuple[str | int, ...]


_DECODE = msgspec.msgpack.Decoder(_Cursor).decode


def write_cursor(key: bytes, tenant_id: str, question: Mapping[str, Any], after: Place, now_us: int) -> str:
    """Return the cursor of the page after a place.

    Args:
        key: of the deployment.
        tenant_id: whose it is.
        question: what was asked, the cursor and the page's length apart; JSON-ready values.
        after: the place of the last thing shown.
        now_us: the time, from which its life counts.
    """
    cursor = _Cursor(_VERSION, now_us + LIFE_US, _digest(tenant_id), _digest(question), after)
    return sign(msgspec.msgpack.encode(cursor), key, _PURPOSE)


def read_cursor(key: bytes, text: str, tenant_id: str, question: Mapping[str, Any], now_us: int) -> Place:
    """Return the place of the last thing shown.

    Raises:
        CursorRefused: it was changed, is another tenant's or question's, or is too old.
    """
    body = unsign(text, key, _PURPOSE)
    if body is None or sign(body, key, _PURPOSE) != text:  # unused bits of the last character
        raise CursorRefused("forged")
    try:
        found = _DECODE(body)
    except msgspec.MsgspecError as exc:
        raise CursorRefused("forged") from exc
    if found.tenant != _digest(tenant_id):
        raise CursorRefused("another tenant")
    if found.version != _VERSION or found.question != _digest(question):
        raise CursorRefused("another question")
    if found.until_us <= now_us:
        raise CursorRefused("expired")
    return found.after


def _digest(value: Any) -> bytes:
    return hashlib.blake2b(msgspec.json.encode(value, order="sorted"), digest_size=12).digest()
