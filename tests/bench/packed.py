"""Index and aggregates over a generated archive: 20 tenants, 10 sources, 5 types, 20,000 entities, 4 shards."""

import statistics
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np

from pipeline.core.aggregate import Aggregate, AggregateKey, apply, fold_rows
from pipeline.core.days import DAY_US, day_of
from pipeline.core.filed import Filed, FileRange, Words, runs
from pipeline.core.index import IndexItem, build_index, partitions_of, read_item
from pipeline.core.slots import entity_hash
from tests.bench.figure import Figure

TENANTS, SOURCES, TYPES, SHARDS = 20, 10, 5, 4
ENTITIES = 1_000  # of each tenant
SEGMENT_SECONDS = 60
START_US = 19_792 * DAY_US  # 2024-03-10
LOOK_UPS = 400
WRITE_UNIT = 1_024
WORDS = Words(
    [f"tenant-{number:02}" for number in range(TENANTS)],
    [f"device-{number:05}" for number in range(TENANTS * ENTITIES)],
    [f"site-{number}" for number in range(SOURCES)],
)


class Segment(NamedTuple):
    """One generated segment: its lineage, ordinal and rows."""

    lineage: str
    ordinal: int
    filed: list[Filed]
    rows: int


class Store:
    """An index in memory that is searched as DynamoDB is: by partition, then by a range of names."""

    def __init__(self) -> None:
        self._items: dict[str, list[tuple[str, IndexItem]]] = defaultdict(list)

    def add(self, items: Sequence[IndexItem]) -> None:
        """Take items."""
        for item in items:
            self._items[item.partition].append((item.name, item))

    def sort(self) -> None:
        """Call when all are there."""
        for found in self._items.values():
            found.sort()

    def find(self, partitions: Sequence[str], first_dt: str, last_dt: str) -> list[IndexItem]:
        """Return the items of some partitions and days."""
        return [
            item
            for partition in partitions
            for _, item in _between(self._items.get(partition, []), first_dt, last_dt + "~")
        ]


def _between(items: list[tuple[str, IndexItem]], first: str, last: str) -> list[tuple[str, IndexItem]]:
    begin = bisect_left(items, first, key=itemgetter(0))
    return items[begin : bisect_left(items, last, key=itemgetter(0))]


def generate(events: int, per_second: int) -> Iterator[Segment]:
    """Yield segments of a minute, shard by shard; an entity stays in its shard, as slots have it."""
    chance = np.random.default_rng(11)
    owners = np.repeat(np.arange(TENANTS), ENTITIES)
    hashes = [
        entity_hash(WORDS.tenants[owner], WORDS.entities[at]) for at, owner in enumerate(owners.tolist())
    ]
    shards = np.array([value * SHARDS >> 64 for value in hashes])
    rows = per_second * SEGMENT_SECONDS // SHARDS
    for number in range(events // rows):
        shard, ordinal = number % SHARDS, number // SHARDS + 1
        picked = chance.choice(np.flatnonzero(shards == shard), rows)
        begin = START_US + (ordinal - 1) * SEGMENT_SECONDS * 1_000_000
        times = begin + chance.integers(0, SEGMENT_SECONDS * 1_000_000, rows)
        kinds, sources = chance.integers(0, TYPES, rows), chance.integers(0, SOURCES, rows)
        duplicate = chance.random(rows) < 0.001
        filed = []
        for kind in range(TYPES):
            of_kind = np.flatnonzero(kinds == kind)
            order = of_kind[np.lexsort((times[of_kind], picked[of_kind], times[of_kind] // DAY_US))]
            days = times[order] // DAY_US
            files = tuple(FileRange("open", day_of(int(times[order][a])), a, b) for a, b in runs(days))
            columns = (owners[picked[order]], picked[order], sources[order], times[order], duplicate[order])
            filed.append(Filed(f"type.{kind}", files, *columns))
        yield Segment(f"{shard + 1:04}", ordinal, filed, rows)


class _Run:
    """What building index and aggregates of an archive comes to."""

    def __init__(self, events: int, per_second: int) -> None:
        self.store, self.last_dt = Store(), ""
        self.events = self.index_units = self.index_items = self.index_bytes = 0
        self.aggregate_writes = self.files = self.segments = 0
        self.seconds = 0.0
        totals: dict[AggregateKey, Aggregate] = {}
        for segment in generate(events, per_second):
            began = time.process_time()
            items = build_index(segment.filed, WORDS, f"{segment.lineage}#{segment.ordinal:012d}")
            after = apply(totals, fold_rows(segment.filed, WORDS, segment.lineage), segment.ordinal)
            self.seconds += time.process_time() - began
            totals |= {one.key: one for one in after}
            self.store.add(items)
            sizes = [_item_bytes(item) for item in items]
            self.events += segment.rows
            self.segments += 1
            self.index_items += len(items)
            self.index_bytes += sum(sizes)
            self.index_units += sum(-(-size // WRITE_UNIT) for size in sizes)
            self.aggregate_writes += len(after)
            self.files += sum(len(one.files) for one in segment.filed)
        self.store.sort()


def _item_bytes(item: IndexItem) -> int:
    """Return an item's size as DynamoDB counts it: names and values."""
    return len("partitionnamebody") + len(item.partition) + len(item.name) + len(item.body)


def packed(count: int, rounds: int) -> list[Figure]:
    """Index and aggregates of a generated archive: cost of building, of writing, of one look-up."""
    del rounds
    return [
        *_figures(count, 4_000, "1,000 events/s a shard"),
        *_figures(count // 2, 1_000, "1,000 events/s in all"),
    ]


def _figures(count: int, per_second: int, label: str) -> list[Figure]:
    run = _Run(count, per_second)
    ledger = 7 * run.segments  # plan: a put and two checks in one transaction, two units each; commit: one
    manifest = run.files  # one unit each
    units = run.index_units + _group_cost(run) + manifest + ledger
    puts = run.files + 2 * run.segments  # ids and staging
    seconds, found = _look_up(run.store)
    minutes = count / per_second / 60
    day_bytes = statistics.mean(found) / minutes * 1_440
    return [
        Figure(f"index and aggregates, {label}", run.seconds / run.events * 1e6, "us/event", "<= 1"),
        Figure("  index item", run.index_bytes / run.index_items, "bytes", "about 1 KB"),
        Figure("  write units", units / run.events, "/event", "<= 0.1"),
        Figure("  of these for the index", run.index_units / run.events, "/event"),
        Figure("  S3 puts", puts / run.events * 1e6, "/million events", "<= 250"),
        Figure(f"  look-up of one entity in {run.events:,} events, median", _at(seconds, 50), "ms"),
        Figure("  look-up of one entity, p99", _at(seconds, 99), "ms", "< 50"),
        Figure("  index read by a look-up in a whole open day", day_bytes / 2**20, "MiB", "<= 2"),
    ]


def _group_cost(run: _Run) -> int:
    """Return the write units of the aggregates: more than a hundred of a segment go in transactions, twice each."""
    each = run.aggregate_writes / run.segments
    return run.aggregate_writes * (2 if each > 100 else 1)


def _look_up(store: Store) -> tuple[list[float], list[int]]:
    """Look entities up; return the milliseconds and the bytes of items of each."""
    chance = np.random.default_rng(5)
    seconds, sizes = [], []
    for code in chance.integers(0, TENANTS * ENTITIES, LOOK_UPS).tolist():
        tenant_id, entity_id = WORDS.tenants[code // ENTITIES], WORDS.entities[code]
        began = time.perf_counter()
        items = store.find(partitions_of(tenant_id, entity_id), "2024-03-10", "2024-03-11")
        entries = [entry for item in items for entry in read_item(item, entity_id)]
        seconds.append((time.perf_counter() - began) * 1e3)
        sizes.append(sum(map(_item_bytes, items)))
        if any(entry.entity_id != entity_id for entry in entries):
            raise AssertionError("an entry of another entity")
    return seconds, sizes


def _at(values: Sequence[float], percent: int) -> float:
    return float(np.percentile(values, percent))
