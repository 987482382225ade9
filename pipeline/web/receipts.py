"""`GET /v1/receipts/{id}`: what became of the events of one request, so that a caller can read its own write."""

from typing import Literal

import msgspec

from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.caller import Scope
from pipeline.core.errors import Crossed
from pipeline.core.span import instant_of
from pipeline.flows.follow import ArrivalReceipts, State
from pipeline.web.asked import asked, choice, seconds, tell_crossing
from pipeline.web.problems import Problem
from pipeline.web.reading import refusing
from pipeline.web.route import Answer, Call, Parameter, Route
from pipeline.web.threads import unavailable
from pipeline.wiring.front_door import FrontDoor

_MAX_WAIT_SECONDS = 60.0
_DEFAULT_WAIT_SECONDS = 20.0
_SHARE = 0.9  # of the request's deadline: the answer comes before it
_NO_RECEIPT = "there is no such receipt"
_LOST = (
    "the stream may have dropped events of this request before they were read; send again, with the same event_id, each "
    "that GET /v1/events/{id} does not find"
)
_WAIT = (
    choice("wait", "Answer once this is reached, or at once when it cannot be.", ("archived", "queryable")),
    seconds(
        "timeout",
        "Seconds to wait; then the answer says how far it is.",
        _DEFAULT_WAIT_SECONDS,
        _MAX_WAIT_SECONDS,
    ),
)


class ReceiptAnswer(msgspec.Struct, frozen=True):
    """How far all events of the request have come, as the one that is furthest behind.

    `lost`: the loader came after the stream's retention for some of them, perhaps all: `message` says what to do.
    `received`: in the stream. `archived`: a segment that holds them is decided, and will be written whatever fails.
    `queryable`: committed; every read finds them, or names them refused.
    """

    state: Literal["lost", "received", "archived", "queryable"]
    arrived_time: str
    message: str | None = None


async def get_receipt(door: FrontDoor, call: Call) -> Answer:
    """Say how far the events of one request have come."""
    query, receipt = asked(call, _WAIT), _read(door, call)
    wanted: State | None = query["wait"]
    patience = min(query["timeout"], door.settings.web.deadline_seconds * _SHARE)
    follower = receipts_of(door).follower
    with refusing(door, call, _NO_RECEIPT):
        state = await (follower.wait(receipt, wanted, patience) if wanted else follower.state(receipt))
    body = ReceiptAnswer(state, instant_of(receipt.arrived_us), _LOST if state == "lost" else None)
    return Answer(body, headers={"Cache-Control": "no-store"})


def _read(door: FrontDoor, call: Call) -> ArrivalReceipt:
    try:
        found = receipts_of(door).read(call.caller.tenant_id, call.path["id"])
    except Crossed:
        tell_crossing(door, call)
        found = None
    if found is None:
        raise Problem("not_found", _NO_RECEIPT)
    return found


def receipts_of(door: FrontDoor) -> ArrivalReceipts:
    """Return what makes and reads receipts.

    Raises:
        Problem: `unavailable`: this process serves no stream.
    """
    if door.receipts is None:
        raise unavailable("this process of the API serves no stream")
    return door.receipts


ROUTES = (
    Route(
        "GET",
        "/v1/receipts/{id}",
        Scope.INGEST,
        "Say how far the events of one request have come; with `wait`, once they are there, or are lost.\n\n"
        "Events that the loader flags as duplicates, or refuses after all, have come as far as the others.",
        get_receipt,
        answers={200: ReceiptAnswer},
        parameters=(
            Parameter("id", "path", "`receipt` of the answer to `POST /v1/events`.", required=True),
            *_WAIT,
        ),
    ),
)
