"""All routes. What is not here does not exist; each says which scope it needs."""

from pipeline.web import (
    events,
    health,
    lag,
    metrics,
    openapi,
    quarantine,
    ratelimit,
    reads,
    ready,
    receipts,
    replays,
    schemas,
    traces,
)
from pipeline.web.route import Route

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *ready.ROUTES,
    *metrics.ROUTES,
    *openapi.ROUTES,
    *events.ROUTES,
    *receipts.ROUTES,
    *reads.ROUTES,
    *traces.ROUTES,
    *schemas.ROUTES,
    *quarantine.ROUTES,
    *lag.ROUTES,
    *replays.ROUTES,
    *ratelimit.ROUTES,
)
