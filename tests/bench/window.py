"""The duplicate window at its cap, in a process of its own so that its peak of memory is its own.

`fill`: segments come, the cap is reached, half as many come after it and the eldest leave. `restart`: a worker that starts reads
the whole window back from `ids/`, from memory (decode and build alone) and through the S3 adapter.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from pipeline.startup import light

light()

import numpy as np  # noqa: E402 - after light()

from pipeline.core.keys import ids_key  # noqa: E402
from pipeline.core.segment import Counts, Lineage, Position, Segment  # noqa: E402
from pipeline.core.window import (  # noqa: E402
    Fingerprints,
    encode_ids,
    fingerprints,
)
from pipeline.flows.window import DuplicateWindow, WindowLimits  # noqa: E402
from pipeline.flows.write import WritePorts  # noqa: E402
from pipeline.machine.processes import memory_bytes, peak_memory_bytes  # noqa: E402
from pipeline.ports.clock import SystemClock  # noqa: E402
from pipeline.ports.objects import Objects  # noqa: E402
from tests.bench.figure import Figure, cpu_seconds  # noqa: E402
from tests.bench.null_ports import NullAggregates, NullIndex, NullLedger, NullManifest, NullObjects  # noqa: E402

SEGMENT_ROWS = 65_536
SMALL_ROWS = 1_000
_READERS = 8  # as a worker has (`wiring.loader_parts`)
_BEYOND = 0.5  # of the cap, after it is reached: the window slides
_LINEAGE = Lineage("bench-0-shard", "0001", "bench", "shard")


def duplicate_window(count: int, rounds: int) -> list[Figure]:
    """The duplicate window at 5 and 20 million ids: memory with every transient, time per event, reading it back."""
    del rounds
    pairs = [(f"tenant-{number % 20}", f"{number:016x}") for number in range(100_000)]
    found = [Figure("fingerprint", cpu_seconds(lambda: fingerprints(pairs)) / len(pairs) * 1e6, "us/event")]
    for ids in (count, 4 * count):
        bound = 24 * ids / 1e6
        for rows in (SEGMENT_ROWS, SMALL_ROWS):
            filled, about = _child("fill", ids, rows), f"window of {ids:,} ids, segments of {rows:,}"
            found += [
                Figure(f"{about}: look up and remember", filled["us"], "us/event", "<= 1"),
                Figure(f"{about}: memory at its peak", filled["peak_mb"], "MB", f"<= {bound:,.0f}"),
            ]
        read, hold = _child("restart", ids, SEGMENT_ROWS), "<= 3 at 5,000,000"
        found += [
            Figure(f"window of {ids:,} ids: read back, without the store", read["pure"], "s", hold),
            Figure(f"window of {ids:,} ids: read back, local S3", read["s3"], "s", hold),
            Figure(f"window of {ids:,} ids: read back, memory at its peak", read["peak_mb"], "MB"),
        ]
    return found


def _child(mode: str, ids: int, rows: int) -> dict[str, float]:
    command = [sys.executable, "-m", "tests.bench.window", mode, str(ids), str(rows)]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {name: float(value) for name, value in answer.items()}


def _segments(ids: int, rows: int) -> Iterator[Fingerprints]:
    chance = np.random.default_rng(7)
    for _ in range(ids // rows):
        halves = chance.integers(0, 2**64, (2, rows), dtype=np.uint64)
        yield Fingerprints(halves[0], halves[1])


def _fill(ids: int, rows: int) -> dict[str, float]:
    window, spent, seen = _window(NullObjects(), _Ledger(0, rows), map, ids), 0.0, 0
    window.flags(next(_segments(rows, rows)), 0)
    before = memory_bytes(os.getpid())
    for ordinal, part in enumerate(_segments(int(ids * (1 + _BEYOND)), rows), 1):
        segment = _segment(ordinal, rows)
        began = time.process_time()
        window.flags(part, 0)
        window.remember(segment, part)
        spent += time.process_time() - began
        seen += rows
    return {"us": spent / seen * 1e6, "peak_mb": (peak_memory_bytes(os.getpid()) - before) / 1e6}


class _Ids(NullObjects):
    """`ids/` in memory."""

    def __init__(self) -> None:
        self.stored: dict[str, bytes] = {}

    def put_if_absent(self, key: str, body: bytes | memoryview, digest: str) -> str | None:
        del digest
        self.stored[key] = bytes(body)
        return None

    def get(self, key: str) -> bytes:
        return self.stored[key]


class _Ledger(NullLedger):
    """Knows some committed segments."""

    def __init__(self, count: int, rows: int) -> None:
        self._segments = [_segment(ordinal, rows) for ordinal in range(count, 0, -1)]

    def recent(self, lineage: str, since_us: int) -> list[Segment]:
        del lineage, since_us
        return self._segments


def _segment(ordinal: int, rows: int) -> Segment:
    counts = Counts(1, rows, rows, 0, 0, 0, 1, 1)
    return Segment(
        "0001", ordinal, "committed", None, Position("1", 0), "", counts, (), "", 0, ordinal, ordinal
    )


def _window(
    objects: Objects, ledger: _Ledger, each: Callable[[Callable[[Any], None], Iterable[Any]], Any], ids: int
) -> DuplicateWindow:
    ports = WritePorts(
        ledger,
        objects,
        NullManifest(),
        NullIndex(),
        NullAggregates(),
        SystemClock(),
        lambda _fact: None,
        each,
    )
    return DuplicateWindow(_LINEAGE, WindowLimits(max_ids=ids), ports)


def _read_back(objects: Objects, ids: int, rows: int) -> float:
    """Return the seconds that a worker needs until it can look up its first segment."""
    with ThreadPoolExecutor(_READERS) as pool:

        def each(call: Callable[[Any], None], items: Iterable[Any]) -> None:
            for _ in pool.map(call, items):
                pass

        window = _window(objects, _Ledger(ids // rows, rows), each, ids)
        began = time.perf_counter()
        repeated = window.flags(next(_segments(rows, rows)), 0)
        seconds = time.perf_counter() - began
    if not repeated.all():  # the first segment's own ids
        raise AssertionError("the window was not read back")
    return seconds


def _restart(ids: int, rows: int) -> dict[str, float]:
    from tests.aws.backends import Aws, ministack  # `fill` must not carry it

    kept = _Ids()
    with tempfile.TemporaryDirectory() as folder, ministack(Path(folder)) as endpoint:
        remote = Aws("ministack", endpoint).objects()
        for ordinal, part in enumerate(_segments(ids, rows), 1):
            body = encode_ids(part)
            for store in (kept, remote):
                store.put_if_absent(ids_key("0001", ordinal), body, "")
        pure = _read_back(kept, ids, rows)
        kept.stored.clear()
        before = memory_bytes(os.getpid())
        s3 = _read_back(remote, ids, rows)
    return {"pure": pure, "s3": s3, "peak_mb": (peak_memory_bytes(os.getpid()) - before) / 1e6}


if __name__ == "__main__":
    mode, ids, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    print(json.dumps((_fill if mode == "fill" else _restart)(ids, rows)))
