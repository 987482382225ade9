"""`GET /metrics`: this process' metrics for Prometheus, for the operator alone: they name tenants.

No tenant's credential opens it; `web.metrics_token` does.
"""

import asyncio
import hmac

from pipeline.web.entry import values_of
from pipeline.web.problems import Problem
from pipeline.web.route import OPEN, Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"  # of Prometheus' text format
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="metrics"'}


async def get_metrics(door: FrontDoor, call: Call) -> Answer:
    """Answer whoever shows the operator's token."""
    if door.metrics is None:
        raise Problem(
            "not_found",
            "this process shows no metrics here: the operator sets web.metrics_token, or scrapes metrics.prometheus_port",
        )
    shown = values_of(call.request.scope, b"authorization")
    wanted = b"Bearer " + door.metrics.token.encode()
    if len(shown) != 1 or not hmac.compare_digest(shown[0], wanted):
        raise Problem(
            "unauthenticated", "this needs `Authorization: Bearer TOKEN`, of web.metrics_token", _CHALLENGE
        )
    page = await asyncio.to_thread(door.metrics.write)  # whatever store hangs
    return Answer(page, headers={"Cache-Control": "no-store"}, media_type=MEDIA_TYPE)


ROUTES = (
    Route(
        "GET",
        "/metrics",
        OPEN,
        "Show this process' metrics to Prometheus.\n\n"
        "With the token of the setting `web.metrics_token`, which is the operator's: no tenant's credential opens it. Without "
        "that setting, and where several processes share the port (`web.workers`), there is no such page here.",
        get_metrics,
        answers={200: {"type": "string"}},
        gives=MEDIA_TYPE,
        refuses=("unauthenticated", "not_found"),
    ),
)
