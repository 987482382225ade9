"""One event, from its arrival to the aggregate it counts in; or how far it can be said that it never came."""

from collections.abc import Mapping, Sequence

from pipeline.core.aggregate import HOURS, AggregateKey, aggregate_key, refused_key
from pipeline.core.days import HOUR_US, day_of
from pipeline.core.index import partitions_of, read_item
from pipeline.core.receipt import Receipt
from pipeline.core.redriven import Mark
from pipeline.core.segment import Segment
from pipeline.core.sighting import (
    CountedIn,
    Found,
    Hint,
    IndexPlace,
    ReceiptName,
    RowPlace,
    Searched,
    Sighting,
    Trace,
    acknowledged_by,
    first_of,
    searched_of,
)
from pipeline.flows.segment_rules import read_known
from pipeline.flows.sight import Decided, TracePorts, look_everywhere, look_where
from pipeline.flows.trace_redriven import marks_for, marks_of, redriven_rows, refusing
from pipeline.flows.window import family


def trace(tenant_id: str, event_id: str, hint: Hint, ports: TracePorts) -> Trace:
    """Return what became of a tenant's event.

    A hint is tried first; without one, or when it leads nowhere, everything is searched. The ledger is read before
    that, so what is committed meanwhile is neither found nor claimed to be missing.

    Raises:
        Corrupt: index or manifest name rows that are gone or belong to somebody else.
        Transient: try again.
    """
    decided = Decided(ports.find.ledger)
    sightings = look_where(tenant_id, event_id, hint, decided, ports)
    searched, by = Searched(None, None, 0), hint.kind
    if not sightings:
        sightings, gone = look_everywhere(tenant_id, event_id, decided, ports)
        searched, by = searched_of(decided.segments, gone, decided.lineages), "ids"
    reading = marks_of(ports)
    marks = marks_for(sightings, decided.lineages, reading)
    later = redriven_rows(tenant_id, event_id, sightings, marks.values(), ports)
    if later:
        sightings = sorted([*sightings, *later], key=lambda one: one.order)
        marks |= marks_for(later, decided.lineages, reading)
    receipts: dict[str, Sequence[Receipt]] = {}
    found = [_explain(tenant_id, one, sightings, marks, decided, receipts, ports) for one in sightings]
    return Trace(tuple(found), by, searched)


def _explain(
    tenant_id: str,
    sighting: Sighting,
    sightings: Sequence[Sighting],
    marks: Mapping[RowPlace, Mark],
    decided: Decided,
    receipts: dict[str, Sequence[Receipt]],
    ports: TracePorts,
) -> Found:
    """Gather what is known of one sighting; `receipts` keeps those that were read, by producer."""
    by_short, mark = {one.short: one for one in decided.lineages}, marks.get(sighting.place)
    lineage = by_short.get(sighting.lineage)
    # before the aggregate: what a committed segment counts is there by then
    segment = ports.find.ledger.segment(sighting.lineage, sighting.ordinal)
    receipt: ReceiptName | None = None
    came, came_in = lineage, segment  # a redriven unit came when it was refused
    if mark is not None and sighting.outcome != "quarantined":
        writer, ordinal = refusing(mark.place)
        came, came_in = by_short.get(writer), ports.find.ledger.segment(writer, ordinal)
    for producer in sorted({batch.producer for batch in came_in.batches} if came_in else ()):
        if producer not in receipts:
            receipts[producer] = ports.receipts.of(producer)
        receipt = receipt or acknowledged_by(sighting, came, receipts[producer])
    return Found(
        sighting=sighting,
        lineage=lineage,
        segment=segment,
        receipt=receipt,
        first=first_of(sighting, sightings, family(lineage, decided.lineages) if lineage else ()),
        index=_index_place(tenant_id, sighting, ports),
        counted=_counted(tenant_id, sighting, segment, ports),
        redriven=mark,
    )


def _index_place(tenant_id: str, sighting: Sighting, ports: TracePorts) -> IndexPlace | None:
    """Return the index entry that names a row; refused units are in no index."""
    if sighting.entity_id is None or sighting.event_time_us is None:
        return None
    dt = day_of(sighting.event_time_us)
    for item in ports.find.index.find(partitions_of(tenant_id, sighting.entity_id), dt, dt):
        for entry in read_item(item, sighting.entity_id):
            first, rows = entry.pointer.first_row, entry.pointer.rows
            here = entry.pointer.key == sighting.place.key and first <= sighting.place.row < first + rows
            if here:
                return IndexPlace(item.partition, item.name, entry.pointer)
    return None


def _counted(
    tenant_id: str, sighting: Sighting, segment: Segment | None, ports: TracePorts
) -> CountedIn | None:
    """Return the aggregate that a unit counts in, or will once its segment is committed."""
    at_us, event_type, lineage = sighting.event_time_us, sighting.event_type, sighting.lineage
    if at_us is None or event_type is None:
        known = read_known(ports.objects, segment.rules_digest) if segment else None
        if known is None:
            return None
        key = refused_key(tenant_id, event_type, sighting.arrived_us, lineage, known)
        return CountedIn(key, "quarantined", None, None, _included(key, sighting, ports))
    key = aggregate_key(tenant_id, event_type, day_of(at_us), sighting.tier, lineage)
    included = _included(key, sighting, ports)
    if sighting.outcome == "duplicate":
        return CountedIn(key, "duplicates", None, None, included)
    return CountedIn(key, "events", at_us // HOUR_US % HOURS, sighting.source, included)


def _included(key: AggregateKey, sighting: Sighting, ports: TracePorts) -> bool:
    item = ports.find.aggregates.read([key]).get(key)
    return item is not None and item.last_ordinal >= sighting.ordinal
