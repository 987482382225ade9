"""An event as one line of a request: an envelope, whole or in part, or a CloudEvent.

What the server would make up is written in here, before the first attempt: whatever is sent again is the same event, under the
same id and time. Everything else is the server's to judge.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET

from pipeline.core.errors import InvalidEvent
from pipeline.core.event import RefusalCode
from pipeline.core.no_json import why_no_json
from pipeline.sending.event import Wire, as_bytes, new_event_id

_NO_JSON = (UnicodeDecodeError, RecursionError)


class _Head(msgspec.Struct, gc=False):
    tenant_id: Any = UNSET
    entity_id: Any = UNSET
    event_id: Any = UNSET
    event_time: Any = UNSET
    specversion: Any = UNSET
    subject: Any = UNSET
    time: Any = UNSET


_HEAD = msgspec.json.Decoder(_Head).decode


def encode_line(event: bytes | str | Mapping[str, Any]) -> Wire:
    """Return an event as one line, with an id and a time.

    Raises:
        InvalidEvent: it is no JSON object.
    """
    payload = as_bytes(event).strip(b" \t\r\n")
    try:
        head = _HEAD(payload)
    except msgspec.ValidationError as exc:
        raise InvalidEvent(RefusalCode.BAD_ENVELOPE, "", f"not an event: {exc}") from exc
    except (msgspec.DecodeError, *_NO_JSON) as exc:
        raise InvalidEvent(RefusalCode.NOT_JSON, "", f"not JSON: {why_no_json(payload, exc)}") from exc
    if b"\n" in payload:  # between two tokens: inside a string JSON has none
        payload = payload.replace(b"\n", b" ")
    given = _missing(head)
    if given:
        rest = payload[1:].lstrip(b" \t\r")
        payload = b"{" + b",".join(given) + (b"" if rest.startswith(b"}") else b",") + rest
    entity = head.subject if head.specversion is not UNSET else head.entity_id
    return Wire(_text(head.tenant_id), _text(entity), payload)


def _missing(head: _Head) -> list[bytes]:
    if head.specversion is not UNSET:
        return [] if head.time is not UNSET else [b'"time":"%b"' % _now()]
    given = [] if head.event_id is not UNSET else [b'"event_id":"%b"' % new_event_id().encode()]
    return given if head.event_time is not UNSET else [*given, b'"event_time":"%b"' % _now()]


def _now() -> bytes:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z").encode()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
