"""Accepted rows in the order of their data files, as integers: what manifest, index and aggregates are made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.manifest import TenantRows

I64 = npt.NDArray[np.int64]
U64 = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]


class Words(NamedTuple):
    """The strings that the codes of `Filed` stand for, each list sorted."""

    tenants: Sequence[str]
    entities: Sequence[str]
    sources: Sequence[str]


class FileRange(NamedTuple):
    """One data file: its tier, the day in its key, and which rows [first, last) it holds."""

    tier: str
    day: str
    first: int
    last: int


@dataclass(frozen=True)
class Filed:
    """Rows of one event type, file after file; inside a file by (tenant, entity, event time).

    `tenants`, `entities`, `sources` are codes into `Words`; `times` are microseconds since the epoch.
    """

    event_type: str
    files: tuple[FileRange, ...]
    tenants: I64
    entities: I64
    sources: I64
    times: I64
    duplicate: Flags

    def take(self, rows: I64 | slice) -> "Filed":
        """Return some of the rows, as of no type and in no file yet."""
        return Filed(
            event_type="",
            files=(),
            tenants=self.tenants[rows],
            entities=self.entities[rows],
            sources=self.sources[rows],
            times=self.times[rows],
            duplicate=self.duplicate[rows],
        )


def times_of(rows: pa.Table) -> I64:
    """Return event times in microseconds since the epoch."""
    return np.asarray(rows.column("event_time").cast(pa.int64()).to_numpy(), dtype=np.int64)


def in_codes(table: pa.Table, duplicate: Flags) -> tuple[Filed, Words]:
    """Return rows as integers, in their order; of no type and in no file yet.

    Args:
        table: columns tenant_id, entity_id, source and event_time.
        duplicate: aligned with it.
    """
    tenants, tenant_words = coded(table.column("tenant_id"))
    entities, entity_words = coded(table.column("entity_id"))
    sources, source_words = coded(table.column("source"))
    rows = Filed("", (), tenants, entities, sources, times_of(table), duplicate)
    return rows, Words(tenant_words, entity_words, source_words)


def tenant_rows(rows: Filed, words: Words) -> tuple[TenantRows, ...]:
    """Return each tenant's run of rows in a file that holds `rows`."""
    return tuple(
        TenantRows(
            words.tenants[int(rows.tenants[first])],
            first,
            last - first,
            int(rows.duplicate[first:last].sum()),
        )
        for first, last in (runs(rows.tenants) if len(rows.tenants) else ())
    )


def coded(column: pa.ChunkedArray) -> tuple[I64, list[str]]:
    """Return a string column as ranks, and its sorted distinct words: strings become comparable integers."""
    codes = pc.dictionary_encode(column).combine_chunks()
    words = codes.dictionary.to_pylist()
    order = sorted(range(len(words)), key=words.__getitem__)
    ranks = np.empty(len(words), dtype=np.int64)
    ranks[order] = np.arange(len(words))
    return np.asarray(ranks[codes.indices.to_numpy()], dtype=np.int64), [words[index] for index in order]


def runs(*keys: npt.NDArray[np.generic]) -> list[tuple[int, int]]:
    """Return [first, last) of each run of rows that are equal in all keys."""
    return list(pairwise(edges(*keys).tolist()))


def edges(*keys: npt.NDArray[np.generic]) -> I64:
    """Return where runs begin, and the number of rows at the end."""
    rows = len(keys[0])
    changed = np.zeros(max(rows - 1, 0), dtype=np.bool_)
    for key in keys:
        changed |= key[1:] != key[:-1]
    inner = np.flatnonzero(changed) + 1
    return np.concatenate([np.zeros(1, dtype=np.int64), inner, np.array([rows], dtype=np.int64)])
