"""The event as a program hands it over, and its bytes on the wire: checked for what can be told at once.

What is accepted here has an envelope that the loader accepts (`tests/producer/test_event.py`); `data` itself is
judged only where rules are at hand.
"""

import math
import os
import random
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache, partial
from typing import Any

import msgspec
import orjson

from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Envelope, RefusalCode, WireEnvelope
from pipeline.core.moment import moment
from pipeline.core.names import is_name
from pipeline.core.no_json import why_no_json
from pipeline.core.tracing import parse_traceparent

_MAX_EVENT_ID = 128  # characters; these three as schemas/envelope.json says
_MAX_ID = 256
_MAX_VERSION = 2**31 - 1
_SHOWN = 80  # characters of a foreign value in a message
_TEXTS = ("tenant_id", "entity_id", "event_type", "source", "event_id", "correlation_id")
_Raw, _UNSET = msgspec.Raw, msgspec.UNSET
_ENCODE = msgspec.json.Encoder().encode
_DECODE = msgspec.json.Decoder(WireEnvelope).decode

# Of its own: a program that seeds Python's generator to repeat a run would repeat its event ids as well, and a
# repeated id is a duplicate. A forked child must not go on with its parent's numbers either.
_chance = random.Random()  # noqa: S311 - unique, not secret
os.register_at_fork(after_in_child=_chance.seed)
_bits = _chance.getrandbits
_millisecond = 0, ""  # the last one, and how ids made in it begin


def new_event_id() -> str:
    """Return a UUID of version 7 (RFC 9562): ids sort by the millisecond they were made in."""
    global _millisecond  # noqa: PLW0603 - replaced as a whole: threads see one millisecond or another
    now, (known, begin) = time.time_ns() // 1_000_000, _millisecond
    if now != known:
        text = f"{now:012x}"
        begin = f"{text[:8]}-{text[8:]}-7"
        _millisecond = now, begin
    return "%s%03x-%04x-%012x" % (begin, _bits(12), 0x8000 | _bits(14), _bits(48))  # noqa: UP031 - a fifth faster


class Event(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One event.

    Attributes:
        tenant_id: whose event it is: 1 to 63 of a-z, 0-9, `.`, `_`, `-`, the first a letter or digit.
        entity_id: what it is about, 1 to 256 characters; events of one entity keep their order.
        event_type: what kind of thing happened; written like a tenant's id.
        schema_version: which version of the type's schema `data` follows, 1 or more.
        source: where it was observed, 1 to 256 characters.
        data: what happened: a mapping, a dataclass, a msgspec struct, or finished JSON as bytes (kept byte for byte).
        event_id: 1 to 128 characters, the same each time it is sent: a repeated one is a duplicate. A new UUID if not given.
        event_time: when it happened, with its time zone; now if not given.
        correlation_id: what ties events of one cause together, 1 to 256 characters.
        traceparent: the trace that sending it is part of, as W3C Trace Context writes it; where it says sampled, the loader's
            write becomes a span of that trace.
    """

    tenant_id: str
    entity_id: str
    event_type: str
    schema_version: int
    source: str
    data: Any
    event_id: str = msgspec.field(default_factory=new_event_id)
    event_time: datetime = msgspec.field(default_factory=partial(datetime.now, UTC))
    correlation_id: str | None = None
    traceparent: str | None = None


class Wire(msgspec.Struct, frozen=True, gc=False):
    """Finished bytes, and what chooses their slot."""

    tenant_id: str
    entity_id: str
    payload: bytes


def encode(event: Event) -> Wire:
    """Return an event as it travels.

    Raises:
        InvalidEvent: names the field, and what it may be.
    """
    try:
        _check_names(event.tenant_id, event.event_type, event.schema_version, event.source)
    except TypeError:  # a list or a dict, which no cache takes
        _check_names.__wrapped__(event.tenant_id, event.event_type, event.schema_version, event.source)
    except AttributeError as exc:
        raise _bad("event", event, "an Event; what is JSON or a mapping goes in by put_json") from exc
    # What nearly every event passes is looked at here; the call that says what is wrong costs as much as the rest.
    entity_id, event_id, cause, at = event.entity_id, event.event_id, event.correlation_id, event.event_time
    if type(entity_id) is not str or not 0 < len(entity_id) <= _MAX_ID:
        _check_text("entity_id", entity_id, _MAX_ID)
    if type(event_id) is not str or not 0 < len(event_id) <= _MAX_EVENT_ID:
        _check_text("event_id", event_id, _MAX_EVENT_ID)
    if cause is not None:
        _check_text("correlation_id", cause, _MAX_ID)
    if type(at) is not datetime or at.tzinfo is not UTC:
        at = _in_utc(at)
    # By position, in a third of the time; the order is that of the class.
    data, tie = event.data, _UNSET if cause is None else cause
    raw = _Raw(_json("/data", data) if type(data) is dict else _data(data))
    kind, version, source = event.event_type, event.schema_version, event.source
    trace = _UNSET if event.traceparent is None else _traceparent(event.traceparent)
    envelope = Envelope(
        event_id, event.tenant_id, entity_id, kind, version, source, at, raw, _UNSET, tie, trace
    )
    try:
        return Wire(event.tenant_id, entity_id, _ENCODE(envelope))
    except UnicodeEncodeError as exc:
        raise _half_pair(event) from exc
    except TypeError as exc:  # enums of text are fine
        raise _odd_text(event) from exc


def encode_json(event: bytes | str | Mapping[str, Any]) -> Wire:
    """Return an event that is envelope JSON already, or a mapping of the envelope's fields.

    Bytes are kept as they are.

    Raises:
        InvalidEvent: names the field, and what it may be.
    """
    payload = as_bytes(event)
    try:
        envelope = _DECODE(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        code = RefusalCode.BAD_ENVELOPE if isinstance(exc, msgspec.ValidationError) else RefusalCode.NOT_JSON
        said = exc if code is RefusalCode.BAD_ENVELOPE else why_no_json(payload, exc)
        raise InvalidEvent(code, "", f"not an event: {said}") from exc
    _check_names(envelope.tenant_id, envelope.event_type, envelope.schema_version, envelope.source)
    for name in ("event_time", "received_time"):
        text = getattr(envelope, name)
        if text is not msgspec.UNSET and moment(text) is None:
            raise _bad(name, text, "a date-time as RFC 3339 writes it, with its offset from UTC")
    _data(bytes(envelope.data))
    return Wire(envelope.tenant_id, envelope.entity_id, payload)


def as_bytes(event: bytes | str | Mapping[str, Any]) -> bytes:
    """Return finished JSON, or a mapping, as bytes.

    Raises:
        InvalidEvent: it cannot be written as JSON.
    """
    if isinstance(event, Mapping):
        return _json("", dict(event))
    if isinstance(event, str):
        try:
            return event.encode()
        except UnicodeEncodeError as exc:
            raise _no_utf8("", event) from exc
    if isinstance(event, bytes | bytearray):
        return bytes(event)
    raise _bad("event", event, "bytes, text or a mapping")


def _odd_text(event: Event) -> InvalidEvent:
    """Say which text is of a class of its own; JSON has no such thing."""
    values = {name: getattr(event, name) for name in _TEXTS}
    odd = [name for name, value in values.items() if not isinstance(value, Enum) and type(value) is not str]
    name = next((name for name in odd if values[name] is not None), "event_id")
    return _bad(name, values[name], "text: str itself, or an enum of it")


def _half_pair(event: Event) -> InvalidEvent:
    """Say which text of the envelope no UTF-8 holds."""
    values = {name: str(getattr(event, name)) for name in _TEXTS}
    name = next((name for name, value in values.items() if _half_at(value) is not None), "event_id")
    return _no_utf8(f"/{name}", values[name])


def _half_at(text: str) -> int | None:
    """Return where half a surrogate pair stands in a text, if one does."""
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        return exc.start
    return None


def _no_utf8(where: str, text: str) -> InvalidEvent:
    at = _half_at(text) or 0
    shown = text[max(0, at - _SHOWN // 2) : at + _SHOWN // 2]
    said = f"{where[1:] or 'the event'}: {shown!r} has half a surrogate pair: no UTF-8 holds it"
    return InvalidEvent(RefusalCode.NOT_JSON, where, said)


def _bad(name: str, value: Any, wanted: str) -> InvalidEvent:
    shown = repr(value)
    shown = shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "..."
    return InvalidEvent(RefusalCode.BAD_ENVELOPE, f"/{name}", f"{name} {shown}: must be {wanted}")


def _check_text(name: str, value: Any, longest: int) -> None:
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise _bad(name, value, f"text of 1 to {longest} characters")


@lru_cache(maxsize=4_096, typed=True)  # few are different, and typed tells True from 1
def _check_names(tenant_id: Any, event_type: Any, schema_version: Any, source: Any) -> None:
    for name, value in (("tenant_id", tenant_id), ("event_type", event_type)):
        if not isinstance(value, str) or not is_name(value):
            raise _bad(name, value, "1 to 63 of a-z, 0-9, `.`, `_`, `-`, the first a letter or digit")
    if type(schema_version) is not int or not 1 <= schema_version <= _MAX_VERSION:
        raise _bad("schema_version", schema_version, f"a whole number from 1 to {_MAX_VERSION}")
    _check_text("source", source, _MAX_ID)


def _traceparent(value: Any) -> str:
    context = parse_traceparent(value) if type(value) is str else None
    if context is None:
        raise _bad("traceparent", value, "a traceparent as W3C Trace Context writes it: 00-TRACE-SPAN-FLAGS")
    return context.text


def _in_utc(value: Any) -> datetime:
    if not isinstance(value, datetime) or value.utcoffset() is None:
        wanted = "a datetime with a time zone, as datetime.now(UTC) gives; naive ones are refused"
        raise _bad("event_time", value, wanted)
    try:
        return value if value.tzinfo is UTC else value.astimezone(UTC)
    except OverflowError as exc:
        raise _bad("event_time", value, "within the years 1 to 9999 of UTC") from exc


def _data(data: Any) -> bytes:
    """Return `data` as the bytes of a JSON object."""
    if isinstance(data, bytes):
        try:
            ok = isinstance(orjson.loads(data), dict)
        except orjson.JSONDecodeError as exc:
            raise InvalidEvent(RefusalCode.NOT_JSON, "/data", f"data: {exc}") from exc
        raw = data
    else:
        raw = _json("/data", data)
        ok = raw.startswith(b"{")
    if not ok:
        raise _bad("data", data, "a mapping, a dataclass, a msgspec struct, or a JSON object as bytes")
    return raw


def _json(where: str, value: Any) -> bytes:
    try:
        raw = orjson.dumps(value, default=_plain)
    except TypeError as exc:  # orjson's only one, also for text that is not UTF-8
        _refuse_half_pair(where, value)
        raise InvalidEvent(RefusalCode.NOT_JSON, where, f"{where[1:] or 'the event'}: {exc}") from exc
    # orjson writes NaN and infinity as null, and what was measured would silently be nothing.
    if raw.rfind(b"null") >= 0:  # from the end it takes half the time of `in`
        _refuse_nan(where, value)
    return raw


def _plain(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return msgspec.to_builtins(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is no JSON: make it text or a number first")


def _refuse_nan(where: str, value: Any) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        said = f"{where[1:] or 'the event'}: {value} is no JSON number; leave the field out"
        raise InvalidEvent(RefusalCode.NOT_JSON, where, said)
    for key, one in _members(value):
        _refuse_nan(f"{where}/{key}", one)


def _refuse_half_pair(where: str, value: Any) -> None:
    """Name the text that no UTF-8 holds, where one is the reason; it may be too deep to be looked for."""
    if isinstance(value, str) and _half_at(value) is not None:
        raise _no_utf8(where, value)
    with suppress(RecursionError):
        for key, one in _members(value):
            if isinstance(key, str) and _half_at(key) is not None:
                raise _no_utf8(where, key)
            _refuse_half_pair(f"{where}/{key}", one)


def _members(value: Any) -> Iterable[tuple[Any, Any]]:
    """Return what a value holds, each under its name or number."""
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value).items()
    if hasattr(value, "__dataclass_fields__"):
        return [(name, getattr(value, name)) for name in value.__dataclass_fields__]
    if isinstance(value, Mapping):
        return value.items()
    return enumerate(value) if isinstance(value, list | tuple) else ()
