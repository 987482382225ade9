"""The outer structure of JSON text, read without a parser: what is broken inside a value stays that value's own fault.

Linear, never recursive. Only strings and brackets are looked at.
"""

import re
from collections.abc import Iterator

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|["\[\]{},]', re.DOTALL)
_SPACE = b" \t\r\n"


def is_one_value(raw: bytes) -> bool:
    """True when the text is one object or array, as far as its brackets say."""
    text = raw.strip(_SPACE)
    if text[:1] not in (b"{", b"["):
        return False
    return next((at for at, depth in _closings(text) if depth == 0), -1) == len(text) - 1


def elements(raw: bytes) -> Iterator[bytes]:
    """Yield the elements of an array, as they are written; raise ValueError where it is none."""
    text = raw.strip(_SPACE)
    start, depth = 1, 0
    if text[:1] != b"[":
        raise ValueError("no array")
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
        elif token == b'"':
            raise ValueError("a string without an end")
        if depth == 0 or (depth == 1 and token == b","):
            element = text[start : found.start()].strip(_SPACE)
            if not element:
                raise ValueError("an element is missing")
            yield element
            start = found.end()
        if depth == 0:
            if token != b"]" or found.end() != len(text):
                raise ValueError("something follows the array")
            return
    raise ValueError("no end of the array")


def _closings(text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where brackets close, and how many are open after it."""
    depth = 0
    for found in _TOKEN.finditer(text):
        token = found[0]
        if token in (b"[", b"{"):
            depth += 1
        elif token in (b"]", b"}"):
            depth -= 1
            yield found.start(), depth
        elif token == b'"':
            return
