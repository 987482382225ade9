"""All routes. What is not here does not exist; each says which scope it needs."""

from pipeline.web import health, lag, quarantine, reads, ready, replays, schemas, traces
from pipeline.web.route import Route

ROUTES: tuple[Route, ...] = (
    *health.ROUTES,
    *ready.ROUTES,
    *reads.ROUTES,
    *traces.ROUTES,
    *schemas.ROUTES,
    *quarantine.ROUTES,
    *lag.ROUTES,
    *replays.ROUTES,
)
