"""Records to rows and refusals: the hot loop of the loader.

A unit that the fast path fully understands costs about 4 us; every other one is judged again, exactly, by
`core.judge`. No unit is ever dropped: it becomes one `Row` or one `Refusal`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import msgspec

from pipeline.core import kpl
from pipeline.core.days import EPOCH
from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Envelope, Record, Refusal, Row, WireEnvelope
from pipeline.core.judge import judge
from pipeline.core.moment import moment
from pipeline.core.rules import Rules

# Quotes in an envelope without optional fields: 8 keys and 6 string values, two quotes each. More quotes mean an
# escaped quote or a repeated key; both are looked at again, slowly.
_QUOTES = 28
_QUOTES_OF_KEY = 2
_QUOTES_OF_STRING = 4
_KEY_BYTES = 5  # of the shortest key with its value and comma: `"":0,`


@dataclass
class Decoded:
    """What the records of one open segment became; `record` in rows and refusals counts through all of them."""

    rows: list[Row] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)


class Decoder:
    """Decodes records by one set of rules."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._envelope = msgspec.json.Decoder(WireEnvelope).decode
        self._fast = {
            (name, number): version.shape.decode
            for name, versions in rules.types.items()
            for number, version in versions.items()
            if version.shape.decode is not None and version.shape.depth < rules.limits.max_depth
        }

    def decode(self, records: Iterable[Record], first_index: int, into: Decoded) -> int:
        """Decode records into `into`, numbering them from `first_index`; return the number of units."""
        units, arrived_us, not_after = 0, -1, EPOCH
        for index, record in enumerate(records, first_index):
            if record.arrived_us != arrived_us:  # events of one aggregate arrived together
                arrived_us = record.arrived_us
                not_after = EPOCH + timedelta(
                    microseconds=arrived_us, seconds=self._rules.limits.max_future_seconds
                )
            if record.subsequence_number is not None:
                payloads, first = [record.data], record.subsequence_number
            else:
                first = 0
                try:
                    payloads = kpl.split(record.data) if kpl.is_aggregate(record.data) else [record.data]
                except InvalidEvent as exc:
                    into.refusals.append(Refusal(exc.code, exc.pointer, exc.message, record.data, index, 0))
                    units += 1
                    continue
            self._units(payloads, index, first, not_after, into)
            units += len(payloads)
        return units

    def _units(
        self, payloads: list[bytes], record: int, first: int, not_after: datetime, into: Decoded
    ) -> None:
        limits, tenants, fast, decode = self._rules.limits, self._rules.tenants, self._fast, self._envelope
        # A short unit cannot break the limits on strings and keys; its depth is that of its exact shape.
        short = min(limits.max_string_bytes, limits.max_event_bytes, limits.max_keys * _KEY_BYTES)
        keep, unset = into.rows.append, msgspec.UNSET
        for number, payload in enumerate(payloads, first):
            if len(payload) <= short:
                try:
                    envelope = decode(payload)
                    data = fast[envelope.event_type, envelope.schema_version](envelope.data)
                except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, RecursionError):
                    pass
                else:
                    raw = bytes(envelope.data)
                    plain = envelope.received_time is unset and envelope.correlation_id is unset
                    if (
                        payload.count(b'"') - raw.count(b'"') == (_QUOTES if plain else _quotes(envelope))
                        and envelope.tenant_id in tenants
                        and _settle_times(envelope, not_after)
                    ):
                        keep(Row(envelope, data, raw, record, number))
                        continue
            self._slow(payload, record, number, not_after, into)

    def _slow(self, payload: bytes, record: int, number: int, not_after: datetime, into: Decoded) -> None:
        try:
            envelope, data = judge(payload, self._rules, not_after)
        except InvalidEvent as exc:
            names = _names(payload)
            into.refusals.append(
                Refusal(exc.code, exc.pointer, exc.message, payload, record, number, **names)
            )
        else:
            into.rows.append(Row(envelope, data, bytes(envelope.data), record, number))


def _settle_times(envelope: WireEnvelope, not_after: datetime) -> bool:
    """Turn the envelope's times from text into instants; False when one is none, or lies in the future."""
    when = moment(envelope.event_time)
    if when is None or when > not_after:
        return False
    envelope.event_time = when  # type: ignore[assignment]
    if envelope.received_time is not msgspec.UNSET:
        received = moment(envelope.received_time)
        if received is None:
            return False
        envelope.received_time = received  # type: ignore[assignment]
    return True


def _quotes(envelope: Envelope) -> int:
    quotes = _QUOTES
    if envelope.received_time is not msgspec.UNSET:
        quotes += _QUOTES_OF_STRING
    if envelope.correlation_id is not msgspec.UNSET:
        quotes += _QUOTES_OF_KEY if envelope.correlation_id is None else _QUOTES_OF_STRING
    return quotes


REFUSED_NAME_CHARACTERS = 256  # of what a refused unit says of itself: it may say anything


class _Names(msgspec.Struct):
    tenant_id: Any = None
    event_type: Any = None
    event_id: Any = None


_NAMES = msgspec.json.Decoder(_Names).decode


def _names(payload: bytes) -> dict[str, str | None]:
    """Return what a refused unit says of itself, for those who look for it in quarantine; never trusted."""
    try:
        names = _NAMES(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    found = {name: getattr(names, name) for name in _Names.__struct_fields__}
    return {name: refused_name(value) if isinstance(value, str) else None for name, value in found.items()}


def refused_name(name: str) -> str:
    """Return a name as quarantine stores it: its beginning."""
    return name[:REFUSED_NAME_CHARACTERS]
