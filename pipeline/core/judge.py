"""The slow, exact verdict on one unit: why it is refused, or that it is accepted after all.

The fast path (`core.decode`) hands over whatever it does not fully understand. Here the rules are applied one
by one, cheapest and safest first, so that the code names the first thing that is wrong. Costs about 50 us.
"""

import json
import re
from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import numpy as np
import orjson
from jsonschema_rs import Draft202012Validator as Validator
from jsonschema_rs import ValidationError

from pipeline.core.cloudevents import as_event, attribute_pointer, event_bytes, is_cloud_event
from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Envelope, Limits, RefusalCode
from pipeline.core.moment import moment
from pipeline.core.no_json import why_no_json
from pipeline.core.rules import Rules, Version
from pipeline.core.shapes import INT64_MAX, INT64_MIN, DoesNotFit

_MAX_SHOWN = 120  # characters of a foreign value in a message
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)', re.DOTALL)  # the last one perhaps without its end
_LONG = re.compile(rb"\d{19}")  # perhaps outside int64
_HUGE = re.compile(rb"\d{309}")  # more digits than the largest double
_HARMLESS = frozenset((int, float, bool, type(None)))
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))
_NO_OUTLINE = bytes(set(range(256)) - set(b"[]{}:"))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
_ENVELOPE = msgspec.json.Decoder(Envelope)
_LOOK = msgspec.json.Decoder(msgspec.Raw)  # sees what is no JSON, and makes nothing of it
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
    error = _first_error(version.validator, document["data"])
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
        message = f"tenant {_shown(tenant_id)} is not registered; `headrace tenants add` registers it, and so does the setting events.tenants"
        raise InvalidEvent(RefusalCode.UNKNOWN_TENANT, "/tenant_id", message)
    versions = rules.types.get(event_type)
    if versions is None:
        message = f"event type {_shown(event_type)} has no schema; known: {_listed(rules.types)}"
        raise InvalidEvent(RefusalCode.UNKNOWN_TYPE, "/event_type", message)
    if number not in versions:
        message = f"{event_type} has no version {number}; known: {_runs(versions)}"
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
    bare = _STRING.sub(b'"', raw)
    few = (
        bare.count(b"{") + bare.count(b"[") <= limits.max_depth
    )  # of short units this look is the tenth of the other
    if not few and _depth(bare) > limits.max_depth:
        raise InvalidEvent(RefusalCode.TOO_DEEP, "", f"nested deeper than {limits.max_depth} levels")
    _check_members(raw, bare, limits)
    try:  # orjson refuses what Python's parser lets pass: NaN, lone surrogates, bad UTF-8
        document = orjson.loads(raw)
    except ValueError as exc:
        if _HUGE.search(bare):  # JSON, perhaps, but no double: orjson says no
            _refuse_long_integer(raw, limits)
        raise InvalidEvent(RefusalCode.NOT_JSON, "", _trim(why_no_json(raw, exc))) from exc
    digits = _LONG.search(bare) is not None
    if digits or _may_hold_long_string(raw, bare, limits) or _may_repeat_a_key(bare, document):
        _Walk(limits).check(_exactly(raw, digits=digits))
    return document


def _may_hold_long_string(raw: bytes, bare: bytes, limits: Limits) -> bool:
    """False when all strings together are too short: no escape is shorter than what it stands for."""
    return len(raw) - len(bare) > limits.max_string_bytes


def _may_repeat_a_key(bare: bytes, document: Any) -> bool:
    """True when the outermost object has more colons than keys are left of it."""
    if not isinstance(document, dict) or bare.count(b":") == len(document):
        return False
    outline = bare.translate(None, _NO_OUTLINE)
    found = np.frombuffer(outline, np.uint8)
    depth = np.cumsum(_STEPS[found], dtype=np.int32)
    return int(np.count_nonzero((found == ord(":")) & (depth == 1))) != len(document)


def _exactly(raw: bytes, *, digits: bool) -> Any:
    """Parse so that nothing is lost: objects as pairs, integers that may be too long as their digits."""
    return json.loads(raw, object_pairs_hook=_Pairs, parse_int=_Digits if digits else None)


def _check_members(raw: bytes, bare: bytes, limits: Limits) -> None:
    """Count keys and items before anything is made of them; the count of what is no JSON means nothing."""
    tight = bare.translate(None, b" \t\r\n")
    containers = tight.count(b"{") + tight.count(b"[") - tight.count(b"{}") - tight.count(b"[]")
    keys = tight.count(b":")
    items = tight.count(b",") + containers - keys
    for count, most, what in ((keys, limits.max_keys, "keys"), (items, limits.max_items, "list items")):
        if count > most:
            try:
                _LOOK.decode(raw)
            except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
                raise InvalidEvent(RefusalCode.NOT_JSON, "", _trim(why_no_json(raw, exc))) from exc
            raise InvalidEvent(RefusalCode.TOO_MANY_KEYS, "", f"more than {most} {what} in one event")


def _refuse_long_integer(raw: bytes, limits: Limits) -> None:
    """Say "out of range" of an integer that is JSON and that orjson takes for infinity."""
    try:
        _Walk(limits).check(_exactly(raw, digits=True))
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
    error = _first_error(rules.envelope, document)
    if error is not None:
        raise InvalidEvent(RefusalCode.BAD_ENVELOPE, pointer(*error.instance_path), _trim(error.message))


def _first_error(validator: Validator, document: Any) -> ValidationError | None:
    """Return the first fault only: each one carries a copy of what it is about, perhaps of everything."""
    try:
        validator.validate(document)
    except ValidationError as exc:
        return exc
    return None


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


_Path = (
    tuple[Any, str | int] | None
)  # of the container, and the place in it: a path costs nothing until it is shown


class _Walk:
    def __init__(self, limits: Limits) -> None:
        self._limits = limits

    def check(self, value: Any, at: _Path = None) -> None:
        kind = type(value)
        if kind is _Pairs:
            self._object(value, at)
        elif kind is list:
            for index, one in enumerate(value):
                if one and type(one) not in _HARMLESS:
                    self.check(one, (at, index))
        elif kind is str:
            self._string(value, at)
        elif kind is _Digits and (len(value) > 20 or not INT64_MIN <= int(value) <= INT64_MAX):
            raise InvalidEvent(
                RefusalCode.NUMBER_OUT_OF_RANGE, _shown_path(at), "integer outside the 64-bit signed range"
            )

    def _string(self, value: str, at: _Path) -> None:
        most = self._limits.max_string_bytes
        if len(value) > most // 4 and (size := len(value.encode(errors="surrogatepass"))) > most:
            message = f"{size} bytes; a string has at most {most}"
            raise InvalidEvent(RefusalCode.STRING_TOO_LONG, _shown_path(at), message)

    def _object(self, pairs: _Pairs, at: _Path) -> None:
        if at is None:
            self._envelope(pairs)
            return
        most = self._limits.max_string_bytes // 4
        for key, value in pairs:
            if len(key) > most:
                self._string(key, at)
            if value and type(value) not in _HARMLESS:
                self.check(value, (at, key))

    def _envelope(self, pairs: _Pairs) -> None:
        seen: set[str] = set()
        for key, value in pairs:
            if key in seen:
                where, message = pointer(_trim(key)), "this envelope key is given more than once"
                raise InvalidEvent(RefusalCode.DUPLICATE_KEY, where, message)
            seen.add(key)
            self._string(key, None)
            self.check(value, (None, key))


def _shown_path(at: _Path) -> str:
    parts: list[str | int] = []
    while at is not None:
        at, part = at
        parts.append(part)
    return pointer(*reversed(parts))


def _depth(bare: bytes) -> int:
    """Return the nesting depth of text without its strings; linear, never recursive."""
    steps = _STEPS[np.frombuffer(bare.translate(None, _NO_BRACKETS), np.uint8)]
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _shown(text: str) -> str:
    return repr(text if len(text) <= _MAX_SHOWN else text[:_MAX_SHOWN] + "...")


def _trim(text: str) -> str:
    return text if len(text) <= 4 * _MAX_SHOWN else text[: 4 * _MAX_SHOWN] + "..."


def _runs(numbers: Iterable[int]) -> str:
    """Return numbers as text, those that follow each other as one: `1-25, 27`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs) or "none"


def _listed(names: Any) -> str:
    known = sorted(names)
    return ", ".join(map(str, known[:20])) + (", ..." if len(known) > 20 else "") if known else "none"
