"""Entity and day: how many events, which (an order-independent hash), and a few of their ids.

The hash: BLAKE2b, 128 bits, of each row's event type, event time, data bytes and event id; the two 64-bit halves summed
modulo 2^64 over the rows. Equal rows give an equal hash, whatever their order, files or chunks.
"""

import hashlib
from itertools import pairwise

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.days import DAY_US, day_of
from pipeline.core.filed import I64, U64, Flags, edges, times_of

SAMPLES = 5
COLUMNS = ("entity_id", "event_id", "event_time", "is_duplicate", "data_json")
_COMPACT_ROWS = 100_000  # candidates for samples that are held before they are thinned out


class EntityDay(msgspec.Struct, frozen=True):
    """One row of table `entity_days`.

    Attributes:
        scope: which of the entity's events it speaks of (`core.replay.scope_of`).
        events: counted and hashed; `duplicates` of them are flagged.
        inputs_hash: 32 hex digits.
        sample_ids: of the least events by (event time, event id).
        basis: how many segments were committed when this was true; a row gives way to an equal or newer basis.
        job: that wrote it.
    """

    tenant_id: str
    entity_id: str
    dt: str
    scope: str
    events: int
    duplicates: int
    inputs_hash: str
    sample_ids: tuple[str, ...]
    first_event_time_us: int
    last_event_time_us: int
    basis: int
    job: str


class EntityDayFold:
    """Folds rows, file by file, into one result per entity and day; memory grows with those, not with rows."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, int], int] = {}
        self._sums: U64 = np.zeros((4, 0), dtype=np.uint64)  # events, duplicates, high, low
        self._times: I64 = np.zeros((2, 0), dtype=np.int64)  # first, last
        self._samples: list[pa.Table] = []
        self._held = self._kept = 0

    def add(self, event_type: str, rows: pa.Table) -> None:
        """Add rows of one type and file, sorted by entity and event time; columns: COLUMNS."""
        if not rows.num_rows:
            return
        rows = rows.select(COLUMNS).combine_chunks()
        times, entities = times_of(rows), rows.column("entity_id").combine_chunks()
        bounds = edges(_codes(entities), times // DAY_US)
        at, ends = bounds[:-1], bounds[1:] - 1
        names = entities.take(pa.array(at)).to_pylist()
        groups = self._number(list(zip(names, (times[at] // DAY_US).tolist(), strict=True)))
        high, low = row_hashes(event_type, rows)
        duplicate = rows.column("is_duplicate").to_numpy().astype(np.uint64)
        ones = np.ones(len(times), dtype=np.uint64)
        for total, values in zip(self._sums, (ones, duplicate, high, low), strict=True):
            np.add.at(total, groups, np.add.reduceat(values, at))
        np.minimum.at(self._times[0], groups, times[at])
        np.maximum.at(self._times[1], groups, times[ends])
        self._sample(rows, times, bounds, groups)

    def _number(self, names: list[tuple[str, int]]) -> I64:
        groups = self._groups
        found = np.array([groups.setdefault(name, len(groups)) for name in names], dtype=np.int64)
        lacking = len(groups) - self._sums.shape[1]
        if lacking > 0:
            room = lacking + len(groups) // 2  # grows by half, so that all growing together is linear
            self._sums = np.concatenate([self._sums, np.zeros((4, room), dtype=np.uint64)], axis=1)
            limits = np.array([[np.iinfo(np.int64).max], [np.iinfo(np.int64).min]])
            self._times = np.concatenate([self._times, np.repeat(limits, room, axis=1)], axis=1)
        return found

    def _sample(self, rows: pa.Table, times: I64, bounds: I64, groups: I64) -> None:
        """Keep what may be among the least of its group: the first rows of a run, and what ties with the last of them."""
        sizes = np.diff(bounds)
        starts = np.repeat(bounds[:-1], sizes)
        place = np.arange(len(times)) - starts
        fifth = np.minimum(starts + SAMPLES - 1, np.repeat(bounds[1:] - 1, sizes))
        chosen = np.flatnonzero((place < SAMPLES) | (times == times[fifth]))
        self._samples.append(
            pa.table(
                {
                    "group": np.repeat(groups, sizes)[chosen],
                    "time": times[chosen],
                    "id": rows.column("event_id").take(pa.array(chosen)),
                }
            )
        )
        self._held += len(chosen)
        if self._held > _COMPACT_ROWS + 2 * self._kept:
            self._thin()

    def _thin(self) -> None:
        """Leave the least SAMPLES of each group."""
        if not self._samples:
            return
        table = pa.concat_tables(self._samples)
        table = table.sort_by([("group", "ascending"), ("time", "ascending"), ("id", "ascending")])
        bounds = edges(table.column("group").to_numpy())
        place = np.arange(table.num_rows) - np.repeat(bounds[:-1], np.diff(bounds))
        kept = table.filter(pa.array(place < SAMPLES)).combine_chunks()
        self._samples, self._held, self._kept = [kept], kept.num_rows, kept.num_rows

    @property
    def events(self) -> int:
        """Return how many rows were added."""
        return int(self._sums[0].sum())

    def results(self, tenant_id: str, scope: str, basis: int, job: str) -> list[EntityDay]:
        """Return the rows of the table, by entity and day."""
        if not self._groups:
            return []
        self._thin()
        samples = self._samples[0]
        bounds = edges(samples.column("group").to_numpy()).tolist()
        ids = samples.column("id").to_pylist()
        sums, times = self._sums.tolist(), self._times.tolist()
        return [
            EntityDay(
                tenant_id,
                entity,
                day_of(day * DAY_US),
                scope,
                events=sums[0][group],
                duplicates=sums[1][group],
                inputs_hash=f"{sums[2][group]:016x}{sums[3][group]:016x}",
                sample_ids=tuple(ids[bounds[group] : bounds[group + 1]]),
                first_event_time_us=times[0][group],
                last_event_time_us=times[1][group],
                basis=basis,
                job=job,
            )
            for (entity, day), group in sorted(self._groups.items())
        ]


def _codes(values: pa.Array) -> I64:
    return np.asarray(values.dictionary_encode().indices.to_numpy(), dtype=np.int64)


def row_hashes(event_type: str, rows: pa.Table) -> tuple[U64, U64]:
    """Return each row's hash as two halves.

    Hashed is type, microseconds, data and event id, joined by zero bytes: only the last of them may hold one itself.
    """
    joined = pc.binary_join_element_wise(
        event_type,
        rows.column("event_time").cast(pa.int64()).cast(pa.string()),
        rows.column("data_json"),
        rows.column("event_id"),
        "\0",
    )
    blake, digests = hashlib.blake2b, []
    for part in joined.chunks:
        _, offsets, data = part.buffers()
        ends = np.frombuffer(offsets, dtype=np.int32)[part.offset : part.offset + len(part) + 1].tolist()
        view = memoryview(data)
        digests += [blake(view[a:b], digest_size=16).digest() for a, b in pairwise(ends)]
    halves = np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2)
    return np.ascontiguousarray(halves[:, 1]), np.ascontiguousarray(halves[:, 0])


def flagged_rows(rows: pa.Table, flags: Flags) -> pa.Table:
    """Return the rows that are flagged; all of them without a copy."""
    return rows if flags.all() else rows.filter(pa.array(flags))
