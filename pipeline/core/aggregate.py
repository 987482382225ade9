"""Aggregates: exact counts per (tenant, event type, event day), kept up to date by the loader.

    partition  <tenant>#<event type>
    name       <day>#<tier>#<lineage>         one writer each: the loader of that lineage

A segment's effect on an item is the item's new total, and the ordinal it is the total of. It is written only over
an older ordinal: that is the fence, and writing it again changes nothing. The total before is read when the segment
is encoded, after its predecessor was committed; if another loader comes first, this one's plan does not hold.

Events are counted by event day, without duplicates; duplicates by event day; quarantined units by arrival day, under
`_unknown` where tenant or type is none that is known.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np

from pipeline.core.days import DAY_US, day_of
from pipeline.core.event import Record, Refusal
from pipeline.core.filed import Filed, Words
from pipeline.core.rules import Rules
from pipeline.core.tiers import OPEN

UNKNOWN = "_unknown"
HOURS = 24
MAX_SOURCES = 100  # named in one item; events of further sources are counted in `other_sources`
_HOUR_US = DAY_US // HOURS


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


class Delta:
    """What one segment adds to one item."""

    def __init__(self) -> None:
        self.duplicates = self.quarantined = 0
        self.hours: Counter[int] = Counter()
        self.sources: Counter[str] = Counter()

    @property
    def events(self) -> int:
        """Return the number of events."""
        return self.hours.total()


def aggregate_key(tenant_id: str, event_type: str, dt: str, tier: str, lineage: str) -> AggregateKey:
    """Return the key of an item."""
    return AggregateKey(f"{tenant_id}#{event_type}", f"{dt}#{tier}#{lineage}")


def fold_rows(filed: Iterable[Filed], words: Words, lineage: str) -> dict[AggregateKey, Delta]:
    """Count accepted rows."""
    deltas: dict[AggregateKey, Delta] = {}
    for one in filed:
        tiers = np.zeros(len(one.times), dtype=np.bool_)
        for file in one.files:
            tiers[file.first : file.last] = file.tier != OPEN
        late = next((file.tier for file in one.files if file.tier != OPEN), OPEN)
        hours = one.times // _HOUR_US
        base, span = int(hours.min()), int(np.ptp(hours)) + 1
        code = one.tenants * span + (hours - base)
        code = (code * len(words.sources) + one.sources) * 4 + one.duplicate * 2 + tiers
        found, counts = np.unique(code, return_counts=True)
        for value, count in zip(found.tolist(), counts.tolist(), strict=True):
            rest, flags = divmod(value, 4)
            rest, source = divmod(rest, len(words.sources))
            tenant, since = divmod(rest, span)
            day, hour = divmod(base + since, HOURS)
            tier = late if flags & 1 else OPEN
            key = aggregate_key(words.tenants[tenant], one.event_type, day_of(day * DAY_US), tier, lineage)
            delta = deltas.setdefault(key, Delta())
            if flags & 2:
                delta.duplicates += count
            else:
                delta.hours[hour] += count
                delta.sources[words.sources[source]] += count
    return deltas


def fold_refusals(
    deltas: dict[AggregateKey, Delta],
    refusals: Iterable[Refusal],
    records: Sequence[Record],
    rules: Rules,
    lineage: str,
) -> None:
    """Add refused units to `deltas`."""
    for one in refusals:
        known_tenant, known_type = one.tenant_id in rules.tenants, one.event_type in rules.schemas
        tenant = one.tenant_id if known_tenant and one.tenant_id else UNKNOWN
        event_type = one.event_type if known_type and one.event_type else UNKNOWN
        key = aggregate_key(tenant, event_type, day_of(records[one.record].arrived_us), OPEN, lineage)
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
        if source in sources or len(sources) < MAX_SOURCES:
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
        hours=tuple(count + delta.hours[hour] for hour, count in enumerate(before.hours)),
        sources=sources,
        other_sources=other,
    )
