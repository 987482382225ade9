"""Refusals of the API: problem details (RFC 9457) with a stable code and a link into the documentation.

`PROBLEMS` is closed: whoever answers with a code that is not in it fails at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

MEDIA_TYPE = "application/problem+json"
DAMAGED = "stored data contradict each other; the operator was told"
_DOCS = "/docs#problem-"  # of this server: its reference page explains every code


@dataclass(frozen=True)
class Kind:
    """One kind of refusal: its status, its title, the same each time, and what to do, for the reference page."""

    status: int
    title: str
    next_step: str = ""


PROBLEMS: Mapping[str, Kind] = {
    "bad_request": Kind(
        400, "The request cannot be understood", "The detail says what cannot be read; mend the request."
    ),
    "all_refused": Kind(
        400,
        "Every event of the request was refused",
        "`events` says for each why; mend them and send them again.",
    ),
    "unauthenticated": Kind(
        401, "A valid credential is needed", "Send X-API-Key, or Authorization: Bearer with a token."
    ),
    "forbidden": Kind(
        403, "The credential is not for this", "Ask for a credential with the scope that the route needs."
    ),
    "not_found": Kind(
        404,
        "There is no such thing",
        "See the routes above; what is another tenant's does not exist for you.",
    ),
    "method_not_allowed": Kind(
        405, "The resource does not take this method", "The header Allow lists the methods."
    ),
    "request_timeout": Kind(
        408, "The request did not arrive in time", "Nothing was taken: send it again, faster or in parts."
    ),
    "in_flight": Kind(
        409,
        "A request with this Idempotency-Key is being worked on",
        "Wait for the first request's end, then ask again.",
    ),
    "retry_unsafe": Kind(
        409,
        "Nobody knows any more whether this request was done",
        "Look for `event_ids`; send what is not there under a new Idempotency-Key.",
    ),
    "conflict": Kind(409, "The request contradicts what is there", "Read what is there, and decide."),
    "too_large": Kind(413, "The request is too large", "The detail names the limit: send it in parts."),
    "unsupported_media_type": Kind(
        415, "The content type or encoding is not taken", "The detail lists what is taken."
    ),
    "key_reused": Kind(
        422, "The Idempotency-Key was used for another request", "Use a new key for a new request."
    ),
    "invalid": Kind(
        422, "A value of the request is not allowed", "The detail names the value and what it may be."
    ),
    "rate_limited": Kind(429, "The plan's rate is used up for the moment", "Wait for Retry-After seconds."),
    "quota_used_up": Kind(
        429,
        "The plan's requests of this month are used up",
        "Wait for the next month, or take a larger plan.",
    ),
    "internal": Kind(
        500, "The fault is ours", "Tell the operator the request_id; what was sent may have been taken."
    ),
    "busy": Kind(
        503,
        "The service is busy",
        "Wait for Retry-After seconds and send it again, under the same event ids where the answer names them.",
    ),
    "unavailable": Kind(
        503, "A part that this needs does not answer", "Wait for Retry-After seconds and try again."
    ),
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
