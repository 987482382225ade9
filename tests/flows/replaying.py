"""What the tests of replay stand on: a loaded archive, ports in memory, and a naive reader that knows the answers."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.days import day_of
from pipeline.core.entity_day import EntityDay
from pipeline.core.replay import Granularity, Selection, scope_of
from pipeline.core.replay_job import Job
from pipeline.core.segment import CutLimits
from pipeline.flows.process import ProcessLimits, Processor, ProcessPorts
from pipeline.flows.replay import ReplayPorts, start
from pipeline.flows.replay_plan import Plan, PlanPorts, plan
from pipeline.flows.rows import RowReader
from tests.fakes.replay import MemoryEntityDays, MemoryJobs, MemoryQueue
from tests.fakes.watched import Effect, Perform, WatchedClock, WatchedObjects
from tests.fakes.watched_replay import WatchedEntityDays, WatchedJobs, WatchedQueue
from tests.flows.loading import ActionLog, House

T = TypeVar("T")
BUILDINGS = ("a", "b", "c")
TYPES = ("door.opened", "meter.read")


class StoredEvent(NamedTuple):
    """One row of a data file, with what a replay may ask of it."""

    dt: str
    event_type: str
    key: str
    row: int
    tenant_id: str
    entity_id: str
    event_id: str
    source: str
    at_us: int
    is_duplicate: bool
    data: str


def made(number: int, **changes: Any) -> bytes:
    """Return one valid event of many kinds; equal numbers have equal ids."""
    fields = {
        "tenant": "acme" if number % 5 else "globex",
        "entity": BUILDINGS[number % 3],
        "type": TYPES[number % 2],
        "source": f"s{number % 4}",
        "time": f"2024-03-{8 + number % 3:02d}T{number % 11:02d}:{number * 7 % 60:02d}:{number * 13 % 60:02d}.{number % 10}Z",
        **changes,
    }
    return (
        f'{{"event_id":"e{number}","tenant_id":"{fields["tenant"]}","entity_id":"{fields["entity"]}",'
        f'"event_type":"{fields["type"]}","schema_version":1,"source":"{fields["source"]}",'
        f'"event_time":"{fields["time"]}","data":{{"n":{number}}}}}'
    ).encode()


@dataclass
class HookedLog(ActionLog):
    """An action log that calls back before each effect, with its number and name."""

    before: Callable[[int, str], None] = lambda _number, _name: None

    def __call__(self, effect: Effect[T]) -> T:
        """Perform one effect."""
        self.before(len(self.names) + 1, effect.name)
        return super().__call__(effect)


class Yard(House):
    """A house with replay: jobs, a queue, results."""

    def __init__(self, cut: CutLimits | None = None) -> None:
        super().__init__(cut)
        self.jobs, self.days = MemoryJobs(), MemoryEntityDays()
        self.queue = MemoryQueue(self.clock)
        self._ids = count(1)

    def load(self, *events: bytes) -> None:
        """Put events and load them as one segment."""
        records = self.put(*events)
        loader = self.loader()
        loader.start()
        loader.process(records)
        loader.cut("test")
        self.clock.advance(1)

    def plan_ports(self, perform: Perform | None = None) -> PlanPorts:
        """Return what planning reads."""
        watch = perform or ActionLog()
        read = RowReader(WatchedObjects(self.objects, watch)).read
        return PlanPorts(self.ledger, self.manifest, self.index, read, map, self.clock, self.facts)

    def plan(self, selection: Selection, granularity: Granularity = "pointer") -> Plan:
        """Plan a job."""
        return plan(selection, self.plan_ports(), granularity)

    def replay_ports(self, perform: Perform | None = None) -> ReplayPorts:
        """Return what starting needs."""
        watch = perform or ActionLog()
        return ReplayPorts(
            jobs=WatchedJobs(self.jobs, watch),
            queue=WatchedQueue(self.queue, watch),
            read=RowReader(WatchedObjects(self.objects, watch)).read,
            new_id=lambda: f"{next(self._ids):06x}",
            clock=WatchedClock(self.clock, watch),
            facts=self.facts,
        )

    def start(self, selection: Selection, granularity: Granularity = "pointer") -> Job:
        """Plan a job and send it."""
        return start(self.plan(selection, granularity), self.replay_ports())

    def processor(
        self,
        perform: Perform | None = None,
        limits: ProcessLimits | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> Processor:
        """Return a new processor, as a process that starts makes one."""
        watch = perform or ActionLog()
        ports = ProcessPorts(
            queue=WatchedQueue(self.queue, watch),
            jobs=WatchedJobs(self.jobs, watch),
            days=WatchedEntityDays(self.days, watch),
            read=RowReader(WatchedObjects(self.objects, watch)).read,
            each=map,
            clock=WatchedClock(self.clock, watch),
            facts=self.facts,
            stopping=stopping,
            spans=self.spans.append,
        )
        return Processor(ports, limits)

    def replay(self, selection: Selection, granularity: Granularity = "pointer") -> Job:
        """Run a job from plan to done."""
        job = self.start(selection, granularity)
        self.processor().run(drain=True)
        return self.jobs.get(job.id)

    def results(self) -> list[EntityDay]:
        """Return all results."""
        return list(self.days.all_rows())

    def stored(self) -> list[StoredEvent]:
        """Return every row of every data file, in the order of days, types, files and rows."""
        found: list[StoredEvent] = []
        for key, stored in self.objects.stored.items():
            if key.startswith(("events/", "late/")):
                found += read_rows(key, stored.body)
        return sorted(found)

    def expected(self, selection: Selection, job: Job) -> list[EntityDay]:
        """Return what a job must give, row by row, without any part of the product."""
        return naive_days(naive(self.stored(), selection), scope_of(selection, job.id), job)


def read_rows(key: str, body: bytes) -> list[StoredEvent]:
    """Return the rows of one data file."""
    table = pq.ParquetFile(pa.BufferReader(body)).read()
    rows = table.to_pydict()
    times = table.column("event_time").cast(pa.int64()).to_pylist()
    names = ("tenant_id", "entity_id", "event_id", "source")
    columns = (*(rows[name] for name in names), times, rows["is_duplicate"], rows["data_json"])
    kind = key.split("/")[1].removeprefix("event_type=")
    return [
        StoredEvent(day_of(one[4]), kind, key, number, *one)
        for number, one in enumerate(zip(*columns, strict=True))
    ]


def naive(stored: Sequence[StoredEvent], selection: Selection) -> list[StoredEvent]:
    """Return the rows that a selection means."""
    found = [
        one
        for one in stored
        if one.tenant_id == selection.tenant_id
        and selection.entity_id in (None, one.entity_id)
        and selection.event_type in (None, one.event_type)
        and selection.source in (None, one.source)
        and selection.from_us <= one.at_us < selection.until_us
        and (selection.include_duplicates or not one.is_duplicate)
    ]
    return found[: selection.limit]


def naive_days(found: Sequence[StoredEvent], scope: str, job: Job) -> list[EntityDay]:
    """Fold rows one by one."""
    groups: dict[tuple[str, str], list[StoredEvent]] = defaultdict(list)
    for one in found:
        groups[one.entity_id, one.dt].append(one)
    return [_naive_day(entity, dt, groups[entity, dt], scope, job) for entity, dt in sorted(groups)]


def _naive_day(entity: str, dt: str, rows: list[StoredEvent], scope: str, job: Job) -> EntityDay:
    high = low = 0
    for one in rows:
        text = f"{one.event_type}\0{one.at_us}\0{one.data}\0{one.event_id}".encode()
        digest = hashlib.blake2b(text, digest_size=16).digest()
        low = (low + int.from_bytes(digest[:8], "little")) % 2**64
        high = (high + int.from_bytes(digest[8:], "little")) % 2**64
    return EntityDay(
        rows[0].tenant_id,
        entity,
        dt,
        scope,
        events=len(rows),
        duplicates=sum(one.is_duplicate for one in rows),
        inputs_hash=f"{high:016x}{low:016x}",
        sample_ids=tuple(name for _, name in sorted((one.at_us, one.event_id) for one in rows)[:5]),
        first_event_time_us=min(one.at_us for one in rows),
        last_event_time_us=max(one.at_us for one in rows),
        basis=job.basis,
        job=job.id,
    )
