"""CloudEvents 1.0, structured mode, as our own envelope.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md. An object with the key `specversion`
is a CloudEvent. Attributes of other extensions are accepted and not stored.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from pipeline.core.errors import InvalidEvent
from pipeline.core.event import RefusalCode
from pipeline.core.tracing import parse_traceparent

# Our name -> the attribute that carries it.
ATTRIBUTES = {
    "event_id": "id",
    "tenant_id": "tenantid",
    "entity_id": "subject",
    "event_type": "type",
    "schema_version": "dataschema",
    "source": "source",
    "event_time": "time",
    "data": "data",
    "correlation_id": "correlationid",
    "traceparent": "traceparent",  # of the extension Distributed Tracing
}
_OPTIONAL = ("correlation_id", "traceparent")
_VERSION = re.compile(r"[a-z][a-z0-9+.-]*:[^?#]*/([1-9][0-9]{0,9})", re.ASCII | re.IGNORECASE)
_QUERY = re.compile(r"[?#].*", re.DOTALL)
_JSON_TYPE = re.compile(r"[^/;\s]+/(?:json|[^/;\s]+\+json)\s*(?:;.*)?", re.IGNORECASE | re.DOTALL)


class _Data(msgspec.Struct):
    data: msgspec.Raw


_DATA = msgspec.json.Decoder(_Data)


def is_cloud_event(document: Any) -> bool:
    """True for an object that says which CloudEvents specification it follows."""
    return isinstance(document, dict) and "specversion" in document


def as_event(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a CloudEvent as our envelope, its values unchecked; an attribute that is null is not there.

    Raises:
        InvalidEvent: another specversion, data that is not JSON, a required attribute is missing, or a dataschema
            that names no version. Pointers name the CloudEvent's own attributes.
    """
    if document.get("specversion") != "1.0":
        raise InvalidEvent(RefusalCode.BAD_ENVELOPE, "/specversion", 'specversion must be "1.0"')
    _refuse_other_content(document)
    event = {}
    for name, attribute in ATTRIBUTES.items():
        value = document.get(attribute)
        if value is not None:
            event[name] = value
        elif name not in _OPTIONAL:
            message = f"this attribute is missing: it carries {name}"
            raise InvalidEvent(RefusalCode.BAD_ENVELOPE, f"/{attribute}", message)
    event["schema_version"] = _version(event["schema_version"])
    _settle_trace(event)
    return event


def _settle_trace(event: dict[str, Any]) -> None:
    """Leave a malformed traceparent out, as the specification says: it is not the event's fault."""
    given = event.pop("traceparent", None)
    context = parse_traceparent(given) if isinstance(given, str) else None
    if context is not None:
        event["traceparent"] = context.text


def event_bytes(event: Mapping[str, Any], raw: bytes) -> bytes:
    """Return the translated event as JSON around the very bytes of the CloudEvent's `data`."""
    return msgspec.json.encode({**event, "data": _DATA.decode(raw).data})


def attribute_pointer(pointer: str) -> str:
    """Return a pointer into our envelope as one into the CloudEvent."""
    first, slash, rest = pointer[1:].partition("/")
    return f"/{ATTRIBUTES[first]}{slash}{rest}" if first in ATTRIBUTES else pointer


def _refuse_other_content(document: Mapping[str, Any]) -> None:
    if document.get("data_base64") is not None:
        message = "data_base64 holds bytes: an event's data is a JSON object in data"
        raise InvalidEvent(RefusalCode.UNSUPPORTED_CONTENT, "/data_base64", message)
    content = document.get("datacontenttype")
    if content is not None and not (isinstance(content, str) and _JSON_TYPE.fullmatch(content)):
        message = "datacontenttype must be JSON (application/json, or one that ends in +json), or be left out"
        raise InvalidEvent(RefusalCode.UNSUPPORTED_CONTENT, "/datacontenttype", message)


def _version(schema: Any) -> int:
    found = _VERSION.fullmatch(_QUERY.sub("", schema)) if isinstance(schema, str) else None
    if found is None:
        message = "dataschema must be a URI whose last segment is the schema's version: https://example.com/door.opened/1"
        raise InvalidEvent(RefusalCode.BAD_ENVELOPE, "/dataschema", message)
    return int(found[1])
