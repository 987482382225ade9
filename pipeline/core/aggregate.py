"""Aggregates: exact counts per (tenant, event type, event day), kept up to date by the loader.

    partition  <tenant>#<event type>
    name       <day>#<tier>#<lineage>         one writer each: the loader of that lineage

A segment's effect on an item is the item's new total, and the ordinal it is the total of. It is written only over
an older ordinal: that is the fence, and writing it again changes nothing. The total before is read when the segment
is encoded, after its predecessor was committed; if another loader comes first, this one's plan does not hold.

Events are counted by event day, without duplicates; duplicates by event day; quarantined units by arrival day, under
`_unknown` where tenant or type is none that is known.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.core.days import DAY_US, HOUR_US, day_of
from pipeline.core.event import Record, Refusal
from pipeline.core.filed import I64, Filed, Words
from pipeline.core.rules import Rules
from pipeline.core.tiers import OPEN

UNKNOWN = "_unknown"
HOURS = 24
MAX_SOURCES = 100  # named in one item; events of further sources are counted in `other_sources`
# Of their names: a hundred items fit into one transaction of 4 MB, at a few write units each.
MAX_SOURCES_BYTES = 8_192


@dataclass(frozen=True)
class Known:
    """The tenants and event types of the rules a segment was judged by."""

    tenants: frozenset[str]
    event_types: frozenset[str]


class AggregateKey(NamedTuple):
    """The key of an item of table `aggregates`."""

    partition: str
    name: str


class Aggregate(msgspec.Struct, frozen=True):
    """One item: totals up to and including segment `last_ordinal` of its lineage.

    `hours` has 24 counts of events; `sources` counts events by source, exactly for each one it names.
    """

    partition: str
    name: str
    last_ordinal: int
    events: int = 0
    duplicates: int = 0
    quarantined: int = 0
    hours: tuple[int, ...] = (0,) * HOURS
    sources: dict[str, int] = {}
    other_sources: int = 0

    @property
    def key(self) -> AggregateKey:
        """Return the item's key."""
        return AggregateKey(self.partition, self.name)

    @property
    def dt(self) -> str:
        """Return the day."""
        return self.name.split("#", 1)[0]

    @property
    def tier(self) -> str:
        """Return the tier."""
        return self.name.split("#", 2)[1]


@dataclass
class Delta:
    """What one segment adds to one item."""

    duplicates: int = 0
    quarantined: int = 0
    hours: tuple[int, ...] = (0,) * HOURS
    sources: dict[str, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """Return the number of events."""
        return sum(self.hours)


def aggregate_key(tenant_id: str, event_type: str, dt: str, tier: str, lineage: str) -> AggregateKey:
    """Return the key of an item."""
    return AggregateKey(f"{tenant_id}#{event_type}", f"{dt}#{tier}#{lineage}")


def refused_key(
    tenant_id: str | None, event_type: str | None, arrived_us: int, lineage: str, known: Known
) -> AggregateKey:
    """Return the item that a refused unit counts in, by what its segment's rules knew."""
    tenant = tenant_id if tenant_id and tenant_id in known.tenants else UNKNOWN
    kind = event_type if event_type and event_type in known.event_types else UNKNOWN
    return aggregate_key(tenant, kind, day_of(arrived_us), OPEN, lineage)


def fold_rows(filed: Iterable[Filed], words: Words, lineage: str) -> dict[AggregateKey, Delta]:
    """Count accepted rows."""
    deltas: dict[AggregateKey, Delta] = {}
    for one in filed:
        days = one.times // DAY_US
        late = np.zeros(len(days), dtype=np.int64)
        tiers = [OPEN]
        for file in one.files:
            if file.tier != OPEN:
                late[file.first : file.last] = 1
                tiers = [OPEN, file.tier]
        first, span = int(days.min()), int(np.ptp(days)) + 1
        codes = (one.tenants * span + days - first) * 2 + late
        found, items = np.unique(codes, return_inverse=True)
        counted = _count(one, words, items, len(found))
        for code, delta in zip(found.tolist(), counted, strict=True):
            tenant, since = divmod(code // 2, span)
            dt, tier = day_of((first + since) * DAY_US), tiers[code % 2]
            deltas[aggregate_key(words.tenants[tenant], one.event_type, dt, tier, lineage)] = delta
    return deltas


def _count(one: Filed, words: Words, items: I64, size: int) -> list[Delta]:
    """Return for each of `size` items what its rows add; `items` says which item a row belongs to."""
    duplicates = np.bincount(items[one.duplicate], minlength=size).tolist()
    events = ~one.duplicate
    hours = one.times[events] // HOUR_US % HOURS
    by_hour = np.bincount(items[events] * HOURS + hours, minlength=size * HOURS).reshape(size, HOURS).tolist()
    deltas = [Delta(again, hours=tuple(row)) for again, row in zip(duplicates, by_hour, strict=True)]
    pairs, counts = np.unique(items[events] * len(words.sources) + one.sources[events], return_counts=True)
    for pair, count in zip(pairs.tolist(), counts.tolist(), strict=True):
        item, source = divmod(pair, len(words.sources))
        deltas[item].sources[words.sources[source]] = count
    return deltas


def fold_refusals(
    deltas: dict[AggregateKey, Delta],
    refusals: Iterable[Refusal],
    records: Sequence[Record],
    rules: Rules,
    lineage: str,
) -> None:
    """Add refused units to `deltas`."""
    known = Known(rules.tenants, frozenset(rules.schemas))
    for one in refusals:
        key = refused_key(one.tenant_id, one.event_type, records[one.record].arrived_us, lineage, known)
        deltas.setdefault(key, Delta()).quarantined += 1


def apply(
    before: Mapping[AggregateKey, Aggregate], deltas: Mapping[AggregateKey, Delta], ordinal: int
) -> list[Aggregate]:
    """Return the totals after a segment, by key.

    Args:
        before: the items as they are, where they exist.
        deltas: what the segment adds.
        ordinal: of the segment.
    """
    return [_total(before.get(key) or Aggregate(*key, 0), deltas[key], ordinal) for key in sorted(deltas)]


def _total(before: Aggregate, delta: Delta, ordinal: int) -> Aggregate:
    sources, other = dict(before.sources), before.other_sources
    for source, count in sorted(delta.sources.items()):
        if source in sources or _fits(sources, source):
            sources[source] = sources.get(source, 0) + count
        else:
            other += count
    return Aggregate(
        partition=before.partition,
        name=before.name,
        last_ordinal=ordinal,
        events=before.events + delta.events,
        duplicates=before.duplicates + delta.duplicates,
        quarantined=before.quarantined + delta.quarantined,
        hours=tuple(map(add, before.hours, delta.hours)),
        sources=sources,
        other_sources=other,
    )


def _fits(sources: Mapping[str, int], source: str) -> bool:
    """True when one more source may be named."""
    return len(sources) < MAX_SOURCES and len(msgspec.json.encode([*sources, source])) <= MAX_SOURCES_BYTES
