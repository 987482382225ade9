"""All that one tenant may read, and the only way to it: made from who calls, and from nothing that a request says.

No method takes a tenant. What is another tenant's does not exist here; where it was asked for by its name, `Crossed`
says so to the one who counts such attempts, and to nobody else.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import dropwhile, islice
from typing import NamedTuple

import msgspec
import pyarrow as pa

from pipeline.core.aggregate import UNKNOWN
from pipeline.core.caller import Caller
from pipeline.core.count import Answer, Question
from pipeline.core.cursor import Place
from pipeline.core.entity_day import EntityDay
from pipeline.core.errors import Crossed, NotFound, Transient
from pipeline.core.find import day_span
from pipeline.core.keys import SegmentRef, name_in_key
from pipeline.core.redriven import Mark, RefusedPlace, RefusedUnit, Wanted
from pipeline.core.replay import Granularity, Selection, scope_of
from pipeline.core.replay_job import Job, is_job_id
from pipeline.core.sighting import Hint, Trace
from pipeline.core.span import Span
from pipeline.core.subsequence import stream_order
from pipeline.flows import replay as replay_flow
from pipeline.flows.counts import count_events
from pipeline.flows.events import Event, EventSearch
from pipeline.flows.freshness import Freshness, StreamFreshness
from pipeline.flows.quarantine import QuarantinePorts, Tally, refused, refused_at, tally
from pipeline.flows.replay import ReplayPorts
from pipeline.flows.replay_plan import Plan, PlanPorts, plan
from pipeline.flows.sight import TracePorts
from pipeline.flows.trace import trace
from pipeline.ports.entity_days import EntityDays
from pipeline.ports.reading import ReadRows


class Stopped(Transient):
    """Nobody waits for the answer any more: what is left of the work is left."""

    spent = True


@dataclass(frozen=True)
class ReadParts:
    """The ports of everything a tenant may read; nobody but `TenantReads` is given them."""

    trace: TracePorts
    quarantine: QuarantinePorts
    plan: PlanPorts
    replay: ReplayPorts
    days: EntityDays
    freshness: Freshness


class Page(NamedTuple):
    """Events in order, and the place of the last one where more follow."""

    events: list[Event]
    more_after: Place | None


class RefusedPage(NamedTuple):
    """Refused units in order of arrival day, and the place of the last one where more follow."""

    units: list[tuple[RefusedUnit, Mark | None]]
    more_after: Place | None


class RefusedCount(NamedTuple):
    """Refused units of one arrival day, code and type."""

    dt: str
    code: str
    event_type: str | None
    tally: Tally


class EntityDayLine(NamedTuple):
    """One day of an entity: what is counted now, and what replay jobs came to."""

    dt: str
    events: int
    duplicates: int
    results: list[EntityDay]


class TenantReads:
    """One caller's reading; one for each request. Called from threads; every method may raise Transient and Corrupt.

    Args:
        parts: where everything lies.
        caller: who reads; its tenant is whose.
        waited_for: turns false when nobody waits any more; looked at before each read, which then raises Stopped.
    """

    def __init__(self, parts: ReadParts, caller: Caller, waited_for: Callable[[], bool]) -> None:
        self._tenant, self._days, self._freshness = caller.tenant_id, parts.days, parts.freshness

        def check(_reads: int = 0) -> None:
            if not waited_for():
                raise Stopped("the time for this answer is over")

        find = replace(parts.trace.find, read=_checked(parts.trace.find.read, check), progress=check)
        self._trace = replace(parts.trace, find=find)
        self._quarantine = replace(parts.quarantine, progress=check)
        self._plan = replace(parts.plan, read=_checked(parts.plan.read, check))
        self._replay, self._check = parts.replay, check

    def events(
        self, question: Question, after: Place | None, limit: int, max_bytes: int, *, flagged: bool
    ) -> Page:
        """Return events in the order of event time and position, after a place.

        At most `limit`, and no more once their data come to `max_bytes`; `flagged`: duplicates too.
        """
        if after is not None:
            begin = replace(question.span, from_us=max(question.span.from_us, int(after[0])))
            question = replace(question, span=begin)
        search = EventSearch(self._tenant, question, None, self._trace.find, duplicates=flagged)
        found: Iterator[Event] = search.events()
        if after is not None:
            found = dropwhile(lambda one: _order(place_of(one)) <= _order(after), found)
        chosen: list[Event] = []
        size = 0
        for one in found:
            if len(chosen) == limit or (chosen and size >= max_bytes):
                return Page(chosen, place_of(chosen[-1]))
            chosen.append(one)
            size += len(one.columns["data_json"])
        return Page(chosen, None)

    def knows_type(self, event_type: str) -> bool:
        """True when something of a type is counted for the tenant, also where its schema is gone."""
        span = Span()
        partition = f"{self._tenant}#{event_type}"
        return bool(self._trace.find.aggregates.find(partition, span.first_dt, span.last_dt))

    def trace(self, event_id: str, hint: Hint) -> Trace:
        """Return what became of an event."""
        return trace(self._tenant, event_id, hint, self._trace)

    def counts(self, question: Question, event_types: Sequence[str]) -> Answer:
        """Count events exactly; `event_types`: all that have schemas."""
        return count_events(self._tenant, question, [*event_types, UNKNOWN], self._trace.find)

    def entity_days(self, entity_id: str, span: Span) -> list[EntityDayLine]:
        """Return the days of an entity that have events or results, whole days only, by day."""
        question = Question(span, entity_id=entity_id, by="day")
        counted = {one.group: one for one in count_events(self._tenant, question, [], self._trace.find).lines}
        results: dict[str, list[EntityDay]] = {}
        for row in self._days.find(self._tenant, entity_id, span.first_dt, span.last_dt):
            results.setdefault(row.dt, []).append(row)
        lines = []
        for dt in sorted({*counted, *results}):
            line = counted.get(dt)
            events, duplicates = (line.events, line.duplicates) if line else (0, 0)
            lines.append(EntityDayLine(dt, events, duplicates, results.get(dt, [])))
        return lines

    # Refused units --------------------------------------------------------------------------------------

    def refused_counts(self, wanted: Wanted) -> list[RefusedCount]:
        """Count refused units that name the tenant; a unit that names none, or an unknown one, is nobody's."""
        found = tally(replace(wanted, tenant_id=self._tenant), self._quarantine)
        counts = [RefusedCount(group.dt, group.code, group.event_type, one) for group, one in found.items()]
        return sorted(counts, key=lambda one: (one.dt, one.code, one.event_type or ""))

    def refused_units(self, wanted: Wanted, after: Place | None, limit: int) -> RefusedPage:
        """Return refused units that name the tenant, after a place."""
        if after is not None:  # days before are not read again
            begin = max(wanted.arrived.from_us, day_span(str(after[0])).from_us)
            wanted = replace(wanted, arrived=replace(wanted.arrived, from_us=begin))
        found = refused(replace(wanted, tenant_id=self._tenant), self._quarantine)
        if after is not None:
            found = dropwhile(lambda one: unit_order(one[0].place) <= after, found)
        units = list(islice(found, limit + 1))
        more = unit_order(units[limit - 1][0].place) if len(units) > limit else None
        return RefusedPage(units[:limit], more)

    def refused_unit(self, place: RefusedPlace) -> tuple[RefusedUnit, Mark | None]:
        """Return one refused unit, whole.

        Raises:
            NotFound: there is none, or it does not name the tenant.
        """
        unit, mark = refused_at(place, self._quarantine)
        if unit.tenant_id != self._tenant:
            raise Crossed("no such unit")
        return unit, mark

    def freshness(self) -> Sequence[StreamFreshness]:
        """Return how far the archive is behind; the same for every tenant."""
        return self._freshness.look()

    # Replay ---------------------------------------------------------------------------------------------

    def plan(self, slice_of: Selection, granularity: Granularity) -> Plan:
        """Return what a job of the tenant's own slice would be; whatever tenant the selection names is put right."""
        own = msgspec.structs.replace(slice_of, tenant_id=self._tenant)
        return plan(own, self._plan, granularity)

    def freeze(self, planned: Plan, name: str | None = None, traceparent: str | None = None) -> Job:
        """Store a plan of this tenant as a job whose messages can be sent; see `flows.replay.freeze`.

        Raises:
            StoreUnusable: there is no queue to send them to; nothing is stored.
        """
        if planned.selection.tenant_id != self._tenant:
            raise Crossed("no such plan")
        self._replay.ask("queue", self._replay.queue.ask)
        return replay_flow.freeze(planned, self._replay, name, traceparent)

    def job_to_send(self, job_id: str) -> Job:
        """Return one job; what is left of it can be sent.

        Raises:
            NotFound: the tenant has no such job.
            StoreUnusable: something is left, and there is no queue to send it to.
        """
        found = self.job(job_id)
        if found.state not in {"done", "stale"}:
            self._replay.ask("queue", self._replay.queue.ask)
        return found

    def send(self, job_id: str) -> Job:
        """Send what is not sent yet of a job; may take minutes, and may be repeated.

        Raises:
            NotFound: the tenant has no such job.
            ConfigProblem: it is stale.
            Stopped: nobody waits; what is not sent yet is sent by another call.
        """
        return replay_flow.resume(self.job(job_id).id, self._replay, self._check)

    def jobs(self) -> list[Job]:
        """Return the tenant's jobs, newest first."""
        found = self._replay.ask("jobs", self._replay.jobs.newest)
        return [one for one in found if one.selection.tenant_id == self._tenant]

    def job(self, job_id: str) -> Job:
        """Return one job.

        Raises:
            NotFound: the tenant has no such job, or nobody can: the text is no id of a job.
        """
        if not is_job_id(job_id):
            raise NotFound("no such job")
        found = self._replay.ask("job", lambda: self._replay.jobs.get(job_id))
        if found.selection.tenant_id != self._tenant:
            raise Crossed("no such job")
        return found

    def results(self, job: Job, entity_id: str) -> list[EntityDay]:
        """Return what a job, or a newer one of the same scope, came to for an entity, by day."""
        if job.first_us is None or job.last_us is None:
            return []
        span, scope = Span(job.first_us, job.last_us + 1), scope_of(job.selection, job.id)
        rows = self._days.find(self._tenant, entity_id, span.first_dt, span.last_dt)
        return [one for one in rows if one.scope == scope]


def place_of(event: Event) -> Place:
    """Return an event's place in the order of events."""
    one = event.columns
    return (event.time_us, one["sequence_number"], one["subsequence_number"], event.key, event.row)


def _order(place: Place) -> tuple[int, int, int, str, int]:
    time_us, sequence_number, subsequence_number, key, row = place
    return int(time_us), int(sequence_number), stream_order(int(subsequence_number)), str(key), int(row)


def unit_order(place: RefusedPlace) -> Place:
    """Return a refused unit's place in the order of units: arrival day, lineage, ordinal, row."""
    dt = place.key.rsplit("/", 2)[1].removeprefix("dt=")
    return (dt, *SegmentRef.of_name(name_in_key(place.key)), place.row)


def whole_days(span: Span) -> int:
    """Return how many days a span touches."""
    return (date.fromisoformat(span.last_dt) - date.fromisoformat(span.first_dt)).days + 1


def _checked(read: ReadRows, check: Callable[[], None]) -> ReadRows:
    def reading(key: str, first_row: int, rows: int, columns: Sequence[str]) -> pa.Table:
        check()
        return read(key, first_row, rows, columns)

    return reading
