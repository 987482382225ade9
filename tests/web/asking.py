"""A client without a server, for tests of single routes."""

from typing import Any

from falcon.testing import TestClient

from pipeline.web.app import Application


class _AsServed:
    """Shows the application heads as a server does: the framework's test tool gives headers that can be read once alone."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["headers"] = [tuple(header) for header in scope["headers"]]
        await self._application(scope, receive, send)


def client_of(application: Application) -> TestClient:
    """Return a client of an application."""
    return TestClient(_AsServed(application))
