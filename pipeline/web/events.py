"""`POST /v1/events`: take events in, and answer for each of them once the stream has it.

1. read the body and judge its events while it arrives    2. take them from the plan; their bytes are paid
3. give them to the coalescer, all or none                 4. wait for the stream, until the request's deadline
5. answer by index, with a receipt
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

import msgspec

from pipeline.core.accept import Accepted, NewId, Refused
from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.caller import Scope
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.event import RefusalCode
from pipeline.core.rules import Rules
from pipeline.core.span import instant_of
from pipeline.flows.idempotency import Started
from pipeline.sending.batches import Item
from pipeline.sending.coalesce import Sent
from pipeline.sending.event import new_event_id
from pipeline.web.asked import asked, tell_crossing
from pipeline.web.body import BodyLimits, body_limits, held, is_late, when_late
from pipeline.web.event_answers import UNKNOWN, EventsAnswer, Gathered, first_refusal, with_retries
from pipeline.web.idempotent import KEY_PARAMETER, Unfinished, has_key, once
from pipeline.web.limits import take
from pipeline.web.problems import Problem
from pipeline.web.receipts import receipts_of
from pipeline.web.route import Answer, Call, Parameter, Route
from pipeline.web.sent import CLOUD, CLOUD_BATCH, JSON, LINES, one_at_hand, pieces, units
from pipeline.web.threads import in_thread
from pipeline.wiring.front_door import FrontDoor

RETRY_SECONDS = "2"  # a busy stream recovers by the second: Kinesis counts its limits so
_ON_THE_WAY_SECONDS = (
    300.0  # that a copy may arrive after its request came: the deadline, and a busy stream after it
)
_WITH_REQUEST = 1  # event, which is taken from the plan when the request arrives: most bring one
_LOOKED_AT_BYTES = 16_384  # of events that need a closer look, judged in one go: 5 ms at most, or one event
_LATE = "the events were not judged before the request's deadline (web.deadline_seconds): nothing was taken, send fewer at once"
_SHORT_SECONDS = 0.001
_LOOK_US = 1_000_000  # one look a second at most for types that a client makes up
_MAY_BE_NEW = frozenset((RefusalCode.UNKNOWN_TENANT, RefusalCode.UNKNOWN_TYPE, RefusalCode.UNKNOWN_VERSION))
_ENCODE = msgspec.json.Encoder().encode


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


class _Given(NamedTuple):
    """A request's events once they are given to the stream."""

    sent: Sent
    answers: msgspec.Raw  # list of `EventAnswer`, if the stream takes them all
    refused: Mapping[str, int]  # by code
    taken_us: int  # before the stream had them
    began: float  # the same, on the clock of traces


async def _taken(door: FrontDoor, call: Call, started: Started | None) -> Answer | Unfinished:
    """Take events in. Ids and times of those that come without are new, or those of the request's first attempt."""
    given = await _given(door, call, started)
    sent = given.sent
    when_late(call.request, sent.expire)
    await sent.done  # or the deadline: what is known by then is answered, the rest may still come to be
    if all(sent.acknowledged):
        door.watch.acknowledged(given.began)
        return _answer(door, call, given)
    return Unfinished(_answer(door, call, given))


async def _given(door: FrontDoor, call: Call, started: Started | None) -> _Given:
    """Judge a request's events, take them from the plan, and give them to the stream; what they were judged as ends here."""
    now_us = door.clock.now_us() if started is None else started.begun_us
    new_id = _any_id if started is None else started.event_id
    gathered = Gathered(door.ingest)
    alone = _judged_at_once(door, call, now_us, new_id)
    try:
        if type(alone) is Accepted:
            gathered.add_alone(alone)
        elif alone is not None:
            gathered.add((alone,))
        else:
            await _judge(door, call, now_us, new_id, gathered)
    finally:  # it was tried, whatever becomes of the request
        if gathered.crossed:
            tell_crossing(door, call)
    if started is not None:
        _check_repeat(door, started, gathered)
    # Refused ones too: they were read and judged.
    if gathered.count > _WITH_REQUEST and door.limiter is not None:
        await take(door, call.caller, 0, gathered.count - _WITH_REQUEST)
    if not gathered.items:
        door.tally.count(0, 0, gathered.refused)
        raise _all_refused(gathered)
    if gathered.count == 1:
        call.seen.event = gathered.latest
    if is_late(call.request):  # judging took that long; whoever asked is about to ask again
        raise Problem("busy", _LATE, {"Retry-After": RETRY_SECONDS})
    taken_us = now_us if started is None else door.clock.now_us()  # by this attempt
    answers, began = gathered.answers(), door.watch.now()
    return _Given(_put(door, gathered.items), answers, gathered.refused, taken_us, began)


def _check_repeat(door: FrontDoor, started: Started, gathered: Gathered) -> None:
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
    begun, ids = instant_of(started.begun_us), gathered.event_ids()
    raise Problem("retry_unsafe", detail, None, begun=begun, event_ids=ids)


def _any_id(_index: int) -> str:
    return new_event_id()


def _limits(door: FrontDoor) -> BodyLimits:
    return body_limits(door.settings.web.max_body_bytes, door.settings.events.max_inflation)


def _judged_at_once(door: FrontDoor, call: Call, now_us: int, new_id: NewId) -> Accepted | Refused | None:
    """Return the verdict on one event whose body is here, as nearly always; None: `_judge` has it."""
    alone = one_at_hand(call.request, _limits(door))
    if alone is None:
        return None
    acceptor = door.acceptors.of(door.rules())
    found = acceptor.judge_one(alone, call.caller.tenant_id, now_us, new_id, call.seen.traceparent)
    return None if type(found) is Refused and found.code in _MAY_BE_NEW else found


async def _judge(door: FrontDoor, call: Call, now_us: int, new_id: NewId, gathered: Gathered) -> None:
    """Gather the events of the body. What is unknown is looked for once more before it is refused."""
    judging = _Judging(door, call, now_us, new_id)
    async for some in units(call.request, _limits(door), call.caller.plan.max_batch_events):
        if gathered.count:
            await asyncio.sleep(0)  # other requests have their turn
        found = await judging.judge(some, gathered.count)
        if judging.may_be_new(found) and await judging.look_again(found):
            found = await judging.judge(some, gathered.count)
        gathered.add(found)


class _Judging:
    """What judges the events of one request."""

    __slots__ = ("_acceptor", "_call", "_door", "_looked", "_new_id", "_now_us")

    def __init__(self, door: FrontDoor, call: Call, now_us: int, new_id: NewId) -> None:
        self._door, self._call, self._now_us, self._new_id = door, call, now_us, new_id
        self._acceptor, self._looked = door.acceptors.of(door.rules()), False

    async def judge(self, units: list[bytes], first: int) -> list[Accepted | Refused]:
        """Return the verdicts by the rules that are known; `first` is the index of the first event.

        What needs a closer look is judged a little at a time, for it may take milliseconds; other requests have the core as
        long between.
        """
        tenant, trace = self._call.caller.tenant_id, self._call.seen.traceparent
        found = self._acceptor.judge_together(units, tenant, self._now_us, self._new_id, trace)
        if found is not None:
            return found
        found, now = [], asyncio.get_running_loop().time
        for some in pieces(units, _LOOKED_AT_BYTES):
            began, index = now(), first + len(found)
            found += self._acceptor.judge(some, tenant, self._now_us, self._new_id, index, trace)
            spent = now() - began
            # Ready at once, it would keep the interpreter from the threads that bring requests and talk to the stream.
            await asyncio.sleep(spent if spent > _SHORT_SECONDS else 0)
        return found

    def may_be_new(self, found: Sequence[Accepted | Refused]) -> bool:
        """True when something is unknown that nobody has looked for yet; one look for a request."""
        return not self._looked and any(type(one) is Refused and one.code in _MAY_BE_NEW for one in found)

    async def look_again(self, found: Sequence[Accepted | Refused]) -> bool:
        """Judge by the newest rules from here on; True when they are others."""
        door, self._looked = self._door, True
        new_tenant = any(type(one) is Refused and one.code == RefusalCode.UNKNOWN_TENANT for one in found)
        newest = await _newer(door, door.clock.now_us() - (0 if new_tenant else _LOOK_US))
        known, self._acceptor = self._acceptor, door.acceptors.of(newest)
        return self._acceptor is not known


async def _newer(door: FrontDoor, since_us: int) -> Rules:
    """Return rules as of then, or later: a tenant, type or version that is unknown may have been added since the last look."""
    with suppress(Problem, ConfigProblem):  # the look told it; what is known decides
        return await in_thread(door, door.rules.newest, since_us)
    return door.rules()


def _put(door: FrontDoor, items: list[Item]) -> Sent:
    try:
        return door.ingest.put_all(items)
    except Transient as exc:
        detail = "the stream is busy, and what waits for it fills the memory set aside: nothing was taken, try again"
        raise Problem("busy", detail, {"Retry-After": RETRY_SECONDS}) from exc
    except ConfigProblem as exc:
        detail = "the stream cannot be reached by this process: nothing was taken, try again"
        raise Problem("unavailable", detail, {"Retry-After": RETRY_SECONDS}) from exc


def _answer(door: FrontDoor, call: Call, given: _Given) -> Answer:
    sent, refused = given.sent, sum(given.refused.values())
    accepted = call.seen.events = sum(sent.acknowledged)
    retry = len(sent.acknowledged) - accepted
    door.tally.count(accepted, retry, given.refused)
    events = with_retries(given.answers, sent.acknowledged) if retry else given.answers
    if not accepted:
        headers = {"Retry-After": RETRY_SECONDS}
        raise Problem("busy", UNKNOWN, headers, retry=retry, refused=refused, events=events)
    receipt = receipts_of(door).text(call.caller.tenant_id, _arrival(given.taken_us, sent))
    body = EventsAnswer(call.request_id, receipt, accepted, refused, retry, events)  # type: ignore[arg-type] # written as what it holds
    return Answer(_ENCODE(body), 207 if refused or retry else 202)


def _arrival(taken_us: int, sent: Sent) -> ArrivalReceipt:
    places = tuple([(shard, one.number, one.event) for shard, one in sent.furthest.items()])
    firsts = sent.firsts
    if not firsts:
        return ArrivalReceipt(taken_us, places)
    return ArrivalReceipt(
        taken_us, places, tuple([firsts[shard].number if shard in firsts else "" for shard in sent.furthest])
    )


def _all_refused(gathered: Gathered) -> Problem:
    count, events = gathered.count, gathered.answers()
    detail = f"{count} of {count} refused; the first: {first_refusal(events)}"
    return Problem("all_refused", detail, None, refused=count, events=events)


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
