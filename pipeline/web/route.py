"""What a route is: one line of the table that makes the server, its access rules, its OpenAPI document and its tests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal

import msgspec
from falcon.asgi import Request

from pipeline.core.caller import Caller, Scope
from pipeline.flows.watch import Seen
from pipeline.wiring.front_door import FrontDoor

Method = Literal["GET", "POST", "PUT", "DELETE"]


class Call(msgspec.Struct, frozen=True):
    """One request, after it was let in.

    Attributes:
        caller: who; on an open route nobody.
        request_id: 32 hex digits, in the answer's `X-Request-Id` and in every log line.
        trace_id: of the trace that this request is part of; 32 hex digits, in the answer's `X-Trace-Id`.
        request: the framework's.
        path: the values of the path's parameters, decoded.
        seen: what the log, metrics and traces say of it; handlers note what they learn.
    """

    caller: Caller
    request_id: str
    trace_id: str
    request: Request
    path: dict[str, str] = msgspec.field(default_factory=dict)
    seen: Seen = msgspec.field(default_factory=Seen)


class Answer(msgspec.Struct, frozen=True):
    """What goes back. `body` is finished bytes, or a struct to be written as JSON; None: no body."""

    body: Any = None
    status: int = 200
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    media_type: str = "application/json"


Handler = Callable[[FrontDoor, Call], Awaitable[Answer]]


class Open:
    """Stands where a scope would: anyone may call. Written out, so that no route is open by omission."""


OPEN = Open()


@dataclass(frozen=True)
class AnyOf:
    """Stands where a scope would: one of several is enough."""

    scopes: frozenset[Scope]

    def __str__(self) -> str:
        return " or ".join(sorted(self.scopes))


@dataclass(frozen=True)
class Parameter:
    """One value in the query string, the path or a header."""

    name: str
    where: Literal["query", "path", "header"]
    says: str
    schema: dict[str, Any] = field(default_factory=lambda: {"type": "string"})
    required: bool = False


@dataclass(frozen=True)
class Route:
    """One method of one path.

    Attributes:
        method, path: as `POST`, `/v1/events/{id}`; a last parameter that may hold slashes is `{id:path}`.
        needs: the scope that the credential must have, or one of several; or `OPEN`.
        says: one sentence for the reference; the second paragraph, if any, is its description.
        answers: status -> the struct of its body, a dict that is a JSON Schema, or None for no body.
        body: media type -> the struct or JSON Schema that the request's body follows; empty: no body is taken.
        gives: the media type of its answers' bodies.
        refuses: codes of problems that the route's form does not imply (see `openapi.refusals`).
        costs: False: not counted against the plan (`/v1/usage` must answer when the plan is used up).
        events: that a request brings at least: taken from the plan with the request.
        handler: what answers.
    """

    method: Method
    path: str
    needs: Scope | AnyOf | Open
    says: str
    handler: Handler
    answers: dict[int, Any] = field(default_factory=dict)
    body: dict[str, Any] = field(default_factory=dict)
    parameters: tuple[Parameter, ...] = ()
    gives: str = "application/json"
    refuses: tuple[str, ...] = ()
    costs: bool = True
    events: int = 0

    @property
    def plain_path(self) -> str:
        """Return the path as OpenAPI writes it."""
        return self.path.replace(":path}", "}")

    def lets_in(self, scopes: frozenset[Scope]) -> bool:
        """True when a credential of these scopes may call it."""
        return _lets_in(self.needs, scopes)


@lru_cache(maxsize=256)  # few needs, few sets of scopes, and every request asks
def _lets_in(needs: Scope | AnyOf | Open, scopes: frozenset[Scope]) -> bool:
    if isinstance(needs, Open):
        return True
    return bool((needs.scopes if isinstance(needs, AnyOf) else frozenset({needs})) & scopes)
