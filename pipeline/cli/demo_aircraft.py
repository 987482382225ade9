"""The demo's investigation: one aircraft's month looked up, counted, replayed and held against each other."""

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pipeline import wiring
from pipeline.cli.progress import Stages
from pipeline.cli.settings import processor_environment
from pipeline.cli.waiting import wait_for
from pipeline.config import Settings
from pipeline.core.aggregate import UNKNOWN
from pipeline.core.count import Line, Question
from pipeline.core.entity_day import EntityDay
from pipeline.core.errors import HeadraceError
from pipeline.core.replay import Selection
from pipeline.core.replay_job import Job
from pipeline.core.span import parse_span
from pipeline.flows import replay as flow
from pipeline.flows.counts import count_events
from pipeline.flows.events import Event, EventSearch
from pipeline.flows.replay_plan import plan
from pipeline.machine.processes import ProcessRef, cpu_seconds, process_ref, spawn, stop
from pipeline.machine.processor import PROCESSOR
from pipeline.ports.clock import SystemClock

TENANT, ENTITY = "ua", "N14228"  # the aircraft of the year's first departure
FIRST_DAY, LAST_DAY = "2013-01-01", "2013-01-31"
GRACE_SECONDS = 10.0
PATIENCE_SECONDS = 30.0


@dataclass
class Aircraft:
    """What was found of the aircraft, three times over."""

    history: list[Event] = field(default_factory=list)
    look_up_seconds: float = 0.0
    counts: tuple[Line, ...] = ()  # of the tenant's month, by type
    of_entity: int = 0  # events by the index alone
    messages: int = 0
    processed: int = 0
    days: list[EntityDay] = field(default_factory=list)
    cpu_seconds: float = 0.0  # of the processor

    @property
    def agrees(self) -> bool:
        """True when index, rows and replay count the same events."""
        return len(self.history) == self.of_entity == self.processed == sum(one.events for one in self.days)


class Investigation:
    """Two stages of the demo; `pid` is the processor's while it runs, else 0."""

    def __init__(self, settings: Settings, stages: Stages) -> None:
        self._settings, self._stages = settings, stages
        self._span = parse_span(FIRST_DAY, LAST_DAY)
        self.result = Aircraft()
        self.pid = 0

    def run(self) -> Aircraft:
        """Look up, count and replay."""
        self._stages.begin("find")
        self._find()
        self._stages.end("find")
        self._stages.begin("replay")
        self._replay()
        self._stages.end("replay")
        return self.result

    def _find(self) -> None:
        result, span = self.result, self._span
        types = [*sorted(wiring.rules(self._settings).schemas), UNKNOWN]
        with wiring.finding(self._settings, lambda _runs: None) as ports:
            began = time.monotonic()
            question = Question(span, entity_id=ENTITY)
            search = EventSearch(TENANT, question, None, ports.find, duplicates=False)
            result.history = list(search.events())
            result.look_up_seconds = time.monotonic() - began
            self._stages.update("find", len(result.history), "events of one aircraft")
            result.of_entity = count_events(TENANT, question, types, ports.find).total.events
            result.counts = tuple(count_events(TENANT, Question(span, by="type"), types, ports.find).lines)

    def _replay(self) -> None:
        result = self.result
        parts = wiring.replay_parts(self._settings, SystemClock(), lambda _fact: None)
        selection = Selection(TENANT, ENTITY, from_us=self._span.from_us, until_us=self._span.until_us)
        job = flow.start(plan(selection, parts.plan), parts.start)
        with self._processor():
            job = wait_for(parts.jobs, job, self._told)
        if job.state != "done":
            raise HeadraceError(f"replay job {job.id} is {job.state}: {job.reason}")
        result.messages, result.processed = job.messages, job.done_events
        result.days = parts.days.find(TENANT, ENTITY, FIRST_DAY, LAST_DAY)

    def _told(self, job: Job, idle_seconds: float) -> None:
        """Show how far a job is."""
        self._stages.update("replay", job.done_events, f"{job.done_chunks} of {job.chunks} chunks")
        if idle_seconds > PATIENCE_SECONDS:
            raise HeadraceError(f"replay job {job.id} stands still; see logs/processor.log with --keep")

    @contextlib.contextmanager
    def _processor(self) -> Iterator[None]:
        """Run a processor in a process of its own, until the queue is empty."""
        home = self._settings.paths.home
        child = spawn(
            (*PROCESSOR, "--drain"),
            environment=processor_environment(self._settings),
            log=home / "logs" / "processor.log",
            folder=home,
            dies_with_parent=True,
        )
        process: ProcessRef | None = process_ref(child.pid)
        self.pid = child.pid
        try:
            yield
            self.result.cpu_seconds = cpu_seconds(child.pid)
        finally:
            self.pid = 0
            stop(process, GRACE_SECONDS)
            child.wait()


def as_document(found: Aircraft) -> dict[str, Any]:
    """Return the figures of `--json`."""
    return {
        "replay": {"messages": found.messages, "processed": found.processed, "rows": len(found.days)},
        "aircraft": {
            "tenant_id": TENANT,
            "entity_id": ENTITY,
            "events": len(found.history),
            "look_up_seconds": round(found.look_up_seconds, 3),
            "agrees": found.agrees,
        },
    }
