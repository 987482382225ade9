"""A deployment under attack: workers as real processes behind a proxy, what was produced, and whether all of it is there."""

import io
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pyarrow.parquet as pq

from pipeline import wiring
from pipeline.config import load_settings
from pipeline.core.audit import Report
from pipeline.core.count import Question
from pipeline.core.entity_day import EntityDay
from pipeline.core.keys import EVENTS, QUARANTINE
from pipeline.core.replay import Selection
from pipeline.flows.events import EventSearch
from pipeline.flows.replay import start
from pipeline.flows.replay_plan import plan
from pipeline.machine.processes import wait_until
from pipeline.ports.clock import SystemClock
from pipeline.sending import Producer
from tests.consumers.test_reader import Deployment
from tests.core.kit import event, wire
from tests.fakes.facts import FactList
from tests.faults.proxy import FaultProxy

PATIENCE = 60.0  # seconds; each wait ends as soon as what it waits for is there
ENTITIES, DAYS = 40, 5
SELECTION = Selection("acme", event_type="door")
SETTINGS = {
    "HEADRACE_SEGMENT__MAX_ROWS": "40",  # many segments, so that faults fall between all of their steps
    "HEADRACE_SEGMENT__MAX_IDLE_SECONDS": "0.2",
    "HEADRACE_METRICS__EMF": "true",
    "HEADRACE_REPLAY__VISIBILITY_SECONDS": "10",
    "HEADRACE_REPLAY__MAX_ATTEMPTS": "100",  # every kill is an attempt
}


class Victim(Protocol):
    """A worker that can be killed: one process, or several that belong together."""

    name: str

    def begin(self) -> None:
        """Start it, or what is missing of it."""
        ...

    def at_work(self) -> bool:
        """True once it is ready."""
        ...

    def kill(self) -> None:
        """SIGKILL; on return it is gone."""
        ...

    def end(self) -> int:
        """Ask it to end in order; return its status."""
        ...


@dataclass
class Worker:
    """One of our workers as one process."""

    name: str
    arguments: tuple[str, ...]
    yard: "Yard"
    process: subprocess.Popen[bytes] | None = None
    said: int = 0  # bytes of its log before this process

    @property
    def log(self) -> Path:
        """Return where it logs, all its lives in one file."""
        return self.yard.folder / f"{self.name}.log"

    def begin(self) -> None:
        """Start it."""
        self.said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.arguments],
                env=self.yard.worker_environment(),
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.yard.readers.append(self.process)

    def at_work(self) -> bool:
        """True once it has said that it is ready."""
        return b"WorkerStarted" in self.log.read_bytes()[self.said :]

    def kill(self) -> None:
        """Kill it."""
        assert self.process is not None
        assert self.process.poll() is None, f"{self.name} ended by itself: {self.log.read_text()[-2_000:]}"
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """Let it drain."""
        assert self.process is not None
        assert wait_until(self.at_work, PATIENCE)  # before, it cannot listen
        self.process.terminate()
        return self.process.wait(PATIENCE)


@dataclass
class Produced:
    """What was given to the producer: accepted ids by entity and day, and how many units are none."""

    ids: dict[str, tuple[str, str]] = field(default_factory=dict)
    refused: int = 0

    @property
    def units(self) -> int:
        """Return how many units there are."""
        return len(self.ids) + self.refused


class Yard(Deployment):
    """A deployment whose clients all go through a proxy, with everything that was produced into it."""

    def __init__(self, folder: Path, proxy: FaultProxy, shards: int = 2, **more: str) -> None:
        super().__init__(folder, proxy.url, shards, **SETTINGS | more)
        self.proxy, self.produced = proxy, Produced()
        self.clock, self.facts = SystemClock(), FactList()
        where = {"HEADRACE_AWS__ENDPOINT_URL": proxy.upstream}
        self.unharmed = load_settings(environ=self.environment | where)  # for whoever looks on
        self.stores = wiring.archive(self.unharmed)

    def producer(self) -> Producer:
        """Return a producer whose calls fail as the proxy likes."""
        return wiring.producer(self.settings, wiring.archive(self.settings))

    def audit(self) -> Report:
        """Return the audit's report."""
        return wiring.audit(self.unharmed, lambda _objects: None)

    def worker_environment(self) -> dict[str, str]:
        """Return what a worker is started with."""
        return {"PATH": "/usr/bin:/bin"} | self.environment

    def put(self, producer: Producer, numbers: Iterable[int]) -> None:
        """Produce numbered events of many entities and days, every tenth rubbish; acknowledged on return."""
        for number in numbers:
            entity, dt = f"door-{number % ENTITIES}", f"2024-03-{number % DAYS + 1:02d}"
            if number % 10 == 9:
                producer.put("acme", entity, b"rubbish %d" % number)
                self.produced.refused += 1
                continue
            name = f"e{number}"
            when = f"{dt}T11:00:00Z"
            payload = event(event_id=name, entity_id=entity, event_time=when, data={"n": number})
            producer.put("acme", entity, wire(payload))
            self.produced.ids[name] = (entity, dt)
        producer.flush()

    def committed(self) -> int:
        """Return how many units lie in committed segments."""
        return sum(one.counts.units for one in self.segments() if one.state == "committed")

    def wait_committed(self, copies: int = 0) -> None:
        """Wait until everything that was produced is committed."""
        wanted = self.produced.units + copies
        assert wait_until(lambda: self.committed() >= wanted, PATIENCE), (
            f"{self.committed()} of {wanted} units are committed"
        )

    def replay(self) -> str:
        """Start a replay job of all events there are; return its id."""
        parts = wiring.replay_parts(self.unharmed, self.clock, self.facts)
        return start(plan(SELECTION, parts.plan), parts.start).id


def assert_nothing_lost_or_doubled(yard: Yard, *, copies: bool = False) -> None:
    """Compare what was produced with rows, quarantine, index, aggregates and audit.

    Args:
        yard: whose workers have ended.
        copies: the producer may have sent batches twice; each copy has to be flagged.
    """
    originals, flagged, refused = archived(yard)
    assert originals == Counter(dict.fromkeys(yard.produced.ids, 1))
    assert set(flagged) <= set(yard.produced.ids)
    assert copies or not flagged
    expected = {b"rubbish %d" % number for number in range(yard.produced.units) if number % 10 == 9}
    assert set(refused) == expected
    assert copies or set(refused.values()) <= {1}
    assert _indexed(yard) == originals + flagged
    totals = [one for one in yard.stores.aggregates.all_items() if not isinstance(one, Exception)]
    days = Counter(dt for _entity, dt in yard.produced.ids.values())
    by_day: Counter[str] = Counter()
    for one in totals:
        by_day[one.name.partition("#")[0]] += one.events
    assert +by_day == days
    assert sum(one.duplicates for one in totals) == flagged.total()
    report = yard.audit()
    assert report.balanced, report.differences


def archived(yard: Yard) -> tuple[Counter[str], Counter[str], Counter[bytes]]:
    """Return the rows: ids of originals, ids of flagged copies, bytes of what was refused."""
    originals: Counter[str] = Counter()
    flagged: Counter[str] = Counter()
    refused: Counter[bytes] = Counter()
    objects = yard.stores.objects
    for info in objects.list(EVENTS):
        table = pq.ParquetFile(io.BytesIO(objects.get(info.key))).read(["event_id", "is_duplicate"])
        for name, copy in zip(*(column.to_pylist() for column in table.columns), strict=True):
            (flagged if copy else originals)[name] += 1
    for info in objects.list(QUARANTINE):
        refused.update(pq.ParquetFile(io.BytesIO(objects.get(info.key))).read(["raw"])["raw"].to_pylist())
    return originals, flagged, refused


def _indexed(yard: Yard) -> Counter[str]:
    """Return the ids of all rows that the index leads to, asked for entity by entity."""
    found: Counter[str] = Counter()
    with wiring.finding(yard.unharmed, lambda _: None) as ports:
        for entity in {entity for entity, _ in yard.produced.ids.values()}:
            question = Question(entity_id=entity)
            search = EventSearch("acme", question, None, ports.find, duplicates=True)
            found.update(one.columns["event_id"] for one in search.events())
    return found


def assert_results_of(job: str, yard: Yard) -> None:
    """Compare the entity+day rows of a replay job with what was produced."""
    parts = wiring.replay_parts(yard.unharmed, yard.clock, yard.facts)
    rows: list[EntityDay] = list(parts.days.all_rows())
    assert {one.basis for one in rows} == {parts.jobs.get(job).basis}  # of equal ones whoever came last
    found = {(one.entity_id, one.dt): one.events for one in rows}
    assert found == Counter(yard.produced.ids.values())
    assert len(found) == len(rows)
