"""All routes. What is not here does not exist; each says which scope it needs."""

from pipeline.web import health, ratelimit
from pipeline.web.route import Route

ROUTES: tuple[Route, ...] = (*health.ROUTES, *ratelimit.ROUTES)
