"""Records to rows and refusals: the hot loop of the loader.

A unit that the fast path fully understands costs about 4 us; every other one is judged again, exactly, by
`core.judge`. No unit is ever dropped: it becomes one `Row` or one `Refusal`.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import compress
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np

from pipeline.core import kpl
from pipeline.core.apart import Packed
from pipeline.core.cloudevents import ATTRIBUTES
from pipeline.core.days import EPOCH
from pipeline.core.errors import InvalidEvent
from pipeline.core.event import Envelope, Record, Refusal, Row, WireEnvelope
from pipeline.core.judge import judge
from pipeline.core.moment import moment, moments
from pipeline.core.rules import Rules
from pipeline.core.subsequence import unit_numbers

# Quotes in an envelope without optional fields: 8 keys and 6 string values, two quotes each. More quotes mean an
# escaped quote or a repeated key; both are looked at again, slowly.
_QUOTES = 28
_QUOTES_OF_KEY = 2
_QUOTES_OF_STRING = 4
_UNSET = msgspec.UNSET
_TENANT, _TIME, _DATA = attrgetter("tenant_id"), attrgetter("event_time"), attrgetter("data")
_KIND = attrgetter("event_type", "schema_version")
_QUOTE = ord('"')
_KEY_BYTES = 5  # of the shortest key with its value and comma: `"":0,`
_ITEM_BYTES = 2  # of the shortest item with its comma: `0,`


# Of what batches and gzips became: rows as objects take ten times the memory of columns.
_ROWS_AT_ONCE = 5_000
_INFLATED_AT_ONCE = 4 * 2**20


@dataclass
class Decoded:
    """What the records of one open segment became; `record` in rows and refusals counts through all of them.

    Attributes:
        taken: told of rows early, in stream order, where records turn out to hold far more than they weigh; they are
            then forgotten here. Without it all rows stay.
        inflated_bytes: what gzipped records came to, beyond their own bytes.
        packed: what the last Kinesis record came to; its other parts may be decoded by another call.
    """

    rows: list[Row] = field(default_factory=list)
    refusals: list[Refusal] = field(default_factory=list)
    taken: Callable[[list[Row]], None] | None = None
    inflated_bytes: int = 0
    packed: Packed = field(default_factory=Packed)
    _untaken_bytes: int = 0

    def grew(self, inflated_bytes: int) -> None:
        """Note that a record was taken apart; hand rows over when there are many."""
        self.inflated_bytes += inflated_bytes
        self._untaken_bytes += inflated_bytes
        if self.taken and (len(self.rows) >= _ROWS_AT_ONCE or self._untaken_bytes >= _INFLATED_AT_ONCE):
            rows, self.rows, self._untaken_bytes = self.rows, [], 0
            self.taken(rows)


class Decoder:
    """Decodes records by one set of rules."""

    def __init__(self, rules: Rules) -> None:
        limits = rules.limits
        self._rules, self._tenants = rules, rules.tenants
        self._latest = EPOCH + timedelta(seconds=limits.max_future_seconds)  # of what arrived at EPOCH
        # A short unit cannot break the limits on strings, keys and items; its depth is that of its exact shape.
        counted = min(limits.max_keys * _KEY_BYTES, limits.max_items * _ITEM_BYTES)
        # Bytes of the longest event that `quick` looks at: none of them can break a limit.
        self.quick_bytes = min(limits.max_string_bytes, limits.max_event_bytes, counted)
        self._envelope = msgspec.json.Decoder(WireEnvelope).decode
        exact = {
            (name, number): version.shape
            for name, versions in rules.types.items()
            for number, version in versions.items()
            if version.shape.depth < limits.max_depth
        }
        self._fast = {kind: shape.decode for kind, shape in exact.items() if shape.decode is not None}
        self._fit = {kind: shape.all_fit for kind, shape in exact.items() if shape.all_fit is not None}

    def decode(self, records: Iterable[Record], first_index: int, into: Decoded) -> int:
        """Decode records into `into`, numbering them from `first_index`; return the number of units."""
        units, quick = 0, self.quick
        for index, record in enumerate(records, first_index):
            not_after = self._latest + timedelta(0, 0, record.arrived_us)
            payloads, first = [record.data], record.subsequence_number
            if first is None:
                first = 0
                if kpl.is_aggregate(record.data):
                    try:
                        payloads = kpl.split(record.data)
                    except InvalidEvent as exc:
                        into.refusals.append(_refusal(exc, record.data, index, 0))
                        units += 1
                        continue
            for number, payload in enumerate(payloads, first):
                row = quick(payload, not_after, index, number)
                if row is not None:
                    into.rows.append(row)
                    units += 1
                elif record.is_event:
                    self._slow(payload, index, number, not_after, into)
                    units += 1
                else:
                    units += self._apart(payload, record.sequence_number, index, number, not_after, into)
        return units

    def not_after(self, arrived_us: int) -> datetime:
        """Return the latest event time of what arrived then."""
        return self._latest + timedelta(0, 0, arrived_us)

    def decode_events(self, records: Iterable[Record], into: Decoded) -> None:
        """Decode records that are one event each, whatever their first bytes are."""
        for index, record in enumerate(records):
            self._event(record.data, index, 0, self._latest + timedelta(0, 0, record.arrived_us), into)

    def quick(self, payload: bytes, not_after: datetime, record: int = 0, number: int = 0) -> Row | None:
        """Return the row of one event that the fast path fully understands; None: `judge` has the verdict.

        What it accepts it accepts as well with optional envelope keys in front, up to `quick_bytes` in all.
        """
        if len(payload) > self.quick_bytes:
            return None
        try:
            envelope = self._envelope(payload)
            data = self._fast[envelope.event_type, envelope.schema_version](envelope.data)
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, RecursionError):
            return None
        raw = bytes(envelope.data)
        quotes = _quotes_outside(payload, raw)
        plain = (
            envelope.received_time is _UNSET
            and envelope.correlation_id is _UNSET
            and envelope.traceparent is _UNSET
        )
        when = moment(envelope.event_time)
        if (
            quotes != (_QUOTES if plain else _quotes(envelope))
            or envelope.tenant_id not in self._tenants
            or when is None
            or when > not_after
        ):
            return None
        envelope.event_time = when  # type: ignore[assignment]
        if not plain and not _settle_received(envelope):
            return None
        return Row(envelope, data, raw, record, number)

    def all_quick(
        self, payloads: Sequence[bytes], tenant_id: str, not_after: datetime
    ) -> list[WireEnvelope] | None:
        """Return the envelopes of one tenant's events if `quick` would understand every one; otherwise None.

        None also where an event has a field that the server sets. It makes no rows, and takes every step for all events
        before the next: two thirds of the time.
        """
        if max(map(len, payloads)) > self.quick_bytes or tenant_id not in self._tenants:
            return None
        envelope_of = self._envelope
        try:
            found = [envelope_of(payload) for payload in payloads]
            if set(map(_TENANT, found)) != {tenant_id} or not self._all_fit(found):
                return None
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, RecursionError):
            return None
        if not _no_key_twice(payloads, found):
            return None
        times = moments(list(map(_TIME, found)))
        return None if times is None or max(times) > not_after else found

    def _all_fit(self, envelopes: Sequence[WireEnvelope]) -> bool:
        """True when the data of each is as its version says; raises as their decoders do, and for a version that has none."""
        kinds = list(map(_KIND, envelopes))
        data = list(map(_DATA, envelopes))
        different = set(kinds)
        if len(different) == 1:
            return self._fit[kinds[0]](data)
        return all(
            self._fit[kind](list(compress(data, [one == kind for one in kinds]))) for kind in different
        )

    def _apart(
        self,
        payload: bytes,
        sequence_number: str,
        record: int,
        number: int,
        not_after: datetime,
        into: Decoded,
    ) -> int:
        """Decode a user record that is no ordinary event; return how many units it was."""
        try:
            units = into.packed.take_apart(payload, sequence_number, self._rules.limits)
        except InvalidEvent as exc:
            into.refusals.append(_refusal(exc, payload, record, number))
            return 1
        if units == [payload]:
            self._slow(payload, record, number, not_after, into)
            return 1
        for place, unit in zip(unit_numbers(number, len(units)), units, strict=True):
            self._event(unit, record, place, not_after, into)
        into.grew(max(sum(map(len, units)) - len(payload), 0))
        return len(units)

    def _event(self, payload: bytes, record: int, number: int, not_after: datetime, into: Decoded) -> None:
        row = self.quick(payload, not_after, record, number)
        if row is None:
            self._slow(payload, record, number, not_after, into)
        else:
            into.rows.append(row)

    def _slow(self, payload: bytes, record: int, number: int, not_after: datetime, into: Decoded) -> None:
        try:
            envelope, data = judge(payload, self._rules, not_after)
        except InvalidEvent as exc:
            into.refusals.append(_refusal(exc, payload, record, number, **_names(payload)))
        else:
            into.rows.append(Row(envelope, data, bytes(envelope.data), record, number))


def _refusal(exc: InvalidEvent, raw: bytes, record: int, number: int, **names: str | None) -> Refusal:
    return Refusal(exc.code, exc.pointer, exc.message, raw, record, number, **names)


def _settle_received(envelope: WireEnvelope) -> bool:
    """Turn the time of arrival, if there is one, from text into an instant; False when it is none."""
    if envelope.received_time is not msgspec.UNSET:
        received = moment(envelope.received_time)
        if received is None:
            return False
        envelope.received_time = received  # type: ignore[assignment]
    return True


def _quotes_outside(payload: bytes, raw: bytes) -> int:
    """Return how many quotes an event has outside its data."""
    if payload.endswith(raw, 0, -1):  # as nearly always: the data is last, and need not be counted
        return payload.count(b'"', 0, len(payload) - len(raw))
    return payload.count(b'"') - raw.count(b'"')


def _no_key_twice(payloads: Sequence[bytes], envelopes: Sequence[WireEnvelope]) -> bool:
    """True when events that were decoded have no envelope key twice, no escape in an envelope, and no field of the server's."""
    outside = _count_quotes(b"".join(payloads)) - _count_quotes(b"".join(map(_DATA, envelopes)))
    if outside == _QUOTES * len(payloads):  # none has fewer, so none has more
        return True
    return all(
        _quotes_outside(payload, bytes(one.data)) == _quotes(one) and not _is_stamped(one)
        for payload, one in zip(payloads, envelopes, strict=True)
    )


def _count_quotes(text: bytes) -> int:
    """Return how many there are, in a fifth of the time that bytes.count takes for what is frequent."""
    return int(np.count_nonzero(np.frombuffer(text, np.uint8) == _QUOTE))


def _is_stamped(envelope: WireEnvelope) -> bool:
    return envelope.received_time is not _UNSET or envelope.traceparent is not _UNSET


def _quotes(envelope: Envelope) -> int:
    quotes = _QUOTES
    if envelope.received_time is not msgspec.UNSET:
        quotes += _QUOTES_OF_STRING
    if envelope.correlation_id is not msgspec.UNSET:
        quotes += _QUOTES_OF_KEY if envelope.correlation_id is None else _QUOTES_OF_STRING
    if envelope.traceparent is not msgspec.UNSET:
        quotes += _QUOTES_OF_STRING
    return quotes


REFUSED_NAME_CHARACTERS = 256  # of what a refused unit says of itself: it may say anything


class _Names(msgspec.Struct):
    tenant_id: Any = None
    event_type: Any = None
    event_id: Any = None
    specversion: Any = msgspec.UNSET


class _CloudNames(msgspec.Struct):
    tenant_id: Any = msgspec.field(default=None, name=ATTRIBUTES["tenant_id"])
    event_type: Any = msgspec.field(default=None, name=ATTRIBUTES["event_type"])
    event_id: Any = msgspec.field(default=None, name=ATTRIBUTES["event_id"])


_NAMES = msgspec.json.Decoder(_Names).decode
_CLOUD_NAMES = msgspec.json.Decoder(_CloudNames).decode


def _names(payload: bytes) -> dict[str, str | None]:
    """Return what a refused unit says of itself, for those who look for it in quarantine; never trusted."""
    names: _Names | _CloudNames
    try:
        names = _NAMES(payload)
        if names.specversion is not msgspec.UNSET:
            names = _CLOUD_NAMES(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    found = {name: getattr(names, name) for name in _CloudNames.__struct_fields__}
    return {name: refused_name(value) if isinstance(value, str) else None for name, value in found.items()}


def refused_name(name: str) -> str:
    """Return a name as quarantine stores it: its beginning."""
    return name[:REFUSED_NAME_CHARACTERS]
