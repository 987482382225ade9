"""Ids of requests: 32 hex digits that nobody can guess, many from one call for randomness.

The call leaves the interpreter and costs more than all else that a small request does not need; so it is made for many.
"""

import os
import secrets

_ID_BYTES = 16
_AT_ONCE = 512  # ids: 8 kB of randomness

_left: list[str] = []
os.register_at_fork(after_in_child=_left.clear)  # a child has ids of its own


def new_request_id() -> str:
    """Return a new id. Any thread."""
    try:
        return _left.pop()
    except IndexError:
        text, size = secrets.token_hex(_ID_BYTES * _AT_ONCE), 2 * _ID_BYTES
        _left.extend(text[at : at + size] for at in range(size, len(text), size))
        return text[:size]
