"""The slow, exact verdict on one unit: why it is refused, or that it is accepted after all.

The fast path (`core.decode`) hands over whatever it does not fully understand. Here the rules are applied one
by one, cheapest and safest first, so that the code names the first thing that is wrong. Costs about 50 us.
"""

import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import msgspec
import orjson

from pipeline.core.cloudevents import as_event, attribute_pointer, event_bytes, is_cloud_event
from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Envelope, Limits, RefusalCode
from pipeline.core.moment import moment
from pipeline.core.rules import Rules, Version
from pipeline.core.shapes import INT64_MAX, INT64_MIN, DoesNotFit

_MAX_SHOWN = 120  # characters of a foreign value in a message
_DOUBLE_DIGITS = 308  # of the largest double
_ENVELOPE = msgspec.json.Decoder(Envelope)
_PLACE = re.compile(r"`\$\.(\w+)")  # in a message of msgspec's


def judge(raw: bytes, rules: Rules, not_after: datetime) -> tuple[Envelope, Any]:
    """Return the envelope and the filled struct of an acceptable event, also one that is written as a CloudEvent.

    Args:
        raw: the unit's bytes.
        rules: what it is judged by.
        not_after: the latest event time allowed (its arrival plus the allowance).

    Raises:
        InvalidEvent: with code, JSON pointer and message.
    """
    document = parse(raw, rules.limits)
    if not is_cloud_event(document):
        return _judge(raw, document, rules, not_after)
    try:
        event = as_event(document)
        return _judge(event_bytes(event, raw), event, rules, not_after)
    except InvalidEvent as exc:
        raise InvalidEvent(exc.code, attribute_pointer(exc.pointer), exc.message) from exc


def _judge(raw: bytes, document: Any, rules: Rules, not_after: datetime) -> tuple[Envelope, Any]:
    check_envelope(document, rules)
    version = _version_of(document, rules)
    error = next(iter(version.validator.iter_errors(document["data"])), None)
    if error is not None:
        where = pointer("data", *error.instance_path)
        raise InvalidEvent(RefusalCode.SCHEMA_MISMATCH, where, _trim(error.message))
    envelope = _decode_envelope(raw, document)
    if envelope.event_time > not_after:
        raise InvalidEvent(
            RefusalCode.TIME_IN_FUTURE,
            "/event_time",
            f"event_time is more than {rules.limits.max_future_seconds} s after its arrival",
        )
    try:
        return envelope, version.shape.fill(document["data"])
    except DoesNotFit as exc:
        where = pointer("data", *exc.path)
        message = "integer outside the 64-bit signed range"
        raise InvalidEvent(RefusalCode.NUMBER_OUT_OF_RANGE, where, message) from exc


def _version_of(document: Any, rules: Rules) -> Version:
    """Return what judges this tenant's event of this type and version."""
    tenant_id, event_type, number = document["tenant_id"], document["event_type"], document["schema_version"]
    if tenant_id not in rules.tenants:
        message = f"tenant {_shown(tenant_id)} is not registered; known tenants: setting events.tenants"
        raise InvalidEvent(RefusalCode.UNKNOWN_TENANT, "/tenant_id", message)
    versions = rules.types.get(event_type)
    if versions is None:
        message = f"event type {_shown(event_type)} has no schema; known: {_listed(rules.types)}"
        raise InvalidEvent(RefusalCode.UNKNOWN_TYPE, "/event_type", message)
    if number not in versions:
        message = f"{event_type} has no version {number}; known: {_listed(versions)}"
        raise InvalidEvent(RefusalCode.UNKNOWN_VERSION, "/schema_version", message)
    return versions[number]


def parse(raw: bytes, limits: Limits) -> Any:
    """Parse strictly, within limits.

    Raises:
        InvalidEvent: too large, too deep, not JSON, a duplicate envelope key, an integer outside int64, too
            many keys, or a string that is too long.
    """
    if len(raw) > limits.max_event_bytes:
        raise InvalidEvent(
            RefusalCode.TOO_LARGE, "", f"{len(raw)} bytes; an event has at most {limits.max_event_bytes}"
        )
    if _depth(raw) > limits.max_depth:
        raise InvalidEvent(RefusalCode.TOO_DEEP, "", f"nested deeper than {limits.max_depth} levels")
    try:
        orjson.loads(raw)  # refuses what Python's parser lets pass: NaN, lone surrogates, invalid UTF-8
        document = json.loads(raw, object_pairs_hook=_Pairs, parse_int=_Digits)
    except ValueError as exc:
        _refuse_long_integer(raw, limits)
        where = re.sub(r": line \d+ column \d+ \(char (\d+)\)", r" at character \1", str(exc))
        raise InvalidEvent(RefusalCode.NOT_JSON, "", _trim(where)) from exc
    _Walk(limits).check(document)
    return _plain(document)


def _refuse_long_integer(raw: bytes, limits: Limits) -> None:
    """Say "out of range" of an integer that is JSON and that orjson takes for infinity."""
    digits: list[str] = []
    try:
        json.loads(raw, parse_int=digits.append)
        if max(map(len, digits), default=0) > _DOUBLE_DIGITS:
            _Walk(limits).check(json.loads(raw, object_pairs_hook=_Pairs, parse_int=_Digits))
    except InvalidEvent as exc:
        if exc.code == RefusalCode.NUMBER_OUT_OF_RANGE:
            raise
    except ValueError:
        return


def check_envelope(document: Any, rules: Rules) -> None:
    """Hold a parsed unit against the envelope's schema.

    Raises:
        InvalidEvent: with the pointer to the first fault.
    """
    error = next(iter(rules.envelope.iter_errors(document)), None)
    if error is not None:
        raise InvalidEvent(RefusalCode.BAD_ENVELOPE, pointer(*error.instance_path), _trim(error.message))


def pointer(*path: str | int) -> str:
    """Return the JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def _decode_envelope(raw: bytes, document: Any) -> Envelope:
    for name in ("event_time", "received_time"):
        text = document.get(name)
        if isinstance(text, str) and moment(text) is None:
            message = "not a date-time that can be kept: a leap second, or a UTC year outside 1..9999"
            raise InvalidEvent(RefusalCode.BAD_ENVELOPE, pointer(name), message)
    try:
        return _ENVELOPE.decode(raw)
    except msgspec.ValidationError as exc:  # 1.0 for an integer, say
        place = _PLACE.search(str(exc))
        at = pointer(place[1]) if place else ""
        raise InvalidEvent(RefusalCode.BAD_ENVELOPE, at, _trim(str(exc))) from exc


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a repeated key is still seen."""


class _Digits(str):
    """An integer literal, unparsed: a thousand digits cost nothing until they are known to be few."""

    __slots__ = ()


class _Walk:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._keys = 0

    def check(self, value: Any, at: tuple[str | int, ...] = ()) -> None:
        if isinstance(value, _Digits):
            if len(value) > 20 or not INT64_MIN <= int(value) <= INT64_MAX:
                raise InvalidEvent(
                    RefusalCode.NUMBER_OUT_OF_RANGE, pointer(*at), "integer outside the 64-bit signed range"
                )
        elif isinstance(value, str):
            self._string(value, at)
        elif isinstance(value, _Pairs):
            self._object(value, at)
        elif isinstance(value, list):
            for index, one in enumerate(value):
                self.check(one, (*at, index))

    def _string(self, value: str, at: tuple[str | int, ...]) -> None:
        most = self._limits.max_string_bytes
        if len(value) > most // 4 and (size := len(value.encode(errors="surrogatepass"))) > most:
            message = f"{size} bytes; a string has at most {most}"
            raise InvalidEvent(RefusalCode.STRING_TOO_LONG, pointer(*at), message)

    def _object(self, pairs: _Pairs, at: tuple[str | int, ...]) -> None:
        self._keys += len(pairs)
        if self._keys > self._limits.max_keys:
            raise InvalidEvent(
                RefusalCode.TOO_MANY_KEYS, "", f"more than {self._limits.max_keys} keys in one event"
            )
        seen: set[str] = set()
        for key, value in pairs:
            if key in seen and not at:
                raise InvalidEvent(
                    RefusalCode.DUPLICATE_KEY,
                    pointer(_trim(key)),
                    "this envelope key is given more than once",
                )
            seen.add(key)
            self._string(key, at)
            self.check(value, (*at, key))


def _plain(value: Any) -> Any:
    if isinstance(value, _Pairs):
        return {key: _plain(one) for key, one in value}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, _Digits) else value


def _depth(raw: bytes) -> int:
    """Return the nesting depth, brackets inside strings left out; linear, never recursive."""
    depth = deepest = 0
    for byte in _structure(raw):
        if byte in b"{[":
            depth += 1
            deepest = max(deepest, depth)
        else:
            depth -= 1
    return deepest


def _structure(raw: bytes) -> Iterator[int]:
    inside = escaped = False
    for byte in raw:
        if escaped:
            escaped = False
        elif inside:
            escaped = byte == 0x5C
            inside = byte != 0x22
        elif byte == 0x22:
            inside = True
        elif byte in b"{[]}":
            yield byte


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")


def _trim(text: str) -> str:
    return text if len(text) <= 4 * _MAX_SHOWN else text[: 4 * _MAX_SHOWN] + "..."


def _listed(names: Any) -> str:
    known = sorted(names)
    return ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "") if known else "none"
