"""What the tests of redrive stand on: doors that refused what a later schema takes, in memory."""

import io
from typing import Any

import pyarrow.parquet as pq

from pipeline.core.event import Record
from pipeline.core.redriven import Mark, Wanted, read_marks
from pipeline.core.rules import Rules
from pipeline.flows.quarantine import QuarantinePorts
from pipeline.flows.redrive import Outcome, RedrivePorts, redrive, try_redrive
from pipeline.flows.write import WritePorts
from tests.core.kit import DOOR, event, rules_for, wire
from tests.fakes.watched import (
    Perform,
    WatchedAggregates,
    WatchedClock,
    WatchedIndex,
    WatchedLedger,
    WatchedManifest,
    WatchedObjects,
)
from tests.flows.deployment import Deployment

STRICT = rules_for({**DOOR, "required": ["n", "label"]})
FIXED = rules_for(DOOR)


def strict_house(shards: int = 1, max_rows: int = 10) -> Deployment:
    """Return a deployment whose schema wants what producers do not send."""
    house = Deployment(shards=shards, max_rows=max_rows)
    house.rules = STRICT
    return house


def bare(number: int, **changes: Any) -> bytes:
    """Return an event that the strict schema refuses and the fixed one accepts."""
    return wire(event(**{"event_id": f"e{number}", "entity_id": f"door-{number % 8}", **changes}))


def labelled(number: int, **changes: Any) -> bytes:
    """Return an event that both accept."""
    return bare(number, data={"n": number, "label": "x"}, **changes)


def send(house: Deployment, *payloads: bytes, shard: int = 0) -> list[Record]:
    """Put plain records, a second apart, and load them."""
    records = []
    for payload in payloads:
        records.append(house.stream.append(f"shardId-{shard:012d}", payload, "key"))
        house.clock.advance(1)
    house.load()
    return records


def ports_of(house: Deployment, perform: Perform | None = None) -> RedrivePorts:
    """Return the ports of a redrive, watched if asked."""
    plain = house.write_ports()
    if perform is None:
        return RedrivePorts(plain, lambda _units: None)
    watched = WritePorts(
        ledger=WatchedLedger(house.ledger, perform),
        objects=WatchedObjects(house.objects, perform),
        manifest=WatchedManifest(house.manifest, perform),
        index=WatchedIndex(house.index, perform),
        aggregates=WatchedAggregates(house.aggregates, perform),
        clock=WatchedClock(house.clock, perform),
        facts=house.facts,
        each=plain.each,
    )
    return RedrivePorts(watched, lambda _units: None)


def again(
    house: Deployment, rules: Rules = FIXED, wanted: Wanted | None = None, perform: Perform | None = None
) -> Outcome:
    """Redrive."""
    return redrive(wanted or Wanted(), rules, house.limits, ports_of(house, perform))


def dry(house: Deployment, rules: Rules = FIXED, wanted: Wanted | None = None) -> Outcome:
    """Say what a redrive would do."""
    return try_redrive(wanted or Wanted(), rules, ports_of(house))


def reading(house: Deployment) -> QuarantinePorts:
    """Return the ports of reading the quarantine."""
    return ports_of(house).quarantine


def tables(house: Deployment, prefix: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every file under a prefix, by key, without the manifest."""
    return {
        key: pq.read_table(io.BytesIO(stored.body)).to_pylist()
        for key, stored in sorted(house.objects.stored.items())
        if key.startswith(prefix)
    }


def archived(house: Deployment) -> list[dict[str, Any]]:
    """Return every archived row, by position."""
    rows = [row for found in tables(house, "events/").values() for row in found]
    return sorted(rows, key=lambda one: (int(one["sequence_number"]), one["subsequence_number"]))


def marks(house: Deployment) -> list[Mark]:
    """Return every mark."""
    found: list[Mark] = []
    for key, stored in sorted(house.objects.stored.items()):
        if key.startswith("redriven/"):
            found += read_marks(stored.body)
    return found
