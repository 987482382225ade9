"""Events, rules and one-record decoding, as the tests of core need them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Limits, Record, Refusal, Row
from pipeline.core.rules import Rules, make_rules
from pipeline.core.schema import parse_schema
from pipeline.core.segment import Lineage

SCHEMAS = Path(__file__).parents[2] / "schemas"
ENVELOPE: dict[str, Any] = json.loads((SCHEMAS / "envelope.json").read_text(encoding="utf-8"))
ARRIVED_US = 1_710_072_000_000_000  # 2024-03-10T12:00:00Z
LINEAGE = Lineage("events-7-shardId-000000000000", "0001", "events", "shardId-000000000000")
DOOR: dict[str, Any] = {
    "type": "object",
    "properties": {
        "n": {"type": "integer"},
        "label": {"type": "string", "maxLength": 10},
        "at": {"type": "string", "format": "date-time"},
    },
    "required": ["n"],
    "additionalProperties": False,
}


def rules_for(*versions: Mapping[str, Any], limits: Limits | None = None, event_type: str = "door") -> Rules:
    """Return rules with one event type, its versions numbered from 1."""
    schemas = [parse_schema(event_type, number, document) for number, document in enumerate(versions, 1)]
    return make_rules(schemas, ["acme", "globex"], limits or Limits(), ENVELOPE)


def event(**changes: Any) -> dict[str, Any]:
    """Return an acceptable event of `DOOR` with some fields changed."""
    return {
        "event_id": "e1",
        "tenant_id": "acme",
        "entity_id": "door-1",
        "event_type": "door",
        "schema_version": 1,
        "source": "hall",
        "event_time": "2024-03-10T11:00:00Z",
        "data": {"n": 1},
        **changes,
    }


def cloud_event(**changes: Any) -> dict[str, Any]:
    """Return an acceptable event of `DOOR` as a CloudEvent, with some attributes changed."""
    return {
        "specversion": "1.0",
        "id": "e1",
        "tenantid": "acme",
        "subject": "door-1",
        "type": "door",
        "dataschema": "https://example.com/schemas/door/1",
        "source": "hall",
        "time": "2024-03-10T11:00:00Z",
        "datacontenttype": "application/json",
        "data": {"n": 1},
        **changes,
    }


def wire(document: Any) -> bytes:
    """Return JSON as most producers write it: compact."""
    return json.dumps(document, separators=(",", ":")).encode()


def with_data(data: bytes, **changes: Any) -> bytes:
    """Return an event around the very bytes of its `data`."""
    return wire(event(**{**changes, "data": 0})).replace(b'"data":0', b'"data":' + data)


def record(data: bytes, number: int = 1, partition_key: str = "key", arrived_us: int = ARRIVED_US) -> Record:
    """Return a Kinesis record."""
    return Record(str(number), partition_key, data, arrived_us)


def decode(payload: bytes, rules: Rules) -> Row | Refusal:
    """Decode one plain record, which is one unit whatever is in it."""
    decoded = Decoded()
    assert Decoder(rules).decode([record(payload)], 0, decoded) == 1
    found: list[Row | Refusal] = [*decoded.rows, *decoded.refusals]
    assert len(found) == 1
    return found[0]


def verdict(payload: bytes, rules: Rules) -> str:
    """Return "accepted" or the refusal's code."""
    found = decode(payload, rules)
    return str(found.code) if isinstance(found, Refusal) else "accepted"
