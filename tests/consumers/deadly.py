"""The reader and its probe as they are, but for one thing: some bytes kill whoever decodes them.

`python -m tests.consumers.deadly reader|probe`, with the way to die in DEADLY_KIND.
"""

import ctypes
import os
import sys
import threading
from collections.abc import Iterable

from consumers import probe
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Record
from pipeline.machine import child_probe

MARK = b"whoever decodes this is dead"
_PAGE = 64 * 2**20
_WHOLE = Decoder.decode


def _die(kind: str) -> None:
    if kind == "crash":
        ctypes.string_at(0)
    if kind == "exit":
        os._exit(3)
    if kind == "memory":
        kept: list[bytes] = []
        while len(kept) * _PAGE < 3 * 2**30:
            kept.append(bytes(_PAGE))
        os._exit(9)  # a machine would end it here
    if kind == "abort":
        os.abort()
    if kind == "sleep":
        threading.Event().wait()
    while kind == "hang":
        pass


def _decode(self: Decoder, records: Iterable[Record], first_index: int, into: Decoded) -> int:
    found = list(records)
    if any(MARK in record.data for record in found):
        _die(os.environ["DEADLY_KIND"])
    return _WHOLE(self, found, first_index, into)


def main() -> None:
    """Run the reader or the probe."""
    Decoder.decode = _decode  # type: ignore[method-assign]
    child_probe.COMMAND = (sys.executable, "-m", "tests.consumers.deadly", "probe")
    if sys.argv[1] == "probe":
        probe.main()
    else:
        from consumers import reader
        from consumers.process import run

        run("reader", reader.main)


if __name__ == "__main__":
    main()
