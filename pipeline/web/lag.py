"""How far the archive is behind, and what is used of the plan: what a caller may know of the service itself."""

import msgspec

from pipeline.core.caller import Scope
from pipeline.core.errors import Corrupt, HeadraceError, StoreUnusable
from pipeline.core.span import instant_of
from pipeline.flows.tenant_reads import TenantReads
from pipeline.web.asked import asked
from pipeline.web.reading import AGAIN, read
from pipeline.web.route import Answer, AnyOf, Call, Route
from pipeline.web.threads import in_table, unavailable
from pipeline.wiring.front_door import FrontDoor

_EVERY_SCOPE = AnyOf(frozenset(Scope))


class StreamLag(msgspec.Struct, frozen=True):
    """One stream: everything that arrived until `archived_until` can be read. Null: nobody can say yet.

    A quiet shard's time moves on every few minutes only; `behind_seconds` is at most so much.
    """

    stream: str
    archived_until: str | None
    behind_seconds: float | None


class Lag(msgspec.Struct, frozen=True):
    """How far the archive is behind its streams; a few seconds old."""

    streams: list[StreamLag]


class PlanLimits(msgspec.Struct, frozen=True):
    """What a plan allows."""

    name: str
    requests_per_second: int
    burst_requests: int
    requests_per_month: int
    events_per_second: int
    bytes_per_second: int
    max_batch_events: int


class PlanUsage(msgspec.Struct, frozen=True):
    """Your plan, and what is used and left of it in this month of UTC, and in its buckets (`left_now`).

    `requests_per_second` is the credential's own limit, if it has one.
    """

    plan: PlanLimits
    requests_per_second: int | None
    month: str
    used_requests: int
    left_requests: int
    resets: str
    left_now: dict[str, int]


async def get_lag(door: FrontDoor, call: Call) -> Answer:
    """Say how far the archive is behind."""
    asked(call, ())
    seen = await read(door, call, TenantReads.freshness, less=AGAIN)
    now_us = door.clock.now_us()
    streams = [
        StreamLag(name, None, None)
        if until is None
        else StreamLag(name, instant_of(until), round(max(now_us - until, 0) / 1e6, 3))
        for name, until in seen
    ]
    return Answer(Lag(streams))


async def get_usage(door: FrontDoor, call: Call) -> Answer:
    """Say what is used of the plan."""
    asked(call, ())
    if door.limiter is None:
        raise unavailable("this process counts no requests")
    try:
        used = await in_table(door, door.limiter.usage, call.caller)
    except (Corrupt, StoreUnusable):
        raise  # told by name
    except HeadraceError as exc:
        raise unavailable() from exc
    limits = {name: getattr(call.caller.plan, name) for name in PlanLimits.__struct_fields__}
    return Answer(
        PlanUsage(
            PlanLimits(**limits),
            call.caller.requests_per_second,
            used.month,
            used.used,
            used.left,
            instant_of(used.resets_at_us),
            {one.name: one.remaining for one in used.now},
        )
    )


ROUTES = (
    Route(
        "GET",
        "/v1/lag",
        AnyOf(frozenset({Scope.READ, Scope.INGEST})),
        "Say how far the archive is behind the streams.",
        get_lag,
        answers={200: Lag},
    ),
    Route(
        "GET",
        "/v1/usage",
        _EVERY_SCOPE,
        "Say what your plan is, what is used of it and what is left.",
        get_usage,
        answers={200: PlanUsage},
        costs=False,
    ),
)
