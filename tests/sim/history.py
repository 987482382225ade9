"""A run's history, shortened to what a reader needs: what was decided, what went wrong, and how it ended."""

import re
from collections.abc import Sequence

MAX_LINES = 150
_LAST = 30  # told in full: the breach is near
_LINE = re.compile(r" *\d+  (\S+) +(.*)", re.DOTALL)
_TELLING = re.compile(
    r" \| |^starts|^ends in order|^gives up|^dies|^no more faults|^ledger\.(plan|commit)|^lease\.(taken|ended)"
    r"|^stream\.put|^receipts\.put|^jobs\.(freeze|move|finish)| -> [A-Z]\w+$"
)
_OUTSIDE = ("world", "network", "-")


def shortened(history: Sequence[str]) -> list[str]:
    """Return the lines that tell, with the others folded between them; at most MAX_LINES."""
    lines: list[str] = []
    folded: list[str] = []
    for number, line in enumerate(history):
        found = _LINE.fullmatch(line)
        who, what = (found[1], found[2]) if found else ("", line)
        if who in _OUTSIDE or len(history) - number <= _LAST or _TELLING.search(what):
            lines += [*_fold(folded), line]
            folded = []
        else:
            folded.append(who)
    lines += _fold(folded)
    left_out = len(lines) - MAX_LINES
    if left_out > 0:
        lines = [f"      ... {left_out + 1} earlier lines: add --full", *lines[left_out + 1 :]]
    return lines


def _fold(folded: Sequence[str]) -> list[str]:
    if not folded:
        return []
    names = " ".join(dict.fromkeys(folded))
    return [f"      ... {len(folded)} more of {names}"]
