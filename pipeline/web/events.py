"""`POST /v1/events`: take events in, and answer for each of them once the stream has it.

1. read the body and judge its events while it arrives    2. take them from the plan; their bytes are paid
3. give them to the coalescer, all or none                 4. wait for the stream, until the request's deadline
5. answer by index, with a receipt
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from pipeline.core.accept import WRONG_TENANT, Accepted, NewId, Refused
from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.event import RefusalCode
from pipeline.core.rules import Rules
from pipeline.core.span import instant_of
from pipeline.flows.idempotency import Started
from pipeline.sending.coalesce import Sent
from pipeline.sending.event import new_event_id
from pipeline.web.asked import asked, tell_crossing
from pipeline.web.body import BodyLimits, body_limits, held, when_late
from pipeline.web.idempotent import KEY_PARAMETER, Unfinished, has_key, once
from pipeline.web.limits import take
from pipeline.web.problems import Problem
from pipeline.web.receipts import receipts_of
from pipeline.web.route import Answer, Call, Parameter, Route
from pipeline.web.sent import CLOUD, CLOUD_BATCH, JSON, LINES, one_at_hand, units
from pipeline.web.threads import in_thread
from pipeline.wiring.front_door import FrontDoor

RETRY_SECONDS = "2"  # a busy stream recovers by the second: Kinesis counts its limits so
_ON_THE_WAY_SECONDS = (
    300.0  # that a copy may arrive after its request came: the deadline, and a busy stream after it
)
_WITH_REQUEST = 1  # event, which is taken from the plan when the request arrives: most bring one
_LOOK_US = 1_000_000  # one look a second at most for types that a client makes up
_MAY_BE_NEW = frozenset((RefusalCode.UNKNOWN_TENANT, RefusalCode.UNKNOWN_TYPE, RefusalCode.UNKNOWN_VERSION))
_ENCODE = msgspec.json.Encoder().encode
_UNKNOWN = (
    "the stream did not answer in time, so the event may be there: send it again under the same event_id, "
    "a second copy is flagged as a duplicate and not counted"
)


class AcceptedEvent(
    msgspec.Struct, frozen=True, gc=False, omit_defaults=True, tag_field="status", tag="accepted"
):
    """The stream has the event, under this id; `event_time` is said where it came without one, and was given this."""

    index: int
    event_id: str
    event_time: str = ""


class RefusedEvent(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="refused"):
    """The event goes nowhere: `code` is a stable word, `pointer` a JSON pointer to the fault."""

    index: int
    code: str
    pointer: str
    message: str


class RetryEvent(msgspec.Struct, frozen=True, gc=False, tag_field="status", tag="retry"):
    """Nobody knows whether the stream has the event: send it again under this id."""

    index: int
    event_id: str
    message: str


EventAnswer = AcceptedEvent | RefusedEvent | RetryEvent


class EventsAnswer(msgspec.Struct, frozen=True):
    """What became of a request's events, by index; `receipt` is for `GET /v1/receipts/{id}`."""

    request_id: str
    receipt: str | None
    accepted: int
    refused: int
    retry: int
    events: list[EventAnswer]


async def post_events(door: FrontDoor, call: Call) -> Answer:
    """Take events in; under an `Idempotency-Key` once, however often they are sent."""
    if call.request.query_string:
        asked(call, ())  # refuses whatever is there
    door.tally.requests += 1
    if not has_key(call.request):
        done = await _taken(door, call, None)
        return done.answer if isinstance(done, Unfinished) else done
    body = await held(call.request, _limits(door))
    return await once(door, call, body, lambda started: _taken(door, call, started))


async def _taken(door: FrontDoor, call: Call, started: Started | None) -> Answer | Unfinished:
    """Take events in. Ids and times of those that come without are new, or those of the request's first attempt."""
    now_us = door.clock.now_us() if started is None else started.begun_us
    new_id = _any_id if started is None else started.event_id
    verdicts = _judged_at_once(door, call, now_us, new_id) or await _judged(door, call, now_us, new_id)
    if started is not None:
        _check_repeat(door, started, verdicts)
    # Refused ones too: they were read and judged.
    if len(verdicts) > _WITH_REQUEST and door.limiter is not None:
        await take(door, call.caller, 0, len(verdicts) - _WITH_REQUEST)
    taken = [one for one in verdicts if type(one) is Accepted]
    if len(taken) < len(verdicts):
        _tell_crossing(door, call, verdicts)
    if not taken:
        door.tally.refused += len(verdicts)
        raise _all_refused(verdicts)
    if len(verdicts) == 1:
        call.seen.event = taken[0]
    taken_us = (
        now_us if started is None else door.clock.now_us()
    )  # by this attempt, before the stream has them
    began, sent = door.watch.now(), _put(door, taken)
    when_late(call.request, sent.expire)
    await sent.done  # or the deadline: what is known by then is answered, the rest may still come to be
    everything = all(sent.acknowledged)
    if everything:
        door.watch.acknowledged(began)
    answer = _answer(door, call, taken_us, verdicts, sent)
    return answer if everything else Unfinished(answer)


def _check_repeat(door: FrontDoor, started: Started, verdicts: Sequence[Accepted | Refused]) -> None:
    """Refuse what an earlier attempt may have sent so long ago that a second copy would not be seen as one.

    Raises:
        Problem: `retry_unsafe`.
    """
    settings = door.settings
    window_seconds = settings.duplicates.window_hours * 3_600 - _ON_THE_WAY_SECONDS
    repeat_seconds = min(settings.web.repeat_seconds, window_seconds)
    if not started.again or door.clock.now_us() - started.begun_us <= repeat_seconds * 1_000_000:
        return
    detail = (
        f"an earlier attempt of this request, more than {repeat_seconds:.0f} seconds ago, was not answered and may have been done; "
        "sent again now, its events could be counted twice: nothing was taken this time"
    )
    ids = [one.event_id for one in verdicts if type(one) is Accepted]
    raise Problem("retry_unsafe", detail, None, begun=instant_of(started.begun_us), event_ids=ids)


def _any_id(_index: int) -> str:
    return new_event_id()


def _limits(door: FrontDoor) -> BodyLimits:
    return body_limits(door.settings.web.max_body_bytes, door.settings.events.max_inflation)


def _judged_at_once(
    door: FrontDoor, call: Call, now_us: int, new_id: NewId
) -> list[Accepted | Refused] | None:
    """Return the verdict on one event whose body is here, as nearly always; None: `_judged` has it."""
    alone = one_at_hand(call.request, _limits(door))
    if alone is None:
        return None
    acceptor = door.acceptors.of(door.rules())
    found = acceptor.judge_one(alone, call.caller.tenant_id, now_us, new_id, call.seen.traceparent)
    return None if type(found) is Refused and found.code in _MAY_BE_NEW else [found]


async def _judged(door: FrontDoor, call: Call, now_us: int, new_id: NewId) -> list[Accepted | Refused]:
    """Return the verdict on each event of the body."""
    judging = _Judging(door, call, now_us, new_id)
    async for some in units(call.request, _limits(door), call.caller.plan.max_batch_events):
        if judging.verdicts:
            await asyncio.sleep(0)  # other requests have their turn
        await judging.add(some)
    return judging.verdicts


class _Judging:
    """The verdicts on one request's events. What is unknown is looked for once more before it is refused."""

    __slots__ = ("_acceptor", "_call", "_door", "_looked", "_new_id", "_now_us", "verdicts")

    def __init__(self, door: FrontDoor, call: Call, now_us: int, new_id: NewId) -> None:
        self._door, self._call, self._now_us, self._new_id = door, call, now_us, new_id
        self._acceptor, self._looked = door.acceptors.of(door.rules()), False
        self.verdicts: list[Accepted | Refused] = []

    async def add(self, units: Sequence[bytes]) -> None:
        """Judge further events."""
        self.verdicts += await self.looked_again(units, self.judge(units))

    async def looked_again(
        self, units: Sequence[bytes], found: list[Accepted | Refused]
    ) -> list[Accepted | Refused]:
        """Return the verdicts, after a look for what was unknown; one look for a request."""
        codes = {one.code for one in found if type(one) is Refused}
        if self._looked or not codes & _MAY_BE_NEW:
            return found
        since_us = self._door.clock.now_us() - (0 if RefusalCode.UNKNOWN_TENANT in codes else _LOOK_US)
        self._looked, newer = True, await _newer(self._door, since_us)
        if newer is self._acceptor.rules:
            return found
        self._acceptor = self._door.acceptors.of(newer)
        return self.judge(units)

    def judge(self, units: Sequence[bytes]) -> list[Accepted | Refused]:
        """Return the verdicts by the rules that are known."""
        call, first = self._call, len(self.verdicts)
        trace = call.seen.traceparent
        return self._acceptor.judge(units, call.caller.tenant_id, self._now_us, self._new_id, first, trace)


async def _newer(door: FrontDoor, since_us: int) -> Rules:
    """Return rules as of then, or later: a tenant, type or version that is unknown may have been added since the last look."""
    with suppress(Problem, ConfigProblem):  # the look told it; what is known decides
        return await in_thread(door, door.rules.newest, since_us)
    return door.rules()


def _tell_crossing(door: FrontDoor, call: Call, verdicts: Sequence[Accepted | Refused]) -> None:
    """Say once for a request that it named another tenant."""
    if any(type(one) is Refused and one.code == WRONG_TENANT for one in verdicts):
        tell_crossing(door, call)


def _put(door: FrontDoor, taken: Sequence[Accepted]) -> Sent:
    try:
        return door.ingest.put_all(taken)
    except Transient as exc:
        detail = "the stream is busy, and what waits for it fills the memory set aside: nothing was taken, try again"
        raise Problem("busy", detail, {"Retry-After": RETRY_SECONDS}) from exc
    except ConfigProblem as exc:
        detail = "the stream cannot be reached by this process: nothing was taken, try again"
        raise Problem("unavailable", detail, {"Retry-After": RETRY_SECONDS}) from exc


def _answer(
    door: FrontDoor, call: Call, taken_us: int, verdicts: Sequence[Accepted | Refused], sent: Sent
) -> Answer:
    accepted = call.seen.events = sum(sent.acknowledged)
    retry = len(sent.acknowledged) - accepted
    refused = len(verdicts) - accepted - retry
    door.tally.count(accepted, refused, retry)
    events = _each(verdicts, sent) if refused or retry else _accepted(verdicts)
    if not accepted and retry:
        headers = {"Retry-After": RETRY_SECONDS}
        raise Problem("busy", _UNKNOWN, headers, retry=retry, refused=refused, events=events)
    receipt = receipts_of(door).text(call.caller.tenant_id, _arrival(taken_us, sent))
    body = EventsAnswer(call.request_id, receipt, accepted, refused, retry, events)
    return Answer(_ENCODE(body), 202 if accepted == len(events) else 207)


def _accepted(verdicts: Sequence[Accepted | Refused]) -> list[EventAnswer]:
    """Return the answers where the stream has every event, as nearly always."""
    return [AcceptedEvent(index, one.event_id, one.event_time) for index, one in enumerate(verdicts)]  # type: ignore[union-attr]


def _each(verdicts: Sequence[Accepted | Refused], sent: Sent) -> list[EventAnswer]:
    acknowledged = iter(sent.acknowledged)
    events: list[EventAnswer] = []
    for index, one in enumerate(verdicts):
        if type(one) is Refused:
            events.append(RefusedEvent(index, one.code, one.pointer, one.message))
        elif next(acknowledged):
            events.append(AcceptedEvent(index, one.event_id, one.event_time))  # type: ignore[union-attr]
        else:
            events.append(RetryEvent(index, one.event_id, _UNKNOWN))  # type: ignore[union-attr]
    return events


def _arrival(taken_us: int, sent: Sent) -> ArrivalReceipt:
    places = tuple([(shard, one.number, one.event) for shard, one in sent.furthest.items()])
    firsts = sent.firsts
    if not firsts:
        return ArrivalReceipt(taken_us, places)
    return ArrivalReceipt(
        taken_us, places, tuple([firsts[shard].number if shard in firsts else "" for shard in sent.furthest])
    )


def _all_refused(verdicts: Sequence[Accepted | Refused]) -> Problem:
    events = [
        RefusedEvent(index, one.code, one.pointer, one.message)
        for index, one in enumerate(verdicts)
        if type(one) is Refused
    ]
    first = events[0]
    detail = f"{len(events)} of {len(events)} refused; the first: {first.code} at {first.pointer or 'the whole event'}"
    return Problem("all_refused", detail, None, refused=len(events), events=events)


ROUTES = (
    Route(
        "POST",
        "/v1/events",
        Scope.INGEST,
        "Take events in: 202 once the stream has all of them, 207 on a mix, 400 when all are refused.\n\n"
        "Missing `event_id`, `event_time` and `tenant_id` are filled in; ids and filled-in times are in the answer. `received_time` is the "
        "server's. The body may be gzipped (`Content-Encoding: gzip`). A CloudEvent in binary mode has its attributes in "
        "`ce-` headers.",
        post_events,
        events=_WITH_REQUEST,
        answers={202: EventsAnswer, 207: EventsAnswer},
        refuses=("all_refused", "busy", "retry_unsafe"),
        body={
            JSON: {
                "oneOf": [{"type": "object"}, {"type": "array", "items": {"type": "object"}, "minItems": 1}]
            },
            LINES: {"type": "string", "description": "One event a line."},
            CLOUD: {"type": "object", "description": "One CloudEvent."},
            CLOUD_BATCH: {"type": "array", "items": {"type": "object"}, "minItems": 1},
        },
        parameters=(
            KEY_PARAMETER,
            Parameter(
                "Content-Encoding",
                "header",
                "`gzip`, or nothing.",
                {"type": "string", "enum": ["gzip", "identity"]},
            ),
        ),
    ),
)
