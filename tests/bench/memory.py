"""One loader over fake ports in a process of its own; prints its memory after each segment, and the peak, in MB."""

import os
import random
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline.startup import light

light()

from pipeline.config import load_settings  # noqa: E402 - after light()
from pipeline.core.segment import CutLimits, Lineage  # noqa: E402
from pipeline.core.staging import StagedObject  # noqa: E402
from pipeline.facts import Fact, SegmentCommitted  # noqa: E402
from pipeline.flows.load import Loader, LoadLimits  # noqa: E402
from pipeline.flows.window import WindowLimits  # noqa: E402
from pipeline.flows.write import WritePorts  # noqa: E402
from pipeline.machine.processes import peak_memory_bytes  # noqa: E402
from pipeline.ports.clock import SystemClock  # noqa: E402
from tests.bench.data import bench_rules, events, records  # noqa: E402
from tests.bench.null_ports import NullAggregates, NullIndex, NullLedger, NullManifest, NullObjects  # noqa: E402

_PAGE = 4096
_STEP = 8_000  # events made at a time, so that the input itself stays small


def memory_mb() -> float:
    """Return this process' resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE / 1e6


def main(count: int) -> None:
    """Load `count` events and print the memory."""

    def each(call: Callable[[StagedObject], None], items: Iterable[StagedObject]) -> None:
        for item in items:
            call(item)

    def say(fact: Fact) -> None:
        if isinstance(fact, SegmentCommitted):
            print(f"{memory_mb():.0f}")

    ports = WritePorts(
        NullLedger(), NullObjects(), NullManifest(), NullIndex(), NullAggregates(), SystemClock(), say, each
    )
    loader = Loader(
        Lineage("bench-0-shard", "0001", "bench", "shard"),
        bench_rules(load_settings().paths.schemas),
        LoadLimits(CutLimits(), WindowLimits()),
        ports,
    )
    loader.start()
    sequence = 0
    for seed in range(count // _STEP):
        batch = []
        for record in records(events(_STEP, seed=random.Random(seed).getrandbits(32))):
            sequence += 1
            number = f"{10**20 + sequence}"
            batch.append(type(record)(number, record.partition_key, record.data, record.arrived_us))
        loader.process(batch)
    print(peak_memory_bytes(os.getpid()) / 1e6)


if __name__ == "__main__":
    main(int(sys.argv[1]))
