"""Index and aggregates against the archive, counted a second time and as plainly as possible."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from pipeline.core.aggregate import Aggregate
from pipeline.core.index import partitions_of, read_item
from pipeline.core.rules import Rules
from tests.sim.events import rules, version_of
from tests.sim.invariants import Invariant, Violation
from tests.sim.world import World


def check_packed(world: World) -> Iterator[Violation]:
    """Every row is under its entity once; every total is what the archive holds."""
    files = {key: file.plain for key, file in world.monitor.files.items()}
    yield from _index(world, {key: rows for key, rows in files.items() if not key.startswith("quarantine/")})
    yield from _aggregates(world, files)


def _index(world: World, files: dict[str, list[dict[str, Any]]]) -> Iterator[Violation]:
    rows: Counter[tuple[str, ...]] = Counter()
    for key, found in files.items():
        for number, row in enumerate(found):
            day = row["event_time"].date().isoformat()
            rows[row["tenant_id"], row["entity_id"], day, key, str(number)] += 1
    named: Counter[tuple[str, ...]] = Counter()
    for item in world.index.all_items():
        for entry in read_item(item):
            tenant = item.partition.split("#")[0]
            first, pointed = entry.pointer.first_row, files.get(entry.pointer.key, [])
            held = pointed[first : first + entry.pointer.rows]
            if item.partition not in partitions_of(tenant, entry.entity_id):
                yield Violation(Invariant.INDEX, f"{entry} under {item.partition}, where nobody looks")
            if entry.duplicates != sum(row["is_duplicate"] for row in held):
                yield Violation(Invariant.INDEX, f"{entry}: its duplicates are others")
            for number in range(first, first + entry.pointer.rows):
                named[tenant, entry.entity_id, entry.dt, entry.pointer.key, str(number)] += 1
    if named != rows:
        wrong = [*(rows - named), *(named - rows)]
        yield Violation(Invariant.INDEX, f"{len(wrong)} rows differ, such as {wrong[0]}")


def _aggregates(world: World, files: dict[str, list[dict[str, Any]]]) -> Iterator[Violation]:
    expected: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    last: dict[tuple[str, str], int] = defaultdict(int)
    for key, found in files.items():
        lineage, ordinal = key.rpartition("/")[2].removesuffix(".parquet").rsplit("-", 1)
        known = _known(world, lineage, int(ordinal))
        tier = "late" if key.startswith("late/") else "open"
        for row in found:
            if "is_duplicate" not in row:
                tenant = row["tenant_id"] if row["tenant_id"] in known.tenants else "_unknown"
                kind = row["event_type"] if row["event_type"] in known.schemas else "_unknown"
                moment, counted = row["ingested_time"], ["quarantined"]
            else:
                tenant, kind, moment = row["tenant_id"], key.split("/")[1][11:], row["event_time"]
                counted = [f"hour {moment.hour}", f"source {row['source']}", "events"]
                counted = ["duplicates"] if row["is_duplicate"] else counted
            name = (f"{tenant}#{kind}", f"{moment.date().isoformat()}#{tier}#{lineage}")
            expected[name].update(counted)
            last[name] = max(last[name], int(ordinal))
    stored = {(one.partition, one.name): one for one in world.aggregates.all_items()}
    for name in sorted(expected.keys() | stored.keys()):
        total = stored.get(name)
        if total is None or _counter(total) != expected[name] or total.last_ordinal != last[name]:
            yield Violation(
                Invariant.AGGREGATES, f"{name}: {total}, not {dict(expected[name])} at {last[name]}"
            )


def _known(world: World, lineage: str, ordinal: int) -> Rules:
    """Return the rules that a segment was judged by."""
    segment = world.ledger.rows.get((lineage, ordinal))
    return rules(version_of(segment.rules_digest) if segment else 0)


def _counter(one: Aggregate) -> Counter[str]:
    found = Counter({f"hour {hour}": count for hour, count in enumerate(one.hours)})
    found.update({f"source {source}": count for source, count in one.sources.items()})
    found.update(events=one.events, duplicates=one.duplicates, quarantined=one.quarantined)
    return +found
