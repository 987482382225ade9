"""One line of the log about one request: what an operator looks for, and nothing of what was sent.

There is no field for a body, a header, a query or a secret. The three ids of an event are those of the one event that a
request brought; a credential is named by its id, which is no part of its secret.
"""

from typing import Any, Literal

import msgspec


class RequestLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request, answered.

    Attributes:
        level: ERROR where an error of ours ended it, WARN for another 5xx, INFO.
        route: method and template, as `GET /v1/events/{id}`; `none` where there is no such route.
        bytes: of the body, as they arrived.
        events: that the stream acknowledged.
        share: of what lines like this one were written: 1 for refused and failed requests.
    """

    level: Literal["INFO", "WARN", "ERROR"]
    request: str
    trace: str
    route: str
    status: int
    milliseconds: float
    bytes: int
    tenant: str = ""
    credential: str = ""
    code: str = ""
    events: int = 0
    event_id: str | None = None
    entity_id: str | None = None
    correlation_id: str | None = None
    share: float = 1.0


class _Tied(msgspec.Struct):
    correlation_id: Any = None


_TIED = msgspec.json.Decoder(_Tied).decode


def correlation_of(payload: bytes) -> str | None:
    """Return the correlation id of an event that was accepted."""
    found = _TIED(payload).correlation_id
    return found if isinstance(found, str) else None
