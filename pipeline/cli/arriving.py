"""Lines of a pipe as they come: somebody else's program may pause between two of them."""

import queue
import threading
import time
from typing import BinaryIO

WAITING_LINES = 10_000  # read ahead at most; beyond, the pipe itself holds the other program back


class Arriving:
    """Port `pipeline.flows.ingest.Lines` over a stream whose lines may be long in coming.

    Args:
        stream: read to its end by a thread of its own, which dies with the process.
        size: the most bytes of a line that are handed over at once.
        patience_seconds: how long lines may wait for more: then `readline` says that nothing came, also when some did.
    """

    def __init__(self, stream: BinaryIO, size: int, patience_seconds: float) -> None:
        self._patience = patience_seconds
        self._due = time.monotonic() + patience_seconds
        self._lines: queue.Queue[bytes] = queue.Queue(WAITING_LINES)
        self._ended = False
        threading.Thread(target=self._read, args=(stream, size), name="stdin", daemon=True).start()

    def readline(self, _size: int, /) -> bytes | None:
        """Return the next line or piece, b"" at the end, or None when nothing came."""
        if self._ended:
            return b""
        try:
            line = self._lines.get(timeout=max(self._due - time.monotonic(), 0.0))
        except queue.Empty:
            self._due = time.monotonic() + self._patience
            return None
        self._ended = not line
        return line

    def _read(self, stream: BinaryIO, size: int) -> None:
        while line := stream.readline(size):
            self._lines.put(line)
        self._lines.put(b"")
