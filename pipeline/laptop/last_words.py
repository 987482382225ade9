"""Why a process of the stack ended: the last thing that its log says about it, for whoever waits for it."""

import re
from pathlib import Path

_TAIL_BYTES = 16_384
_CRASH = re.compile(r'"error":"((?:[^"\\]|\\.)*)"')  # the line may be torn
_SPOKEN = re.compile(r"headrace [a-z]+: (.*)")  # what `consumers.process.run` says of a wrong setting
_STARTED = ('"fact":"WorkerStarted"', '"fact":"ApiStarted"')  # what stands before is of an earlier process


def last_words(log: Path, since: int = 0) -> str:
    """Return why a process ended and where to read more, to be put behind a sentence that says that it did.

    Args:
        log: where it wrote, behind those before it.
        since: how long the log was when it began, in bytes.
    """
    where = f" (log: {log})"
    try:
        lines = log.read_bytes()[since:][-_TAIL_BYTES:].decode(errors="replace").splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        if any(started in line for started in _STARTED):
            break
        if spoken := _SPOKEN.fullmatch(line):
            return f": {spoken[1]}{where}"
        if '"fact":"WorkerCrashed"' in line and (found := _CRASH.search(line)):
            return f": {found[1]}{where}"
    return where
