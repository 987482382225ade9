"""The application: routes to responders, and the one way of a request.

1. give the request its ids    2. authenticate, unless the route is open     3. check the scope
4. take from the plan: the request, its first event, the bytes of its body       5. let the handler answer
6. turn what was raised into a problem
7. charge what was read of the body beyond what was paid
"""

from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property, lru_cache
from typing import Any

import falcon.asgi
import msgspec

from pipeline.core.caller import Denied
from pipeline.core.errors import Corrupt, StoreUnusable
from pipeline.facts import DamageFound, RequestFailed, StoreMissed, place_of
from pipeline.flows.watch import NO_ROUTE, Seen
from pipeline.web.asked import check_query
from pipeline.web.entry import (
    BodyTimeout,
    Event,
    Receive,
    Send,
    begin,
    body_timeout,
    note_tenant,
    size_of,
    values_of,
)
from pipeline.web.gate import Gate
from pipeline.web.limits import declared_bytes, settle, take, taken
from pipeline.web.problems import DAMAGED, MEDIA_TYPE, Problem
from pipeline.web.route import Answer, Call, Open, Route
from pipeline.web.routes import ROUTES
from pipeline.web.threads import unavailable
from pipeline.wiring.front_door import FrontDoor

Responder = Callable[..., Awaitable[None]]
_NO_BODY = frozenset({204, 304})
_OURS = (
    "the fault is ours and was noted; what was sent may have been taken: name the request_id to the operator"
)
_UNDEPLOYED = (
    "a store that this needs is missing in this deployment, or closed to it: nothing was done; the operator was told, and "
    "GET /readyz names it"
)


class Application(falcon.asgi.App[Any, Any]):
    """The framework's application, and a shorter way to routes whose path has no parameter.

    What the framework does for every request of any application (middleware, media, streams, cookies) costs as much as to
    judge an event. Both ways lead through the same responder.
    """

    def __init__(self) -> None:
        super().__init__()
        self.direct: dict[tuple[str, str], Responder] = {}  # by method and path

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:  # type: ignore[override]
        """Answer one request (ASGI)."""
        responder = self.direct.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if responder is None:
            await super().__call__(scope, receive, send)
            return
        first = None
        if not values_of(
            scope, b"expect"
        ):  # who asks first is told to send by whoever reads the body, or is refused
            first = await receive()
            if first["type"] == "http.disconnect":
                return
        reply = Reply()
        await responder(Plain(scope, lambda: self._request(scope, receive, first)), reply)
        await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers()})
        await send({"type": "http.response.body", "body": reply.data})

    def _request(self, scope: dict[str, Any], receive: Receive, first: Event | None) -> falcon.asgi.Request:
        request = falcon.asgi.Request(scope, receive, first, self.req_options)
        request.uri_template = scope["path"]
        return request


class Plain:
    """A request on the shorter way: its head as it came; the framework's request is made when a handler asks for more."""

    def __init__(self, scope: dict[str, Any], make: Callable[[], falcon.asgi.Request]) -> None:
        self.scope, self._make = scope, make
        self.query_string = scope["query_string"].decode()

    def __getattr__(self, name: str) -> Any:
        """Return what the framework's request has; Python asks here for what is not here yet."""
        return getattr(self._whole, name)

    @cached_property
    def _whole(self) -> falcon.asgi.Request:
        return self._make()


class Reply:
    """An answer on the shorter way: as much of the framework's response as responders use."""

    __slots__ = ("_headers", "content_type", "data", "status")

    def __init__(self) -> None:
        self.status, self.content_type, self.data = 200, "application/json", b""
        self._headers: dict[str, str] = {}

    def set_headers(self, headers: dict[str, str]) -> None:
        """Add headers; the last value of a name counts."""
        self._headers.update(headers)

    def headers(self) -> list[tuple[bytes, bytes]]:
        """Return all headers, those of the body included."""
        found = [(_field_name(name), value.encode("latin-1")) for name, value in self._headers.items()]
        if self.status not in _NO_BODY:
            found.append((b"content-length", b"%d" % len(self.data)))
        found.append((b"content-type", self.content_type.encode("latin-1")))
        return found


@lru_cache(maxsize=256)  # ours are few
def _field_name(name: str) -> bytes:
    return name.lower().encode("latin-1")


Response = falcon.asgi.Response | Reply


def make_app(door: FrontDoor, gate: Gate, routes: Iterable[Route] = ROUTES) -> Application:
    """Return the ASGI application."""
    app = Application()
    by_path: dict[str, dict[str, Route]] = defaultdict(dict)
    for route in routes:
        by_path[route.path][route.method] = route
    for path, methods in by_path.items():
        resource = _resource(door, gate, methods)
        app.add_route(path, resource)
        if "{" not in path:
            app.direct |= {(method, path): getattr(resource, f"on_{method.lower()}") for method in methods}
    app.add_error_handler(falcon.HTTPError, _refuser(door))
    return app


class _Resource:
    """Holds the responders of one path, where the framework looks for them."""


def _resource(door: FrontDoor, gate: Gate, methods: dict[str, Route]) -> _Resource:
    resource = _Resource()
    for method, route in methods.items():
        responder = _responder(door, gate, route)
        setattr(resource, f"on_{method.lower()}", responder)
        if method == "GET":
            resource.on_head = responder  # type: ignore[attr-defined] # RFC 9110: what GET answers, without the body
    allowed = {*methods, "OPTIONS"} | ({"HEAD"} if "GET" in methods else set())
    resource.on_options = _options(door, sorted(allowed))  # type: ignore[attr-defined]
    return resource


def _options(door: FrontDoor, methods: Iterable[str]) -> Responder:
    """Return what names the methods of a path: the framework's own says neither request nor trace, and is not counted."""
    watch, watched, allow = door.watch, door.watch.route(NO_ROUTE), ", ".join(methods)

    async def respond(request: falcon.asgi.Request, response: Response, **path: str) -> None:  # noqa: ARG001 - as all are called
        seen = begin(watch, request.scope)
        name_request(response, seen)
        response.set_headers({"Allow": allow})
        watch.end(seen, watched, 200, "", size_of(request.scope))

    return respond


def _responder(door: FrontDoor, gate: Gate, route: Route) -> Responder:
    is_open, handler, nobody = isinstance(route.needs, Open), route.handler, gate.nobody
    where = f"{route.method} {route.path}"
    watch, watched = door.watch, door.watch.route(where)
    counted = route.costs and not is_open and door.limiter is not None
    pays, brings = counted and bool(route.body), route.events

    async def respond(request: falcon.asgi.Request, response: Response, **path: str) -> None:
        seen, code = begin(watch, request.scope), ""
        request_id = seen.request_id
        name_request(response, seen)
        paid_bytes = 0
        try:
            caller = nobody if is_open else await gate.admit(request, route)
            seen.tenant, seen.credential = caller.tenant_id, caller.credential
            note_tenant(request.scope, caller.tenant_id)
            if counted:
                size = declared_bytes(door, request) if pays else 0
                decision = taken(door, caller, 1, brings, size) or await take(door, caller, 1, brings, size)
                paid_bytes = size
                response.set_headers(decision.headers())
            call = Call(caller, request_id, seen.trace_id, request, path, seen)
            if request.query_string and not is_open:
                check_query(door, call)
            answer = await handler(door, call)
        except Exception as exc:  # noqa: BLE001 - the boundary of a request: the others go on
            # No name for the problem: mostly it is `exc` itself, and a frame that kept it would keep itself, body and all.
            status, code = write_problem(response, _problem(door, gate, exc, request_id, where), request_id)
        else:
            status = answer.status
            _write(response, answer)
        finally:
            if paid_bytes:
                settle(door, caller, paid_bytes, request)
        watch.end(seen, watched, status, code, size_of(request.scope))

    return respond


def _problem(door: FrontDoor, gate: Gate, exc: Exception, request_id: str, where: str) -> Problem:
    """Return what the caller is told of what was raised, and tell the operator what is the operator's."""
    if isinstance(exc, Problem):
        return exc
    if isinstance(exc, Denied):
        return gate.problem(exc)
    if isinstance(exc, BodyTimeout):
        return body_timeout()
    if isinstance(exc, StoreUnusable):
        door.facts(StoreMissed(request_id, where, str(exc)))
        return unavailable(_UNDEPLOYED)
    if isinstance(exc, Corrupt):
        door.facts(DamageFound(where, request_id, str(exc)))
        return Problem("internal", DAMAGED)
    door.facts(RequestFailed(request_id, where, place_of(exc)))
    return Problem("internal", _OURS)


def name_request(response: Response, seen: Seen) -> None:
    """Say in the answer which request it is of, and which trace."""
    response.set_headers({"X-Request-Id": seen.request_id, "X-Trace-Id": seen.trace_id})


def _write(response: Response, answer: Answer) -> None:
    response.status = answer.status
    response.content_type = answer.media_type
    if answer.body is not None:
        response.data = answer.body if isinstance(answer.body, bytes) else msgspec.json.encode(answer.body)
    if answer.headers:
        response.set_headers(answer.headers)


def write_problem(response: Response, problem: Problem, request_id: str) -> tuple[int, str]:
    """Make a refusal the answer; return its status and code."""
    response.status, response.content_type = problem.status, MEDIA_TYPE
    response.data = problem.document(request_id)
    response.set_headers(problem.headers)
    return problem.status, problem.code


_FRAMEWORK = {404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "unsupported_media_type"}
_REFERENCE = "see the reference at /docs"
_SAYS = {
    400: "this is no method of HTTP: GET /docs lists the routes and the method of each",
    404: "no route has this path: GET /docs lists them",
    405: "this path does not take this method: the header Allow lists those that it takes",
}


def _refuser(door: FrontDoor) -> Responder:
    watch, watched = door.watch, door.watch.route(NO_ROUTE)

    async def refused(
        request: falcon.asgi.Request,
        response: falcon.asgi.Response,
        error: falcon.HTTPError,
        params: dict[str, Any],  # noqa: ARG001 - the framework's form
    ) -> None:
        """The framework itself refused: no such path, no such method."""
        seen = begin(watch, request.scope)
        name_request(response, seen)
        code = _FRAMEWORK.get(error.status_code, "bad_request")
        problem = Problem(
            code, _SAYS.get(error.status_code, error.title or _REFERENCE), dict(error.headers or {})
        )
        write_problem(response, problem, seen.request_id)
        watch.end(seen, watched, problem.status, code, size_of(request.scope))

    return refused
