"""Planning a replay job: which rows it means, exactly, and what it will cost. Reads; changes nothing.

1. ledger: the seal state and the newest committed segment of each lineage, as one moment saw them (`flows.replay_basis`);
   later segments are not in the job
2. index (an entity) or manifest (a type): candidates, by pointers
3. rows, only where those cannot answer: a source, a window that cuts a pointer, late files, the limit's last pointer
4. chunks, figures
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from itertools import compress
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.core.errors import Corrupt
from pipeline.core.find import Run, entity_runs, file_runs, partitions_to_ask
from pipeline.core.index import IndexItem, Pointer, partitions_of
from pipeline.core.keys import data_place
from pipeline.core.manifest import DataFile, partition_name
from pipeline.core.replay import (
    Granularity,
    Part,
    PlannedChunk,
    Selection,
    check,
    chunks_of,
    cut,
    in_order,
    up_to_limit,
    weigh,
    whole,
)
from pipeline.core.tiers import LATE
from pipeline.facts import FactSink
from pipeline.flows.replay_basis import Snapshot, snapshot
from pipeline.flows.replay_rows import RowsGone, read_pointers
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.index import EntityIndex
from pipeline.ports.ledger import Ledger
from pipeline.ports.manifest import Manifest
from pipeline.ports.reading import Each, ReadRows

QUEUE_BATCH = 10  # messages of one SQS request
# us-east-1, without the free tier, as published in March 2026: aws.amazon.com/sqs/pricing, aws.amazon.com/s3/pricing
DOLLARS_PER_SQS_REQUEST = 0.40 / 1e6
DOLLARS_PER_S3_GET = 0.0004 / 1e3
DOLLARS_PER_WRITE_UNIT = 0.625 / 1e6  # DynamoDB on demand: aws.amazon.com/dynamodb/pricing/on-demand


@dataclass(frozen=True)
class PlanPorts:
    """What planning reads."""

    ledger: Ledger
    manifest: Manifest
    index: EntityIndex
    read: ReadRows
    each: Each
    clock: Clock
    facts: FactSink


@dataclass(frozen=True)
class Plan:
    """What a job would be. All figures are exact, save `bytes`, `gets`, `writes` and the dollars."""

    selection: Selection
    granularity: Granularity
    basis: int
    chunks: tuple[PlannedChunk, ...]
    bytes: int
    first_us: int | None
    last_us: int | None

    @property
    def events(self) -> int:
        """Return how many events it replays."""
        return sum(chunk.events for chunk in self.chunks)

    @property
    def rows(self) -> int:
        """Return how many rows its pointers cover."""
        return sum(pointer.rows for chunk in self.chunks for pointer in chunk.pointers)

    @property
    def messages(self) -> int:
        """Return how many messages it sends."""
        return sum(messages_of(chunk, self.granularity) for chunk in self.chunks)

    @property
    def gets(self) -> int:
        """Return about how many GETs it takes: one a file and chunk (files of a MiB or less), and again to name events."""
        files = sum(len({one.key for one in chunk.pointers}) for chunk in self.chunks)
        return files * (2 if self.granularity == "event" else 1)

    @property
    def queue_requests(self) -> int:
        """Return about how many requests of SQS it takes: each message is sent, received and deleted, in tens."""
        return 3 * -(-self.messages // QUEUE_BATCH)

    @property
    def writes(self) -> int:
        """Return at most how many write units of DynamoDB its results take: two each, as in groups.

        An entity has one result a day; of a type every event may be of another entity.
        """
        if self.selection.entity_id is None:
            return 2 * self.events
        days = [
            (date.fromisoformat(one.last_dt) - date.fromisoformat(one.first_dt)).days + 1
            for one in self.chunks
        ]
        return 2 * sum(min(one.events, count) for one, count in zip(self.chunks, days, strict=True))

    @property
    def dollars(self) -> float:
        """Return about what these requests cost, with as many results as there may be."""
        requests = self.queue_requests * DOLLARS_PER_SQS_REQUEST + self.gets * DOLLARS_PER_S3_GET
        return requests + self.writes * DOLLARS_PER_WRITE_UNIT


class _Found(NamedTuple):
    """Candidates, and the bytes that a row of each file takes, where the manifest was asked."""

    runs: list[Run]
    row_bytes: dict[str, float]


def messages_of(chunk: PlannedChunk, granularity: Granularity) -> int:
    """Return how many messages a chunk has."""
    return chunk.events if granularity == "event" else len(chunk.pointers)


def plan(selection: Selection, ports: PlanPorts, granularity: Granularity = "pointer") -> Plan:
    """Return what a job of this selection would be now.

    Raises:
        ConfigProblem: the selection makes no sense.
        Corrupt: a data file that the manifest names is gone or unreadable.
        Transient: try again.
    """
    check(selection)
    seen = snapshot(ports.ledger, ports.each, ports.clock, ports.facts)
    found = (_of_type if selection.entity_id is None else _of_entity)(selection, seen, ports)
    parts = in_order(part for part in _exact(found.runs, selection, ports) if part.events)
    if selection.limit is not None:
        parts = _limited(parts, selection, ports)
    first_us = _extreme(parts, selection, ports, first=True)
    last_us = _extreme(parts, selection, ports, first=False)
    chunks = tuple(chunks_of(parts, by_day=selection.entity_id is None))
    size = _bytes(parts, found, selection, ports)
    return Plan(selection, granularity, seen.basis, chunks, size, first_us, last_us)


def _ask(ports: PlanPorts, name: str, call: Callable[[], Any]) -> Any:
    return again(name, call, clock=ports.clock, facts=ports.facts)


def _of_entity(selection: Selection, seen: Snapshot, ports: PlanPorts) -> _Found:
    span, entity = selection.span, selection.entity_id
    if entity is None:
        raise TypeError("no entity")
    partitions = partitions_of(selection.tenant_id, entity)
    items: list[IndexItem] = _ask(
        ports, "index", lambda: ports.index.find(partitions, span.first_dt, span.last_dt)
    )
    held = [one for one in items if seen.holds(one.segment)]
    runs = entity_runs(selection.tenant_id, entity, held, seen.seal, span)
    return _Found([run for run in runs if selection.event_type in {None, run.event_type}], {})


def _of_type(selection: Selection, seen: Snapshot, ports: PlanPorts) -> _Found:
    span, event_type = selection.span, selection.event_type or ""
    listed = _ask(ports, "partitions", ports.manifest.partitions)
    names = partitions_to_ask(listed, [event_type], seen.seal, span)
    files: list[DataFile] = _ask(ports, "files", partial(ports.manifest.files, *names))
    held = [one for one in files if seen.holds(one.segment)]
    runs = file_runs(selection.tenant_id, held, seen.seal, span)
    return _Found(runs, {one.key: one.bytes / max(one.rows, 1) for one in held})


def _exact(found: Sequence[Run], selection: Selection, ports: PlanPorts) -> Iterator[Part]:
    """Yield parts that hold nothing but what the selection's span takes, their events counted."""

    def read(run: Run) -> list[Part]:
        return weigh(run, _rows(run.pointer, selection, ports), selection)

    known = [_is_known(run, selection) for run in found]
    yield from (whole(run, selection) for run in compress(found, known))
    for weighed in ports.each(read, [run for run, sure in zip(found, known, strict=True) if not sure]):
        yield from weighed


def _is_known(run: Run, selection: Selection) -> bool:
    """True when no rows need be read: the span takes all of a run, which is of one day.

    So is what the index names, and a file of the open tier. A late file has rows of many days.
    """
    if selection.source is not None or not selection.span.covers(run.from_us, run.until_us):
        return False
    place = data_place(run.key)
    return run.entity_id is not None or place is None or place.tier != LATE


def _rows(pointer: Pointer, selection: Selection, ports: PlanPorts) -> pa.Table:
    read = partial(read_pointers, selection, [pointer], [], ports.read, "the archive")
    try:
        return _ask(ports, "rows", read)
    except RowsGone as exc:
        raise Corrupt(str(exc)) from exc


def _limited(parts: list[Part], selection: Selection, ports: PlanPorts) -> list[Part]:
    kept, left = up_to_limit(parts, selection.limit or 0)
    if left:
        last = parts[len(kept)]
        kept.append(cut(last, _rows(last.pointer, selection, ports), selection, left))
    return kept


def _extreme(parts: Sequence[Part], selection: Selection, ports: PlanPorts, *, first: bool) -> int | None:
    """Return the first or last event time; rows are read only of parts that may hold it."""
    sign = 1 if first else -1
    best: int | None = None
    for part in sorted(parts, key=lambda one: sign * (one.low_us if first else one.high_us)):
        bound = part.low_us if first else part.high_us
        if best is not None and sign * bound >= sign * best:
            break
        exact = [part] if part.exact else weigh(part, _rows(part.pointer, selection, ports), selection)
        for one in exact:
            value = one.low_us if first else one.high_us
            best = value if best is None or sign * value < sign * best else best
    return best


def _bytes(parts: Sequence[Part], found: _Found, selection: Selection, ports: PlanPorts) -> int:
    """Estimate the bytes of data files that hold these rows.

    The manifest knows them by file. The index does not: there the files of the busiest day stand for all.
    """
    if not parts:
        return 0
    if selection.entity_id is None:
        return round(sum(found.row_bytes[one.pointer.key] * one.pointer.rows for one in parts))
    days = Counter[str]()
    for one in parts:
        days[partition_name(one.event_type, one.dt)] += one.pointer.rows
    busiest = days.most_common(1)[0][0]
    files: list[DataFile] = _ask(ports, "files", lambda: ports.manifest.files(busiest))
    rows = sum(one.rows for one in files)
    mean = sum(one.bytes for one in files) / rows if rows else 0.0
    return round(mean * sum(days.values()))
