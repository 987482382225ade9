"""Where a tenant's rows are: runs of rows out of the index or the manifest, and what of them is asked for.

A tenant sees its own rows only: every function takes the tenant first, and rows that were read are held against it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.core.days import DAY_US, SECOND_US
from pipeline.core.errors import Corrupt
from pipeline.core.filed import Flags, times_of
from pipeline.core.index import IndexItem, Pointer, read_item
from pipeline.core.manifest import DataFile
from pipeline.core.segment import SealState
from pipeline.core.span import Span
from pipeline.core.tiers import visible

OWNERS = ("tenant_id", "entity_id")  # always read: what a run is held against


@dataclass(frozen=True)
class Run:
    """Rows of one tenant (and, out of the index, of one entity) that lie together in one data file.

    Every row's event time lies in [from_us, until_us). `named_by` is the item that says so, for a message.
    """

    event_type: str
    key: str
    first_row: int
    rows: int
    duplicates: int
    from_us: int
    until_us: int
    named_by: str
    entity_id: str | None = None

    @property
    def pointer(self) -> Pointer:
        """Return where the rows are."""
        return Pointer(self.key, self.first_row, self.rows)

    def events(self, *, duplicates: bool) -> int:
        """Return how many rows count."""
        return self.rows if duplicates else self.rows - self.duplicates


def entity_runs(
    tenant_id: str, entity_id: str, items: Iterable[IndexItem], seal: SealState, span: Span
) -> list[Run]:
    """Return the runs of an entity that may have rows in a span, in the order of time.

    Args:
        tenant_id: whose; items of anybody else are passed over.
        entity_id: which entity.
        items: what lies in its partitions.
        seal: as the reader saw it before it read the items.
        span: of event time.

    Raises:
        Corrupt: an item cannot be read.
    """
    runs = []
    for item in items:
        if item.partition.partition("#")[0] != tenant_id:
            continue
        named_by = f"index item {item.partition} {item.name}"
        for entry in read_item(item, entity_id):
            until_us = (entry.last_second + 1) * SECOND_US
            if visible(entry.tier, entry.dt, seal):
                run = Run(
                    entry.event_type,
                    entry.pointer.key,
                    entry.pointer.first_row,
                    entry.pointer.rows,
                    entry.duplicates,
                    entry.first_second * SECOND_US,
                    until_us,
                    named_by,
                    entity_id,
                )
                runs += [run] if span.meets(run.from_us, run.until_us) else []
    return in_time(runs)


def file_runs(tenant_id: str, files: Iterable[DataFile], seal: SealState, span: Span) -> list[Run]:
    """Return the runs of a tenant in data files that may have rows in a span, in the order of time."""
    runs = []
    for file in files:
        held, tier = file.rows_of(tenant_id), file.name.split("#", 1)[0]
        event_type, _, dt = file.partition.rpartition("#")
        from_us, until_us = file.min_event_time_us, file.max_event_time_us + 1
        if held is not None and visible(tier, dt, seal) and span.meets(from_us, until_us):
            named_by = f"manifest entry {file.partition} {file.name}"
            place = (file.key, held.first_row, held.rows, held.duplicates)
            runs.append(Run(event_type, *place, from_us, until_us, named_by))
    return in_time(runs)


def in_time(runs: Iterable[Run]) -> list[Run]:
    """Sort runs by where they begin; the order of those that begin together is always the same."""
    return sorted(runs, key=lambda one: (one.from_us, one.key, one.first_row))


def partitions_to_ask(
    partitions: Iterable[str], event_types: Sequence[str] | None, seal: SealState, span: Span
) -> list[str]:
    """Return the manifest's partitions that may hold rows of some types (None: of all) and a span.

    The open tier is filed by event day. The late tier is filed by arrival day, which says little of event days: where
    the span has a day that is sealed, all days of a type are asked.
    """
    every_day = span.first_dt <= seal.sealing_to
    return [
        name
        for name in partitions
        if (event_types is None or name.rpartition("#")[0] in event_types)
        and not name.startswith("_")
        and (every_day or span.first_dt <= name.rpartition("#")[2] <= span.last_dt)
    ]


def check_owner(tenant_id: str, run: Run, table: pa.Table) -> None:
    """Hold rows that were read against whose they are said to be.

    Raises:
        Corrupt: one is of another tenant or entity. The message does not say which.
    """
    wanted = {"tenant_id": tenant_id} | ({"entity_id": run.entity_id} if run.entity_id is not None else {})
    for name, owner in wanted.items():
        same = pc.equal(table.column(name), owner)
        if table.num_rows != run.rows or not pc.all(same, min_count=0).as_py():
            raise Corrupt(
                f"{run.named_by} points at rows {run.first_row} to {run.first_row + run.rows - 1} of {run.key}, and "
                f"not all of them are of the {name.removesuffix('_id')} it names: run `headrace audit`"
            )


def chosen_rows(
    tenant_id: str, table: pa.Table, span: Span, source: str | None, *, duplicates: bool = True
) -> Flags:
    """Return which rows of a table are a tenant's, lie in a span and are of a source (None: of any).

    Needs the columns tenant_id and event_time, source where one is given, and is_duplicate where duplicates are not
    wanted.
    """
    times = times_of(table)
    chosen: Flags = (times >= span.from_us) & (times < span.until_us)
    chosen &= _equal(table, "tenant_id", tenant_id)
    if source is not None:
        chosen &= _equal(table, "source", source)
    if not duplicates:
        chosen &= ~table.column("is_duplicate").to_numpy()
    return chosen


def _equal(table: pa.Table, name: str, value: str) -> Flags:
    found: Flags = pc.equal(table.column(name), value).to_numpy()
    return found


def day_span(dt: str) -> Span:
    """Return the span of one day."""
    begin = int(np.datetime64(dt, "us").astype(np.int64))
    return Span(begin, begin + DAY_US)
