"""Why bytes are no JSON, in words that lead to the place.

Parsers say so each in their own way. Of bytes that are no UTF-8 some know no place, and some count characters of a text that
is none; here it is the byte that Python's own decoder stops at.
"""

import re

_PLACE = re.compile(r": line \d+ column \d+ \(char (\d+)\)")  # of orjson; a unit may be one line of many


def why_no_json(raw: bytes, exc: Exception) -> str:
    """Return why a parser refused `raw`: its own words, or the first byte (counted from 0) that is no UTF-8."""
    try:
        raw.decode()
    except UnicodeDecodeError as wrong:
        return f"not UTF-8: byte {wrong.start:,} is 0x{raw[wrong.start]:02x}, {wrong.reason}"
    return _PLACE.sub(r" at character \1", str(exc))
