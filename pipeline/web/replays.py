"""Replay over HTTP: plan a slice of the caller's own archive, start it as a job, see it done.

A job is frozen before its starting is answered; its messages are sent after that, by this process. Should it end before
they all are, `POST /v1/replays/{id}/resume` goes on. Where there is no queue to send to, neither is done.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, Literal

import msgspec

from pipeline.core.caller import Scope
from pipeline.core.errors import HeadraceError, NotFound
from pipeline.core.names import is_name
from pipeline.core.replay import Selection
from pipeline.core.replay_job import Job, job_id
from pipeline.core.span import END_US, FIRST_US, Span, instant_of
from pipeline.facts import ReplaySendingFailed, place_of
from pipeline.flows.idempotency import Started
from pipeline.flows.replay_plan import Plan
from pipeline.flows.tenant_reads import Stopped, TenantReads
from pipeline.web.asked import CURSOR, MAX_TEXT, after_of, asked, next_of, path, refused, span_of, text, whole
from pipeline.web.document import JSON, converted, parsed, received
from pipeline.web.idempotent import KEY_PARAMETER, once
from pipeline.web.problems import Problem
from pipeline.web.reading import AGAIN, read, reads_of
from pipeline.web.results import DayResult, results_of
from pipeline.web.route import Answer, AnyOf, Call, Route
from pipeline.wiring.front_door import FrontDoor

MAX_BODY_BYTES = 16_384
_NAME_DIGITS = 16  # hex: as many as an id of a job has otherwise
_MISSING = "no replay job of this id: GET /v1/replays lists yours"
_READERS = AnyOf(frozenset({Scope.READ, Scope.REPLAY}))
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=MAX_TEXT)]


class Slice(msgspec.Struct, frozen=True):
    """What a job is about; times as RFC 3339 writes them."""

    entity: str | None
    type: str | None
    source: str | None
    from_: str | None = msgspec.field(name="from")
    to: str | None
    limit: int | None
    include_duplicates: bool


class NewReplay(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A slice: of one entity, or of one type and whole days. `dry_run`: say what the job would be, and make none."""

    entity: _Text | None = None
    type: _Text | None = None
    source: _Text | None = None
    from_: _Text | None = msgspec.field(name="from", default=None)
    to: _Text | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=10**9)] | None = None
    include_duplicates: bool = False
    granularity: Literal["pointer", "event"] = "pointer"
    dry_run: bool = False


class ReplayPlan(msgspec.Struct, frozen=True):
    """What a job would be. Events, messages and times are exact; bytes, requests and dollars are estimates."""

    slice: Slice
    granularity: str
    events: int
    messages: int
    chunks: int
    bytes: int
    first_event_time: str | None
    last_event_time: str | None
    dollars: float


class ReplayJob(msgspec.Struct, frozen=True):
    """One job: frozen, sending, sent, done, stale (rows are gone: start a new one) or failed (it may be resumed)."""

    job: str
    state: str
    reason: str | None
    slice: Slice
    granularity: str
    events: int
    messages: int
    chunks: int
    done_chunks: int
    done_events: int
    first_event_time: str | None
    last_event_time: str | None
    created: str
    ended: str | None


class ReplayPage(msgspec.Struct, frozen=True):
    """Jobs, newest first; `next` is the cursor of the page after this one."""

    replays: list[ReplayJob]
    next: str | None


class ResultPage(msgspec.Struct, frozen=True):
    """What a job, or a newer one of the same slice, came to for one entity, by day."""

    entity_id: str
    results: list[DayResult]
    next: str | None


_LIST = (whole("limit", "Jobs of one page at most.", 50, 500), CURSOR)
_ID = (path("id", "The job's id."),)
_RESULTS = (
    *_ID,
    text("entity", "Whose results; needed where the job is about a type.", "N14228"),
    whole("limit", "Days of one page at most.", 100, 366),
    CURSOR,
)


async def post_replay(door: FrontDoor, call: Call) -> Answer:
    """Plan a job, or start it; under an `Idempotency-Key` once, however often that is asked for."""
    asked(call, ())
    body = await received(call, MAX_BODY_BYTES)
    wanted = converted(door, call, parsed(body), NewReplay)
    slice_of = _selection(call, wanted)
    return await once(door, call, body, lambda started: _start(door, call, wanted, slice_of, started))


async def _start(
    door: FrontDoor, call: Call, wanted: NewReplay, slice_of: Selection, started: Started | None
) -> Answer:
    """Answer with a plan, or with a job that is being sent.

    A second attempt finds the job of the first by its name. Where the first ended before its job was whole there is none,
    and what it stored is nobody's: then the job has a new name.
    """
    if started is not None and started.again and (job := await _begun(door, call, started)) is not None:
        return _started(door, call, job)

    def plan(mine: TenantReads) -> Plan:
        return mine.plan(slice_of, wanted.granularity)

    planned = await read(door, call, plan)
    if wanted.dry_run:
        return Answer(_plan(planned))
    if not planned.events:
        raise Problem(
            "invalid", "nothing to replay: no event is in this slice; dry_run shows what a slice holds"
        )
    name = None if started is None or started.again else _name(started)

    def freeze(mine: TenantReads) -> Job:
        return mine.freeze(planned, name, call.seen.traceparent or None)

    return _started(door, call, await read(door, call, freeze))


async def _begun(door: FrontDoor, call: Call, started: Started) -> Job | None:
    """Return the job that an earlier attempt made."""

    def find(mine: TenantReads) -> Job | None:
        with suppress(NotFound):
            return mine.job_to_send(_name(started))
        return None

    return await read(door, call, find, less=AGAIN)


def _name(started: Started) -> str:
    """Return the id of the job of a request that has an `Idempotency-Key`."""
    return job_id(started.begun_us, started.event_id(0).replace("-", "")[:_NAME_DIGITS])


def _started(door: FrontDoor, call: Call, job: Job) -> Answer:
    if job.state not in {"done", "stale"}:
        _send(door, call, job.id)
    return Answer(_job(job), 202, {"Location": f"/v1/replays/{job.id}"})


def _selection(call: Call, wanted: NewReplay) -> Selection:
    if wanted.entity is None and wanted.type is None:
        raise refused("entity", "is needed, or type", "an entity's id, or a type and whole days", "N14228")
    if wanted.type is not None and not is_name(wanted.type):
        raise refused(
            "type", "is no name of an event type", "a name: GET /v1/schemas lists them", "flight.departed"
        )
    span = span_of({"from": wanted.from_, "to": wanted.to})
    chosen = Selection(
        tenant_id=call.caller.tenant_id,
        entity_id=wanted.entity,
        event_type=wanted.type,
        source=wanted.source,
        from_us=span.from_us,
        until_us=span.until_us,
        include_duplicates=wanted.include_duplicates,
        limit=wanted.limit,
    )
    if wanted.entity is None and chosen.cuts_days:
        raise refused("from", "cuts a day, or to does", "whole days where no entity is named", "2013-07-04")
    return chosen


def _send(door: FrontDoor, call: Call, job_id: str) -> None:
    """Send a job's messages in a thread; how it goes on is in the job's state and in facts. Nobody waits for it."""
    reads = reads_of(door)
    mine = reads.sender(call.caller)

    def work() -> None:
        try:
            mine.send(job_id)
        except Stopped:  # this process ends: the job's state says how far it is
            pass
        except HeadraceError as exc:
            door.facts(ReplaySendingFailed(job_id, f"{type(exc).__name__}: {exc}"))
        except Exception as exc:  # noqa: BLE001 - the boundary of a thread: what is not told here is lost
            door.facts(ReplaySendingFailed(job_id, place_of(exc)))

    asyncio.get_running_loop().run_in_executor(reads.senders, work)


async def resume_replay(door: FrontDoor, call: Call) -> Answer:
    """Go on sending a job."""
    asked(call, ())
    job = await _one(door, call, TenantReads.job_to_send)
    if job.state == "stale":
        raise Problem("conflict", "the job is stale, its rows are gone: start a new one")
    if job.state != "done":
        _send(door, call, job.id)
    return Answer(_job(job), 202)


async def get_replays(door: FrontDoor, call: Call) -> Answer:
    """List the caller's jobs."""
    query = asked(call, _LIST)
    key, limit = reads_of(door).key, query["limit"]
    after = after_of(door, call, query, key)
    jobs = await read(door, call, TenantReads.jobs, less=AGAIN)
    left = [one for one in jobs if after is None or one.id < str(after[0])]
    more = (left[limit - 1].id,) if len(left) > limit else None
    return Answer(ReplayPage([_job(one) for one in left[:limit]], next_of(door, call, query, key, more)))


async def get_replay(door: FrontDoor, call: Call) -> Answer:
    """Show one job."""
    asked(call, ())
    return Answer(_job(await _one(door, call)))


async def _one(door: FrontDoor, call: Call, find: Callable[[TenantReads, str], Job] = TenantReads.job) -> Job:
    def work(mine: TenantReads) -> Job:
        return find(mine, call.path["id"])

    return await read(door, call, work, less=AGAIN, missing=_MISSING)


async def get_replay_results(door: FrontDoor, call: Call) -> Answer:
    """Show what a job came to for one entity."""
    query = asked(call, _RESULTS)
    key, limit = reads_of(door).key, query["limit"]
    job = await _one(door, call)
    entity = query["entity"] or job.selection.entity_id
    if entity is None:
        raise refused("entity", "is needed: the job is about a type", "an entity's id", "N14228")
    if job.selection.entity_id not in {None, entity}:
        raise refused("entity", "is not the job's", "the job's entity, or nothing", "N14228")
    after = after_of(door, call, query | {"job": job.id}, key)
    found = await read(door, call, lambda mine: mine.results(job, entity), less=AGAIN)
    left = [one for one in found if after is None or one.dt > str(after[0])]
    more = (left[limit - 1].dt,) if len(left) > limit else None
    shown_next = next_of(door, call, query | {"job": job.id}, key, more)
    return Answer(ResultPage(entity, results_of(left[:limit]), shown_next))


def _time(at_us: int | None) -> str | None:
    return None if at_us is None else instant_of(at_us)


def _slice(one: Selection) -> Slice:
    span = Span(one.from_us, one.until_us)
    return Slice(
        entity=one.entity_id,
        type=one.event_type,
        source=one.source,
        from_=_time(span.from_us if span.from_us > FIRST_US else None),
        to=_time(span.until_us if span.until_us < END_US else None),
        limit=one.limit,
        include_duplicates=one.include_duplicates,
    )


def _plan(one: Plan) -> ReplayPlan:
    return ReplayPlan(
        slice=_slice(one.selection),
        granularity=one.granularity,
        events=one.events,
        messages=one.messages,
        chunks=len(one.chunks),
        bytes=one.bytes,
        first_event_time=_time(one.first_us),
        last_event_time=_time(one.last_us),
        dollars=round(one.dollars, 6),
    )


def _job(one: Job) -> ReplayJob:
    return ReplayJob(
        job=one.id,
        state=one.state,
        reason=_reason(one),
        slice=_slice(one.selection),
        granularity=one.granularity,
        events=one.events,
        messages=one.messages,
        chunks=one.chunks,
        done_chunks=one.done_chunks,
        done_events=one.done_events,
        first_event_time=_time(one.first_us),
        last_event_time=_time(one.last_us),
        created=instant_of(one.created_us),
        ended=_time(one.ended_us),
    )


def _reason(one: Job) -> str | None:
    """Say why a job ended so; what is stored names files, which are nobody's business here."""
    words = {"stale": "rows of it are gone", "failed": "a part of it cannot be done; the operator was told"}
    return words.get(one.state) if one.reason else None


_BODY: dict[str, Any] = dict.fromkeys(JSON, NewReplay)
ROUTES = (
    Route(
        "POST",
        "/v1/replays",
        Scope.REPLAY,
        "Start a replay of a slice of your archive, or with dry_run say what it would be.",
        post_replay,
        answers={200: ReplayPlan, 202: ReplayJob},
        body=_BODY,
        parameters=(KEY_PARAMETER,),
    ),
    Route(
        "GET",
        "/v1/replays",
        _READERS,
        "List your replay jobs, newest first.",
        get_replays,
        answers={200: ReplayPage},
        parameters=_LIST,
    ),
    Route(
        "GET",
        "/v1/replays/{id}",
        _READERS,
        "Show a replay job.",
        get_replay,
        answers={200: ReplayJob},
        parameters=_ID,
    ),
    Route(
        "POST",
        "/v1/replays/{id}/resume",
        Scope.REPLAY,
        "Go on sending a replay job.",
        resume_replay,
        answers={202: ReplayJob},
        refuses=("conflict",),
        parameters=_ID,
    ),
    Route(
        "GET",
        "/v1/replays/{id}/results",
        _READERS,
        "Show what a replay job came to for one entity, by day.",
        get_replay_results,
        answers={200: ResultPage},
        parameters=_RESULTS,
    ),
)
