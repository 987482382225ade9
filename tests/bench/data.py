"""Generated events for the benches: about 435 bytes each, nested objects and lists, seeded."""

import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from pipeline.core.api_key import RANDOM_BYTES, make_key
from pipeline.core.event import Limits, Record
from pipeline.core.kpl import Aggregate
from pipeline.core.rules import Rules, make_rules
from pipeline.core.schema import parse_schema
from pipeline.machine.schema_files import load_envelope

TENANTS = tuple(f"tenant-{number:02d}" for number in range(20))
SOURCES = tuple(f"shop-{number}" for number in range(10))
EVENTS_PER_RECORD = 500
_DAY = datetime(2026, 3, 1, tzinfo=UTC)
ARRIVED_US = int((_DAY + timedelta(days=2)).timestamp() * 1_000_000)

_TEXT = {"type": "string", "maxLength": 64}
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "order_id": {"type": "string", "pattern": "^[A-Z]{2}[0-9]{8}$"},
        "amount": {"type": "number", "minimum": 0},
        "currency": {"type": "string", "enum": ["EUR", "USD", "GBP"]},
        "placed_at": {"type": "string", "format": "date-time"},
        "express": {"type": "boolean"},
        "customer": {
            "type": "object",
            "properties": {
                "id": _TEXT,
                "tier": {"type": "integer", "minimum": 0, "maximum": 9},
                "country": _TEXT,
            },
            "required": ["id"],
            "additionalProperties": False,
        },
        "items": {
            "type": "array",
            "maxItems": 100,
            "items": {
                "type": "object",
                "properties": {
                    "sku": _TEXT,
                    "quantity": {"type": "integer", "minimum": 1},
                    "price": {"type": "number"},
                },
                "required": ["sku", "quantity"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["order_id", "amount", "customer"],
    "additionalProperties": False,
}

KEY = make_key("bench", bytes(RANDOM_BYTES))  # of the HTTP API: the same in each run


def bench_rules(schemas_folder: Any) -> Rules:
    """Return rules for the generated events."""
    return make_rules(
        [parse_schema("order.placed", 1, SCHEMA)], TENANTS, Limits(), load_envelope(schemas_folder)
    )


def events(count: int, seed: int = 7, tenants: Sequence[str] = TENANTS) -> list[bytes]:
    """Return events as JSON lines without newline, all of one day, in no order of entity."""
    chance = random.Random(seed)
    made: list[bytes] = []
    for number in range(count):
        at = _DAY + timedelta(seconds=number * 86_000 / count)
        items = [
            {"sku": f"sku-{chance.randrange(5_000):05d}", "quantity": chance.randrange(1, 5), "price": 9.95}
            for _ in range(2)
        ]
        body = {
            "event_id": f"{chance.getrandbits(64):016x}",
            "tenant_id": chance.choice(tenants),
            "entity_id": f"customer-{chance.randrange(20_000):05d}",
            "event_type": "order.placed",
            "schema_version": 1,
            "source": chance.choice(SOURCES),
            "event_time": at.isoformat().replace("+00:00", "Z"),
            "data": {
                "order_id": f"AB{number:08d}",
                "amount": round(chance.random() * 500, 2),
                "currency": chance.choice(("EUR", "USD", "GBP")),
                "placed_at": at.isoformat().replace("+00:00", "Z"),
                "express": bool(number & 1),
                "customer": {"id": f"c-{chance.randrange(20_000)}", "tier": number % 10, "country": "DE"},
                "items": items,
            },
        }
        made.append(orjson.dumps(body))
    return made


def records(payloads: list[bytes]) -> list[Record]:
    """Return the events as KPL aggregates, as Kinesis would hand them over."""
    made: list[Record] = []
    for start in range(0, len(payloads), EVENTS_PER_RECORD):
        aggregate = Aggregate()
        for payload in payloads[start : start + EVENTS_PER_RECORD]:
            aggregate.add(payload)
        number = len(made)
        key = f"hr1.bench.{number % 64}.{number // 64}.{aggregate.count}"
        made.append(Record(f"{10**20 + number}", key, aggregate.encode(key, "0"), ARRIVED_US))
    return made
