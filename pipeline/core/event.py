"""The event as it travels and as it is decoded: envelope, accepted row, refused unit.

A **unit** is one thing that was meant to be an event. A user record (a plain record, or one of a KPL aggregate) holds
one unit, or several (`core.apart`). Every unit becomes exactly one `Row` or one `Refusal`.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from pipeline.core.tracing import TRACEPARENT_PATTERN

Instant = Annotated[datetime, Meta(tz=True)]
_Id = Annotated[str, Meta(min_length=1, max_length=256)]
_TraceParent = Annotated[str, Meta(pattern=TRACEPARENT_PATTERN, max_length=55)]


class Envelope(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """The wire envelope; `data` keeps the producer's bytes."""

    event_id: Annotated[str, Meta(min_length=1, max_length=128)]
    tenant_id: str
    entity_id: _Id
    event_type: str
    schema_version: Annotated[int, Meta(ge=1, le=2**31 - 1)]
    source: _Id
    event_time: Instant
    data: msgspec.Raw
    received_time: Instant | UnsetType = UNSET
    correlation_id: _Id | None | UnsetType = UNSET
    traceparent: _TraceParent | UnsetType = UNSET  # of a sampled request; never stored in a column


class WireEnvelope(Envelope, forbid_unknown_fields=True, gc=False, kw_only=True):
    """The same with its times as they were written, for `core.moment` to look at."""

    event_time: str  # type: ignore[assignment]
    received_time: str | UnsetType = UNSET  # type: ignore[assignment]


class RefusalCode(StrEnum):
    """Why a unit is in quarantine: stable words, part of the product's interface."""

    BAD_AGGREGATE = "bad_aggregate"
    BAD_GZIP = "bad_gzip"
    TOO_MANY_EVENTS = "too_many_events"
    TOO_MUCH_PACKED = "too_much_packed"
    NOT_JSON = "not_json"
    TOO_LARGE = "too_large"
    TOO_DEEP = "too_deep"
    TOO_MANY_KEYS = "too_many_keys"
    STRING_TOO_LONG = "string_too_long"
    NUMBER_OUT_OF_RANGE = "number_out_of_range"
    DUPLICATE_KEY = "duplicate_key"
    BAD_ENVELOPE = "bad_envelope"
    UNSUPPORTED_CONTENT = "unsupported_content"
    UNKNOWN_TENANT = "unknown_tenant"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_VERSION = "unknown_version"
    SCHEMA_MISMATCH = "schema_mismatch"
    TIME_IN_FUTURE = "time_in_future"
    KILLS_WORKER = "kills_worker"


class Row(msgspec.Struct, gc=False):
    """One accepted event. `data` is a generated struct (`core.schema`), `raw` the producer's bytes of it."""

    envelope: Envelope
    data: Any
    raw: bytes
    record: int  # index of its Kinesis record within the open segment
    subsequence_number: int  # see `core.subsequence`


class Refusal(msgspec.Struct, gc=False):
    """One refused unit, whole: nothing of it is lost."""

    code: str
    pointer: str
    message: str
    raw: bytes
    record: int
    subsequence_number: int
    tenant_id: str | None = None
    event_type: str | None = None
    event_id: str | None = None


class Record(msgspec.Struct, frozen=True, gc=False):
    """One record as a consumer hands it over.

    `subsequence_number` is None for a Kinesis record that still has to be taken apart, and set where the
    consumer (KCL) has already taken an aggregate apart. With `is_event` a user record was taken apart too: this is one
    of its units, whatever its first bytes are.
    """

    sequence_number: str
    partition_key: str
    data: bytes
    arrived_us: int  # ApproximateArrivalTimestamp, microseconds since the epoch, UTC
    subsequence_number: int | None = None
    is_event: bool = False


class Limits(msgspec.Struct, frozen=True):
    """What one event may weigh, and what one user record may hold; checked before or while it is parsed."""

    max_event_bytes: int = 262_144
    max_depth: int = 32
    max_keys: int = 1_000
    max_items: int = 10_000  # of lists
    max_string_bytes: int = 65_536
    max_future_seconds: int = 3_600
    max_record_events: int = 10_000
    max_inflated_bytes: int = 4 * 2**20
    max_inflation: int = 50  # times the bytes of the gzip
    max_packed_bytes: int = 8 * 2**20  # of all packed user records of a Kinesis record, see `core.apart`
