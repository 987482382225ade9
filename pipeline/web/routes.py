"""All routes. What is not here does not exist; each says which scope it needs."""

from pipeline.web import events, health, openapi, receipts
from pipeline.web.route import Route

ROUTES: tuple[Route, ...] = (*health.ROUTES, *openapi.ROUTES, *events.ROUTES, *receipts.ROUTES)
