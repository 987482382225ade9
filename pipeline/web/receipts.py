"""`GET /v1/receipts/{id}`: what became of the events of one request, so that a caller can read its own write."""

from typing import Literal

import msgspec

from pipeline.core.arrival_receipt import ArrivalReceipt
from pipeline.core.caller import Scope
from pipeline.core.errors import Crossed, OutcomeUnknown, Transient
from pipeline.core.span import instant_of
from pipeline.flows.follow import ArrivalReceipts, State
from pipeline.web.asked import tell_crossing
from pipeline.web.problems import Problem
from pipeline.web.route import Answer, Call, Parameter, Route
from pipeline.wiring.front_door import FrontDoor

_MAX_WAIT_SECONDS = 60.0
_DEFAULT_WAIT_SECONDS = 20.0
_WANTED: dict[str, State] = {"archived": "archived", "queryable": "queryable"}


class ReceiptAnswer(msgspec.Struct, frozen=True):
    """How far all events of the request have come.

    `received`: in the stream. `archived`: a segment that holds them is decided, and will be written whatever fails.
    `queryable`: committed; every read finds them.
    """

    state: Literal["received", "archived", "queryable"]
    arrived_time: str


async def get_receipt(door: FrontDoor, call: Call) -> Answer:
    """Say how far the events of one request have come."""
    receipt = _read(door, call)
    wanted, seconds = _wanted(call), _seconds(call, door.settings.web.deadline_seconds)
    follower, places = receipts_of(door).follower, receipt.positions()
    try:
        state = await (follower.wait(places, wanted, seconds) if wanted else follower.state(places))
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
        raise Problem("unavailable", "this process of the API serves no stream")
    return door.receipts


def _wanted(call: Call) -> State | None:
    text = call.request.get_param("wait")
    if text is None:
        return None
    if text not in _WANTED:
        raise Problem("invalid", "wait must be archived or queryable", None, parameter="wait")
    return _WANTED[text]


def _seconds(call: Call, deadline_seconds: float) -> float:
    """Return how long to wait: what was asked for, at most as long as a request may take."""
    text = call.request.get_param("timeout")
    most = min(_MAX_WAIT_SECONDS, deadline_seconds * 0.9)
    if text is None:
        return min(_DEFAULT_WAIT_SECONDS, most)
    if not (text.isascii() and text.replace(".", "", 1).isdigit() and len(text) <= len("86400.000")):
        raise Problem("invalid", "timeout must be a number of seconds", None, parameter="timeout")
    return min(float(text), most)


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
            Parameter(
                "wait",
                "query",
                "Answer once this is reached.",
                {"type": "string", "enum": ["archived", "queryable"]},
            ),
            Parameter(
                "timeout",
                "query",
                "Seconds to wait; then the answer says how far it is.",
                {"type": "number", "minimum": 0},
            ),
        ),
    ),
)
