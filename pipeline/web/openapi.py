"""`GET /openapi.json` and `GET /docs`: both written from the table of routes, once."""

import html
from collections.abc import Iterable
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec

from pipeline import __version__
from pipeline.core.accept import CODES
from pipeline.web.idempotent import KEY_PARAMETER
from pipeline.web.problems import MEDIA_TYPE, PROBLEMS
from pipeline.web.refusal_words import MEANINGS
from pipeline.web.route import OPEN, Answer, Call, Open, Parameter, Route
from pipeline.wiring.front_door import FrontDoor

_REF = "#/components/schemas/{name}"
_PROBLEM: dict[str, Any] = {
    "type": "object",
    "description": "A refusal (RFC 9457).",
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "enum": sorted(PROBLEMS)},
        "request_id": {"type": "string"},
    },
    "required": ["type", "title", "status", "detail", "code", "request_id"],
}
_WITH_RETRY_AFTER = frozenset((409, 429, 503))
_SCHEMES = {
    "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
    "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
}


def openapi(routes: Iterable[Route]) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of some routes."""
    table = tuple(routes)
    bodies = [one for route in table for one in (*route.answers.values(), *route.body.values())]
    structs = list(dict.fromkeys(one for one in bodies if isinstance(one, type)))
    shapes, components = msgspec.json.schema_components(structs, ref_template=_REF)
    schema_of = dict(zip(structs, shapes, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in table:
        paths.setdefault(route.plain_path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "headrace",
            "version": __version__,
            "summary": "Events in, answers out, exactly once.",
        },
        "paths": paths,
        "components": {"schemas": {**components, "Problem": _PROBLEM}, "securitySchemes": _SCHEMES},
    }


def _operation(route: Route, schema_of: dict[Any, Any]) -> dict[str, Any]:
    says, _, more = route.says.partition("\n\n")
    found: dict[str, Any] = {
        "operationId": route.handler.__name__,
        "summary": says,
        "parameters": [_parameter(one) for one in route.parameters],
        "responses": {str(status): _response(route, status, schema_of) for status in route.answers},
        "security": [] if isinstance(route.needs, Open) else [{"key": []}, {"token": []}],
    }
    for status, codes in refusals(route).items():
        if str(status) not in found["responses"]:  # else the route describes it by itself
            found["responses"][str(status)] = _refusal(route, status, f"A refusal: {', '.join(codes)}.")
    found["responses"]["default"] = _refusal(route, None, "A refusal.")
    if more:
        found["description"] = more
    if not isinstance(route.needs, Open):
        found["x-scope"] = str(route.needs)
    if route.body:
        content = {
            kind: {"schema": schema_of.get(body, body) if isinstance(body, type) else body}
            for kind, body in route.body.items()
        }
        found["requestBody"] = {"required": True, "content": content}
    return found


def refusals(route: Route) -> dict[int, list[str]]:
    """Return the codes of the problems that a route answers with, by status."""
    codes = ["internal", *route.refuses]
    if not isinstance(route.needs, Open):
        codes += ["bad_request", "unauthenticated", "forbidden", "invalid", "unavailable"]
        codes += ["rate_limited", "quota_used_up"] if route.costs else []
    if any(one.where == "path" for one in route.parameters):
        codes.append("not_found")
    if route.body:
        codes += ["request_timeout", "too_large", "unsupported_media_type"]
    if KEY_PARAMETER in route.parameters:
        codes += ["in_flight", "key_reused"]
    found: dict[int, list[str]] = {}
    for code in sorted(set(codes), key=lambda code: (PROBLEMS[code].status, code)):
        found.setdefault(PROBLEMS[code].status, []).append(code)
    return found


def _headers(route: Route, status: int | None) -> dict[str, Any]:
    """Return the fields of an answer: those that every answer has, then those that it may have."""
    found = {
        name: {"required": True, "schema": {"type": "string"}} for name in ("X-Request-Id", "X-Trace-Id")
    }
    may: list[str] = []
    if status in _WITH_RETRY_AFTER:
        may.append("Retry-After")
    if status == HTTPStatus.UNAUTHORIZED:
        may.append("WWW-Authenticate")
    elif route.costs and not isinstance(route.needs, Open) and status != HTTPStatus.FORBIDDEN:
        may += ["RateLimit", "RateLimit-Policy"]
    if status in route.answers and any(one.name == "Idempotency-Key" for one in route.parameters):
        may.append("Idempotent-Replayed")
    return found | {name: {"schema": {"type": "string"}} for name in may}


def _refusal(route: Route, status: int | None, says: str) -> dict[str, Any]:
    return {
        "description": says,
        "headers": _headers(route, status),
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(name="Problem")}}},
    }


def _parameter(one: Parameter) -> dict[str, Any]:
    required = one.required or one.where == "path"
    return {
        "name": one.name,
        "in": one.where,
        "description": one.says,
        "schema": one.schema,
        "required": required,
    }


def _response(route: Route, status: int, schema_of: dict[Any, Any]) -> dict[str, Any]:
    body = route.answers[status]
    found: dict[str, Any] = {
        "description": HTTPStatus(status).phrase,
        "headers": _headers(route, status),
    }
    if body is not None:
        schema = schema_of[body] if isinstance(body, type) else body
        found["content"] = {route.gives: {"schema": schema}}
    return found


def reference(routes: Iterable[Route]) -> str:
    """Return the reference as one page that needs nothing else: routes, problems, refusals of events."""
    parts = [_route_html(route) for route in routes]
    problems = "".join(
        f'<dt id="problem-{code.replace("_", "-")}"><code>{code}</code> {kind.status}</dt><dd>{html.escape(kind.title)}. '
        f"{html.escape(kind.next_step)}</dd>"
        for code, kind in PROBLEMS.items()
    )
    said = {str(code): meaning for code, meaning in MEANINGS.items()} | CODES
    refusals = "".join(
        f"<dt><code>{code}</code></dt><dd>{html.escape(text)}</dd>" for code, text in said.items()
    )
    return _PAGE.format(routes="".join(parts), problems=problems, refusals=refusals, version=__version__)


def _route_html(route: Route) -> str:
    says, _, more = route.says.partition("\n\n")
    needs = "open to all" if isinstance(route.needs, Open) else f"scope <code>{route.needs}</code>"
    rows = "".join(
        f"<tr><td><code>{html.escape(one.name)}</code></td><td>{one.where}</td><td>{html.escape(one.says)}</td></tr>"
        for one in route.parameters
    )
    return (
        f"<section><h3><code>{route.method} {html.escape(route.plain_path)}</code></h3><p>{html.escape(says)}</p>"
        + (f"<p>{html.escape(more)}</p>" if more else "")
        + f"<p>Needs: {needs}."
        + (f" Takes: {', '.join(f'<code>{kind}</code>' for kind in route.body)}." if route.body else "")
        + f" Answers: {', '.join(map(str, route.answers))}."
        + f" Refuses: {', '.join(f'<code>{code}</code>' for codes in refusals(route).values() for code in codes)}.</p>"
        + (f"<table>{rows}</table>" if rows else "")
        + "</section>"
    )


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>headrace HTTP API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem; }}
code {{ background: #8882; padding: 0 .2em; border-radius: 3px; }} td {{ padding: .1rem .8rem .1rem 0; vertical-align: top; }}
dt {{ margin-top: .6rem; }} :target {{ background: #fd83; }}
</style></head><body>
<h1>headrace HTTP API</h1>
<p>Version {version}. For programs: <a href="/openapi.json">openapi.json</a>. Every answer carries <code>X-Request-Id</code> and <code>X-Trace-Id</code>.</p>
<h2>Routes</h2>{routes}
<h2>Problems</h2><p>A refusal is <code>application/problem+json</code> (RFC 9457) with one of these codes.</p><dl>{problems}</dl>
<h2>Refused events</h2><p>In the answers of <code>POST /v1/events</code>, by event.</p><dl>{refusals}</dl>
</body></html>
"""


@lru_cache(maxsize=1)
def _written() -> tuple[bytes, bytes]:
    from pipeline.web.routes import ROUTES as TABLE  # noqa: PLC0415 - the table holds this page's own route

    document = msgspec.json.encode(openapi(TABLE), order="deterministic")
    return document, reference(TABLE).encode()


async def get_openapi(door: FrontDoor, call: Call) -> Answer:  # noqa: ARG001 - a handler's form
    """Describe the API for programs."""
    return Answer(_written()[0])


async def get_docs(door: FrontDoor, call: Call) -> Answer:  # noqa: ARG001 - a handler's form
    """Describe the API for people."""
    policy = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return Answer(_written()[1], media_type="text/html; charset=utf-8", headers=policy)


ROUTES = (
    Route(
        "GET",
        "/openapi.json",
        OPEN,
        "Describe the API for programs: OpenAPI 3.1.",
        get_openapi,
        answers={200: {"type": "object"}},
    ),
    Route(
        "GET",
        "/docs",
        OPEN,
        "Describe the API for people.",
        get_docs,
        answers={200: {"type": "string"}},
        gives="text/html",
    ),
)
