"""Refusals of the API: problem details (RFC 9457) with a stable code and a link into the documentation.

`PROBLEMS` is closed: whoever answers with a code that is not in it fails at once.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

MEDIA_TYPE = "application/problem+json"
_DOCS = "/docs#problem-"  # of this server: its reference page explains every code


def new_request_id() -> str:
    """Return the id of one request: 32 hex digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True)
class Kind:
    """One kind of refusal: its status, and its title, the same each time."""

    status: int
    title: str


PROBLEMS: Mapping[str, Kind] = {
    "bad_request": Kind(400, "The request cannot be understood"),
    "all_refused": Kind(400, "Every event of the request was refused"),
    "unauthenticated": Kind(401, "A valid credential is needed"),
    "forbidden": Kind(403, "The credential is not for this"),
    "not_found": Kind(404, "There is no such thing"),
    "method_not_allowed": Kind(405, "The resource does not take this method"),
    "not_acceptable": Kind(406, "None of the accepted media types can be given"),
    "request_timeout": Kind(408, "The request did not arrive in time"),
    "in_flight": Kind(409, "A request with this Idempotency-Key is being worked on"),
    "conflict": Kind(409, "The request contradicts what is there"),
    "too_large": Kind(413, "The request is too large"),
    "unsupported_media_type": Kind(415, "The content type or encoding is not taken"),
    "key_reused": Kind(422, "The Idempotency-Key was used for another request"),
    "invalid": Kind(422, "A value of the request is not allowed"),
    "rate_limited": Kind(429, "The plan's rate is used up for the moment"),
    "quota_used_up": Kind(429, "The plan's requests of this month are used up"),
    "headers_too_large": Kind(431, "The request's headers are too large"),
    "internal": Kind(500, "The fault is ours"),
    "busy": Kind(503, "The service is busy"),
    "unavailable": Kind(503, "A part that this needs does not answer"),
}


class Problem(Exception):
    """One refusal.

    Args:
        code: a key of `PROBLEMS`.
        detail: one sentence: the thing, the limit, the next step. Never a payload or secret.
        headers: of the answer, as `Retry-After`.
        more: further members of the document, as `pointer`.
    """

    def __init__(self, code: str, detail: str, headers: Mapping[str, str] | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.kind, self.code, self.detail = PROBLEMS[code], code, detail
        self.headers, self.more = dict(headers or {}), more

    @property
    def status(self) -> int:
        """Return the HTTP status."""
        return self.kind.status

    def document(self, request_id: str) -> bytes:
        """Return the body."""
        return msgspec.json.encode(
            {
                "type": _DOCS + self.code.replace("_", "-"),
                "title": self.kind.title,
                "status": self.kind.status,
                "detail": self.detail,
                "code": self.code,
                "request_id": request_id,
                **self.more,
            }
        )
