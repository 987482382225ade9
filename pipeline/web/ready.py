"""Whether this process can serve: for a load balancer. Names and states of what it depends on, and no places of it."""

import asyncio

import msgspec

from pipeline.web.route import OPEN, Answer, Call, Route
from pipeline.wiring.front_door import FrontDoor

_PATIENCE_SECONDS = 2.0  # for what was never asked; a balancer's own patience is about five


class DependencyState(msgspec.Struct, frozen=True):
    """One dependency: ok, failing, unusable, or silent (asked and no answer yet); null age: it never answered.

    The age is that of the answer; of `issuer` that of the keys, which hold for as long as they cannot be read again.
    `next_step` says which store is unusable (missing, or closed to this process), and what to do.
    """

    name: str
    state: str
    age_seconds: float | None
    next_step: str | None = None


class Readiness(msgspec.Struct, frozen=True):
    """`ready` when every dependency is ok."""

    status: str
    dependencies: list[DependencyState]


async def readyz(door: FrontDoor, call: Call) -> Answer:  # noqa: ARG001 - a handler's form
    """Answer from what was seen a few seconds ago at most; ask again where that is older."""
    if door.ready is None:
        return Answer(Readiness("ready", []))
    under_way = [asyncio.wrap_future(one) for one in door.ready.ask()]
    if under_way:  # what has not answered by then is silent
        await asyncio.wait([asyncio.shield(one) for one in under_way], timeout=_PATIENCE_SECONDS)
    seen = door.ready.look()
    ready = all(one.state == "ok" for one in seen)
    states = [
        DependencyState(
            one.name,
            one.state,
            None if one.age_seconds is None else round(one.age_seconds, 1),
            _next_step(one.unusable),
        )
        for one in seen
    ]
    headers = {"Cache-Control": "no-store"}
    return Answer(Readiness("ready" if ready else "unready", states), 200 if ready else 503, headers)


def _next_step(unusable: tuple[str, ...]) -> str | None:
    """Say what an operator does about stores, by names that are the same in every deployment."""
    if not unusable:
        return None
    return (
        f"{', '.join(unusable)}: missing, or closed to the role of this process; `headrace up` makes what is missing on a "
        "laptop, elsewhere see Upgrading in docs/operations.md"
    )


ROUTES = (
    Route(
        "GET",
        "/readyz",
        OPEN,
        "Say whether this process can serve, and how each of its dependencies is.",
        readyz,
        answers={200: Readiness, 503: Readiness},
    ),
)
