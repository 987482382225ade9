"""`GET /v1/receipts/{id}`: what became of the events of one request, so that a caller can read its own write."""

from typing import Literal

import msgspec

from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.caller import Scope
from pipeline.core.errors import Crossed, OutcomeUnknown, Transient
from pipeline.core.span import instant_of
from pipeline.flows.follow import ArrivalReceipts, State
from pipeline.web.asked import asked, choice, seconds, tell_crossing
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Parameter, Route
from pipeline.web.threads import unavailable
from pipeline.wiring.front_door import FrontDoor

_MAX_WAIT_SECONDS = 60.0
_DEFAULT_WAIT_SECONDS = 20.0
_SHARE = 0.9  # of the request's deadline: the answer comes before it
_WAIT = (
    choice("wait", "Answer once this is reached.", ("archived", "queryable")),
    seconds(
        "timeout",
        "Seconds to wait; then the answer says how far it is.",
        _DEFAULT_WAIT_SECONDS,
        _MAX_WAIT_SECONDS,
    ),
)


class ReceiptAnswer(msgspec.Struct, frozen=True):
    """How far all events of the request have come.

    `received`: in the stream. `archived`: a segment that holds them is decided, and will be written whatever fails.
    `queryable`: committed; every read finds them.
    """

    state: Literal["received", "archived", "queryable"]
    arrived_time: str


async def get_receipt(door: FrontDoor, call: Call) -> Answer:
    """Say how far the events of one request have come."""
    query, receipt = asked(call, _WAIT), _read(door, call)
    wanted: State | None = query["wait"]
    patience = min(query["timeout"], door.settings.web.deadline_seconds * _SHARE)
    follower, places = receipts_of(door).follower, receipt.positions()
    try:
        state = await (follower.wait(places, wanted, patience) if wanted else follower.state(places))
    except (Transient, OutcomeUnknown) as exc:
        raise Problem("unavailable", "the ledger does not answer; try again", {"Retry-After": "2"}) from exc
    return Answer(ReceiptAnswer(state, instant_of(receipt.arrived_us)), headers={"Cache-Control": "no-store"})


def _read(door: FrontDoor, call: Call) -> ArrivalReceipt:
    try:
        found = receipts_of(door).read(call.caller.tenant_id, call.path["id"])
    except Crossed:
        tell_crossing(door, call)
        found = None
    if found is None:
        raise Problem("not_found", "there is no such receipt")
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
        "Say how far the events of one request have come; with `wait`, once they are there.\n\n"
        "Events that the loader flags as duplicates, or refuses after all, have come as far as the others.",
        get_receipt,
        answers={200: ReceiptAnswer},
        parameters=(
            Parameter("id", "path", "`receipt` of the answer to `POST /v1/events`.", required=True),
            *_WAIT,
        ),
    ),
)
