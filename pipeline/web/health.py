"""Whether this process lives: for a load balancer, which has no credential."""

from pipeline.web.route import OPEN, Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor


async def healthz(door: FrontDoor, call: Call) -> Answer:  # noqa: ARG001 - a handler's form
    """Answer while the event loop turns."""
    return Answer({"status": "ok"})


ROUTES = (
    Route(
        "GET", "/healthz", OPEN, "Say that this process lives.", healthz, answers={200: {"type": "object"}}
    ),
)
