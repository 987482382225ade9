"""Planning a replay job: which rows it means, exactly, and what it will cost. Reads; changes nothing.

1. ledger: the seal state and the newest committed segment of each lineage, as one moment saw them (`flows.replay_basis`);
   later segments are not in the job
2. index (an entity) or manifest (a type): candidates, by pointers
3. rows, only where those cannot answer: a source, a window that cuts a pointer, late files, the limit's last pointer
4. chunks, figures
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.core.days import SECOND_US
from pipeline.core.errors import Corrupt
from pipeline.core.index import IndexItem, Pointer, partitions_of, read_item
from pipeline.core.manifest import DataFile, partition_name
from pipeline.core.replay import (
    Granularity,
    PlannedChunk,
    Run,
    Selection,
    check,
    chunks_of,
    cut,
    in_order,
    up_to_limit,
    weigh,
)
from pipeline.core.tiers import LATE, visible
from pipeline.facts import FactSink
from pipeline.flows.replay_basis import Snapshot, snapshot
from pipeline.flows.replay_rows import ReadRows, RowsGone, read_pointers
from pipeline.flows.retrying import again
from pipeline.ports.clock import Clock
from pipeline.ports.index import EntityIndex
from pipeline.ports.ledger import Ledger
from pipeline.ports.manifest import Manifest

QUEUE_BATCH = 10  # messages of one SQS request
# us-east-1, without the free tier, as published in March 2026: aws.amazon.com/sqs/pricing, aws.amazon.com/s3/pricing
DOLLARS_PER_SQS_REQUEST = 0.40 / 1e6
DOLLARS_PER_S3_GET = 0.0004 / 1e3
DOLLARS_PER_WRITE_UNIT = 0.625 / 1e6  # DynamoDB on demand: aws.amazon.com/dynamodb/pricing/on-demand


@dataclass(frozen=True)
class PlanPorts:
    """What planning reads. `each` maps a function over items, in order, several at once if it likes."""

    ledger: Ledger
    manifest: Manifest
    index: EntityIndex
    read: ReadRows
    each: Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
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


class _Candidate(NamedTuple):
    run: Run
    known: bool  # its rows need not be read
    bytes: int


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
    found = list((_of_type if selection.entity_id is None else _of_entity)(selection, seen, ports))
    runs = in_order(run for run in _exact(found, selection, ports) if run.events)
    if selection.limit is not None:
        runs = _limited(runs, selection, ports)
    first_us = _extreme(runs, selection, ports, first=True)
    last_us = _extreme(runs, selection, ports, first=False)
    chunks = tuple(chunks_of(runs, by_day=selection.entity_id is None))
    size = _bytes(runs, found, selection, ports)
    return Plan(selection, granularity, seen.basis, chunks, size, first_us, last_us)


def _ask(ports: PlanPorts, name: str, call: Callable[[], Any]) -> Any:
    return again(name, call, clock=ports.clock, facts=ports.facts)


def _of_entity(selection: Selection, seen: Snapshot, ports: PlanPorts) -> Iterator[_Candidate]:
    span, entity = selection.span, selection.entity_id
    if entity is None:
        raise TypeError("no entity")
    partitions = partitions_of(selection.tenant_id, entity)
    items: list[IndexItem] = _ask(
        ports, "index", lambda: ports.index.find(partitions, span.first_dt, span.last_dt)
    )
    for item in items:
        dt, tier, writer = item.name.split("#", 2)
        writer = "#".join(writer.split("#")[:2])  # without the part's number
        if not seen.holds(writer) or not visible(tier, dt, seen.seal):
            continue
        for one in read_item(item, entity):
            if selection.event_type not in (None, one.event_type):
                continue
            low, high = one.first_second * SECOND_US, (one.last_second + 1) * SECOND_US
            if not span.meets(low, high):
                continue
            left_out = 0 if selection.include_duplicates else one.duplicates
            run = Run(dt, one.event_type, one.pointer, one.pointer.rows - left_out, low, high - 1)
            yield _Candidate(run, selection.source is None and span.covers(low, high), 0)


def _of_type(selection: Selection, seen: Snapshot, ports: PlanPorts) -> Iterator[_Candidate]:
    span = selection.span
    late = span.first_dt <= seen.seal.sealing_to  # then a file of any arrival day may hold rows of ours
    names = _ask(ports, "partitions", ports.manifest.partitions)
    wanted = [
        name
        for name, event_type, dt in ((name, *name.rsplit("#", 1)) for name in names)
        if event_type == selection.event_type and (late or span.first_dt <= dt <= span.last_dt)
    ]
    files: list[DataFile] = _ask(ports, "files", partial(ports.manifest.files, *wanted))
    for one in files:
        if candidate := _file(one, one.partition.rsplit("#", 1)[1], selection, seen):
            yield candidate


def _file(one: DataFile, dt: str, selection: Selection, seen: Snapshot) -> _Candidate | None:
    tier, writer = one.name.split("#", 1)
    held, span = one.rows_of(selection.tenant_id), selection.span
    low, high = one.min_event_time_us, one.max_event_time_us
    if held is None or not span.meets(low, high + 1):
        return None
    if not seen.holds(writer) or not visible(tier, dt, seen.seal):
        return None
    pointer = Pointer(one.key, held.first_row, held.rows)
    events = held.rows - (0 if selection.include_duplicates else held.duplicates)
    run = Run(dt, selection.event_type or "", pointer, events, low, high)
    known = selection.source is None and tier != LATE
    return _Candidate(run, known, one.bytes * held.rows // max(one.rows, 1))


def _exact(found: Sequence[_Candidate], selection: Selection, ports: PlanPorts) -> Iterator[Run]:
    """Yield runs that hold nothing but what the selection's span takes, their events counted."""

    def read(candidate: _Candidate) -> list[Run]:
        run = candidate.run
        return weigh(run, _rows(run.pointer, selection, ports), selection)

    yield from (one.run for one in found if one.known)
    for weighed in ports.each(read, [one for one in found if not one.known]):
        yield from weighed


def _rows(pointer: Pointer, selection: Selection, ports: PlanPorts) -> pa.Table:
    read = partial(read_pointers, selection, [pointer], [], ports.read, "the archive")
    try:
        return _ask(ports, "rows", read)
    except RowsGone as exc:
        raise Corrupt(str(exc)) from exc


def _limited(runs: list[Run], selection: Selection, ports: PlanPorts) -> list[Run]:
    kept, left = up_to_limit(runs, selection.limit or 0)
    if left:
        last = runs[len(kept)]
        kept.append(cut(last, _rows(last.pointer, selection, ports), selection, left))
    return kept


def _extreme(runs: Sequence[Run], selection: Selection, ports: PlanPorts, *, first: bool) -> int | None:
    """Return the first or last event time; rows are read only of runs that may hold it."""
    sign = 1 if first else -1
    best: int | None = None
    for run in sorted(runs, key=lambda one: sign * (one.low_us if first else one.high_us)):
        bound = run.low_us if first else run.high_us
        if best is not None and sign * bound >= sign * best:
            break
        exact = [run] if run.exact else weigh(run, _rows(run.pointer, selection, ports), selection)
        for one in exact:
            value = one.low_us if first else one.high_us
            best = value if best is None or sign * value < sign * best else best
    return best


def _bytes(runs: Sequence[Run], found: Sequence[_Candidate], selection: Selection, ports: PlanPorts) -> int:
    """Estimate the bytes of data files that hold these rows.

    The manifest knows them by file. The index does not: there the files of the busiest day stand for all.
    """
    if not runs:
        return 0
    if selection.entity_id is None:
        per_row = {one.run.pointer.key: one.bytes / one.run.pointer.rows for one in found}
        return round(sum(per_row[one.pointer.key] * one.pointer.rows for one in runs))
    days = Counter[str]()
    for one in runs:
        days[partition_name(one.event_type, one.dt)] += one.pointer.rows
    busiest = days.most_common(1)[0][0]
    files: list[DataFile] = _ask(ports, "files", lambda: ports.manifest.files(busiest))
    rows = sum(one.rows for one in files)
    mean = sum(one.bytes for one in files) / rows if rows else 0.0
    return round(mean * sum(days.values()))
