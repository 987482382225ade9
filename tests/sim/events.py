"""What the simulated producers send, and what must become of it, known without the product's decoder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from pipeline.core.event import Limits, Record
from pipeline.core.kpl import Aggregate
from pipeline.core.rules import Rules, make_rules
from pipeline.core.schema import parse_schema
from pipeline.core.slots import BatchLabel
from pipeline.core.window import fingerprints

TENANTS = ("acme", "globex")
DEADLY = b"whoever decodes this is dead"
TYPES = ("door.opened", "meter.read")
NEW_TENANT, NEW_TYPE = "initech", "lamp.lit"  # known to the later rules only
VERSIONS = (0, 1)
DAYS = ("2024-03-08", "2024-03-09", "2024-03-10")
BEGIN_US = 1_710_115_080_000_000  # 2024-03-10T23:58:00Z: arrivals pass midnight early in a run


@dataclass(frozen=True)
class Unit:
    """One produced unit.

    `codes` are for each version of the rules those that it may be refused with; none: these rules accept it. What all
    versions refuse has no other fields.
    """

    raw: bytes
    tenant_id: str = ""
    event_id: str = ""
    event_type: str = ""
    day: str = ""
    data: str = ""
    codes: tuple[tuple[str, ...], ...] = ((), ())

    def accepted(self, version: int) -> bool:
        """True when the unit must become a row under a version of the rules."""
        return not self.codes[version]

    @property
    def valid(self) -> bool:
        """True when some version accepts it."""
        return not all(self.codes)


@dataclass(frozen=True)
class Produced:
    """One Kinesis record as it was stored, and the units in it."""

    record: Record
    units: tuple[Unit, ...]
    label: BatchLabel | None


@dataclass(frozen=True)
class Payload:
    """One Kinesis record, not yet stored."""

    data: bytes
    partition_key: str
    units: tuple[Unit, ...]
    label: BatchLabel | None


@cache
def rules(version: int = 0) -> Rules:
    """Return the rules of a version of the deployment: 0 before it, 1 after it.

    The later ones know one tenant, one event type and one schema version more; what both accept becomes other bytes.
    """
    number: dict[str, Any] = {"n": {"type": "integer"}, "note": {"type": "string"}}
    more = {**number, "unit": {"type": "string"}}
    published = [(name, 1, number) for name in TYPES]
    tenants: tuple[str, ...] = TENANTS
    if version:
        published += [(TYPES[1], 2, more), (NEW_TYPE, 1, number)]
        tenants = (*TENANTS, NEW_TENANT)
    schemas = [
        parse_schema(name, one, {"type": "object", "properties": properties, "required": ["n"]})
        for name, one, properties in published
    ]
    words = {name: {"type": "string", "minLength": 1} for name in _ENVELOPE if name != "data"}
    properties = {**words, "schema_version": {"type": "integer", "minimum": 1}, "data": {"type": "object"}}
    envelope = {
        "type": "object",
        "properties": properties,
        "required": list(_ENVELOPE),
        "additionalProperties": False,
    }
    return make_rules(schemas, tenants, Limits(max_event_bytes=2_000), envelope)


@cache
def _versions() -> dict[str, int]:
    return {rules(version).digest: version for version in VERSIONS}


def version_of(digest: str) -> int:
    """Return the version whose rules have this digest.

    Raises:
        KeyError: none has.
    """
    return _versions()[digest]


_ENVELOPE = (
    "event_id",
    "tenant_id",
    "entity_id",
    "event_type",
    "schema_version",
    "source",
    "event_time",
    "data",
)


def deadly(serial: int) -> Payload:
    """Return a record that kills whoever decodes it."""
    raw = DEADLY + b" %d" % serial
    return Payload(raw, "plain-deadly", (Unit(raw, codes=(("kills_worker",),) * len(VERSIONS)),), None)


class Producer:
    """Makes records out of a seed; remembers what it sent, to send it again."""

    def __init__(self, random: Random, days: int, repeats: float, refusals: float, news: float) -> None:
        self._random, self._repeats, self._refusals, self._news = random, repeats, refusals, news
        self._days = DAYS[-days:]
        self._sent: dict[str, list[Unit]] = {}
        self._serial = 0
        self._batches = [0, 0]

    def payload(self, shard: str, kin: list[str]) -> Payload:
        """Make one record for a shard; ids are repeated out of what was sent to `kin`."""
        random = self._random
        pool = [unit for name in kin for unit in self._sent.get(name, [])]
        if random.random() < 0.5:
            unit = self.unit(pool)
            self._remember(shard, [unit])
            return Payload(unit.raw, f"plain-{random.randrange(9)}", (unit,), None)
        units: list[Unit] = []
        for _ in range(random.randint(1, 5)):
            units.append(self.unit(pool + units))
        self._remember(shard, units)
        return self._aggregate(units)

    def _aggregate(self, units: list[Unit]) -> Payload:
        random, aggregate = self._random, Aggregate()
        for unit in units:
            aggregate.add(unit.raw)
        label = None
        if random.random() < 0.8:
            slot = random.randrange(len(self._batches))
            label = BatchLabel("sim0", slot, self._batches[slot], len(units))
            self._batches[slot] += 1
        data = aggregate.encode(str(label) if label else "others", "0")
        if random.random() < self._refusals / 4:
            broken = data[:-1] + bytes([data[-1] ^ 1])
            units = [_refused(broken, "bad_aggregate", "not_json", "too_large")]
            data = broken
        return Payload(data, str(label) if label else "others", tuple(units), label)

    def _remember(self, shard: str, units: list[Unit]) -> None:
        self._sent.setdefault(shard, []).extend(unit for unit in units if unit.valid)

    def unit(self, pool: list[Unit]) -> Unit:
        """Make one event; its id may be one out of the pool."""
        random = self._random
        self._serial += 1
        again = None
        pool = [unit for unit in pool if unit.valid]
        if pool and random.random() < self._repeats:
            again = random.choice(pool[-6:] if random.random() < 0.6 else pool)
            if random.random() < 0.3:
                return again
        event_id = again.event_id if again else f"e{self._serial}"
        event: dict[str, Any] = {
            "event_id": event_id,
            "tenant_id": again.tenant_id if again and random.random() < 0.9 else random.choice(TENANTS),
            "entity_id": f"thing-{random.randrange(3)}",
            "event_type": random.choice(TYPES),
            "schema_version": 1,
            "source": f"sim{self._serial % 2}",
            "event_time": f"{random.choice(self._days)}T0{random.randrange(10)}:00:00Z",
            "data": {"n": self._serial, "note": "x" * random.randrange(4)},
        }
        if random.random() < self._refusals:
            return self._refused(event)
        if self._news and random.random() < self._news:
            return _accepted({**event, **random.choice(_NEWS)})
        return _accepted(event)

    def _refused(self, event: dict[str, Any]) -> Unit:
        kind = self._random.randrange(7)
        if kind == 0:
            return _refused(b'{"event_id": ' + str(self._serial).encode(), "not_json")
        change: dict[str, Any]
        code, change = (
            ("bad_envelope", {"entity_id": None}),
            ("unknown_tenant", {"tenant_id": "nobody"}),
            ("unknown_type", {"event_type": "door.painted"}),
            ("schema_mismatch", {"data": {"n": "one"}}),
            ("time_in_future", {"event_time": "2031-01-01T00:00:00Z"}),
            ("too_large", {"data": {"n": 1, "note": "y" * 2_000}}),
        )[kind - 1]
        return Unit(_encode({**event, **change}), codes=((code, *_unknown(event)), (code,)))


_NEWS: tuple[dict[str, Any], ...] = (
    {"tenant_id": NEW_TENANT},
    {"event_type": NEW_TYPE},
    {"event_type": TYPES[1], "schema_version": 2},
)


def _unknown(event: dict[str, Any]) -> tuple[str, ...]:
    """Return what the earlier rules may say of an event that the later ones accept."""
    found = {
        "unknown_tenant": event["tenant_id"] == NEW_TENANT,
        "unknown_type": event["event_type"] == NEW_TYPE,
        "unknown_version": event["schema_version"] == 2,
    }
    return tuple(code for code, holds in found.items() if holds)


def _refused(raw: bytes, *codes: str) -> Unit:
    return Unit(raw, codes=(codes, codes))


def _accepted(event: dict[str, Any]) -> Unit:
    return Unit(
        _encode(event),
        event["tenant_id"],
        event["event_id"],
        event["event_type"],
        event["event_time"][:10],
        _encode(event["data"]).decode(),
        (_unknown(event), ()),
    )


def _encode(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def prints_of(units: Sequence[Unit]) -> list[tuple[int, int]]:
    """Return the sorted fingerprints of accepted units."""
    found = fingerprints((unit.tenant_id, unit.event_id) for unit in units)
    return sorted(zip(found.high.tolist(), found.low.tolist(), strict=True))
