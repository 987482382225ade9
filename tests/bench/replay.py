"""Replay: planning a job, and folding its rows, over ports in memory."""

from collections.abc import Callable
from hashlib import blake2b

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.config import load_settings
from pipeline.core.replay import Selection
from tests.bench.data import SOURCES, TENANTS, bench_rules, events, records
from tests.bench.figure import Figure, paired
from tests.flows.replaying import Yard

REPLAY_FILES = 10
REPLAY_TENANT = TENANTS[0]


def _replay_yard(count: int) -> Yard:
    """Return an archive of one tenant, one type and ten segments, in memory."""
    yard = Yard()
    rules, wire = bench_rules(load_settings().paths.schemas), records(events(count, tenants=(REPLAY_TENANT,)))
    size = -(-len(wire) // REPLAY_FILES)
    for start in range(0, len(wire), size):
        loader = yard.loader(judged_by=rules)
        loader.start()
        loader.process(wire[start : start + size])
        loader.cut("bench")
    return yard


def replay(count: int, rounds: int) -> list[Figure]:
    """A replay job over ports in memory: planning it, and folding its rows by entity and day."""
    yard, selection = _replay_yard(count), Selection(REPLAY_TENANT, event_type="order.placed")
    from_shop = msgspec.structs.replace(selection, source=SOURCES[0])
    hashing = _hashes_of(yard)

    def process() -> None:
        yard.start(selection)
        yard.processor().run(drain=True)

    whole, some, ratio = paired(lambda: yard.plan(selection), lambda: yard.plan(from_shop), rounds)
    work, hashed, share = paired(process, hashing, rounds)
    if yard.jobs.newest()[0].done_events != count:
        raise AssertionError("the job is not done")
    return [
        Figure("replay plan, from the manifest", count / whole, "events/s/core", ">= 1,000,000"),
        Figure("replay plan by source, rows read", count / some, "events/s/core", ">= 1,000,000"),
        Figure("replay plan, manifest / rows read", ratio, "x"),
        Figure("replay processor, aggregate", count / work, "rows/s/core", ">= 300,000"),
        Figure("replay processor / hashing alone", share, "x"),
        Figure("row hash", hashed / count * 1e6, "us/event"),
    ]


def _hashes_of(yard: Yard) -> Callable[[], object]:
    """Return a work that only hashes what the job's rows hold: the least that any processor must do."""
    held = [
        bytes(data, "utf-8")
        for key, stored in yard.objects.stored.items()
        if key.startswith("events/")
        for data in pq.ParquetFile(pa.BufferReader(stored.body)).read(["data_json"])["data_json"].to_pylist()
    ]
    return lambda: [blake2b(one, digest_size=16).digest() for one in held]
