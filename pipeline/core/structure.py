"""The outer structure of JSON text, read without a parser: what is broken inside a value stays that value's own fault.

Linear, never recursive, and some nanoseconds a byte whatever the text is: hostile text must not cost more than other.
Only quotes, brackets and commas are looked at.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

_SPACE = b" \t\r\n"
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1


def is_one_value(raw: bytes) -> bool:
    """True when the text is one object or array, as far as its brackets say."""
    text = raw.strip(_SPACE)
    return text[:1] in (b"{", b"[") and _outline(text).end == len(text) - 1


def elements(raw: bytes) -> Iterator[bytes]:
    """Yield the elements of an array, as they are written; raise ValueError where it is none."""
    text = raw.strip(_SPACE)
    if text[:1] != b"[":
        raise ValueError("no array")
    outline = _outline(text)
    if outline.end < 0:
        raise ValueError("no end of the array, or of a string in it")
    if outline.end != len(text) - 1 or text[-1:] != b"]":
        raise ValueError("something follows the array")
    borders = np.concatenate(([0], np.flatnonzero(outline.commas), [outline.end]))
    for before, after in pairwise(borders):
        element = text[before + 1 : after].strip(_SPACE)
        if not element:
            raise ValueError("an element is missing")
        yield element


class _Outline(NamedTuple):
    end: int  # where the first bracket closes; -1: it does not
    commas: npt.NDArray[np.bool_]  # between the elements of the outermost array


def _outline(text: bytes) -> _Outline:
    """Read text that begins with a bracket."""
    if b"\\" in text:
        text = text.replace(b"\\\\", b"  ").replace(b'\\"', b"  ")  # every quote left begins or ends a string
    characters = np.frombuffer(text, np.uint8)
    inside = np.logical_xor.accumulate(characters == ord('"'))
    steps = _STEPS[characters]
    steps[inside] = 0
    depth = np.cumsum(steps, dtype=np.int32)
    end = int(np.argmin(depth > 0))
    commas = (characters == ord(",")) & (depth == 1) & ~inside
    return _Outline(end if depth[end] <= 0 else -1, commas)
