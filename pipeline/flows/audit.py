"""The audit: gather the witnesses, count the objects again, let core compare.

What lands while it runs is on its way, never a difference; so the order of reading matters:

1. receipts, then what is committed        everything at or before it must be everywhere
2. index and aggregates
3. the ledger, redrives before their       what a redrive names was committed before it; what ledger and manifest name
   shards, and the manifest                was decided before the files are listed
4. the objects, segment by segment
5. what was redriven against what had been refused
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from pipeline.core.audit import Difference, ObjectCount, RecordCount, Report, Witnesses, audit
from pipeline.core.audit_ledger import (
    Extent,
    check_labels,
    check_lineages,
    check_seal,
    check_segments,
    unregistered,
)
from pipeline.core.keys import (
    EVENTS,
    IDS,
    LATE,
    QUARANTINE,
    REDRIVEN,
    Partition,
    data_place,
    ids_segment,
    name_in_key,
)
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.segment import Segment, settled
from pipeline.flows.audit_files import Counted, count_segment, split_segment
from pipeline.flows.audit_others import altered_rules, stored_prints, stray_ids, unstaged
from pipeline.flows.audit_packed import PackedAudit
from pipeline.flows.audit_redriven import audit_redriven, came_apart, rejoined
from pipeline.flows.marks import verified
from pipeline.flows.segment_rules import SegmentRules
from pipeline.ports.aggregates import Aggregates
from pipeline.ports.index import EntityIndex
from pipeline.ports.ledger import Ledger
from pipeline.ports.manifest import Manifest
from pipeline.ports.objects import ObjectInfo, Objects
from pipeline.ports.reading import Each
from pipeline.ports.receipts import Receipts


@dataclass(frozen=True)
class AuditPorts:
    """What the audit reads.

    Attributes:
        fetch: the bytes of a listed object; raises NotFound when it went away meanwhile.
        each: takes every segment's objects; here the answers may come in any order.
        progress: told of objects read, and of redriven units held against what was refused, how many more; called from
            any thread.
    """

    ledger: Ledger
    manifest: Manifest
    objects: Objects
    index: EntityIndex
    aggregates: Aggregates
    receipts: Receipts
    fetch: Callable[[ObjectInfo], bytes]
    each: Each
    progress: Callable[[int], None]


class _Files:
    """The data files of the settled segments: listed, named by the manifest, and counted."""

    def __init__(
        self, listed: Mapping[str, list[ObjectInfo]], entries: Iterable[DataFile], redrives: Collection[str]
    ) -> None:
        self.listed, self._redrives = listed, redrives
        self._named: dict[str, dict[str, DataFile]] = defaultdict(dict)
        for entry in entries:
            self._named[name_in_key(entry.key)][entry.key] = entry
        self.objects: list[ObjectCount] = []
        self.records: dict[tuple[str, str], RecordCount] = {}
        self.places: dict[tuple[str, str], Counter[int]] = defaultdict(Counter)  # of `Counted.places`
        self.tenants: dict[str, tuple[TenantRows, ...]] = {}
        self.times: dict[str, tuple[int, int]] = {}
        self.extents: dict[str, Extent] = {}
        self.other_ids: list[str] = []  # segments whose fingerprints are not those of their rows
        self._sound: set[str] = set()

    def take(self, counted: Counted) -> bool:
        """Add one segment; return whether its files are all there and as they were written."""
        self.objects += counted.objects
        for sequence, count in counted.records.items():
            key = (counted.lineage, sequence)
            before, redrive = self.records.get(key), counted.lineage in self._redrives
            self.records[key] = count if before is None else _add(before, count, apart=redrive)
        for sequence, numbers in counted.places.items():
            self.places[counted.lineage, sequence] += numbers
        if counted.recount is None:
            return False
        self.tenants |= counted.recount.tenants
        self.times |= counted.recount.times
        name = counted.ref.name
        written = {key: (entry.digest, entry.rows) for key, entry in self._named.get(name, {}).items()}
        if written != {one.key: (one.digest, one.rows) for one in counted.objects}:
            return False
        self._sound.add(name)
        self.extents[name] = _extent(counted)
        if counted.ids and counted.ids != counted.prints:
            self.other_ids.append(name)
        return True

    def damaged(self) -> Iterator[tuple[str, list[Partition]]]:
        """Yield the lineage and the places of each segment whose files are not all as they were written."""
        for name in sorted((self.listed.keys() | self._named.keys()) - self._sound):
            keys = {info.key for info in self.listed.get(name, [])} | self._named.get(name, {}).keys()
            yield split_segment(name)[0], [place for place in map(data_place, sorted(keys)) if place]


def run_audit(ports: AuditPorts) -> Report:
    """Return what agrees and what does not."""
    receipts, lineages = ports.receipts.all(), ports.ledger.lineages()
    before = {one.short: settled(ports.ledger.open(one.short).newest) for one in lineages}
    packed = PackedAudit(ports.index, ports.aggregates, before)
    redrives = {one.short: one.redrives for one in lineages if one.redrives}
    in_order = [*redrives, *(one.short for one in lineages if not one.redrives)]
    segments = {short: ports.ledger.segments(short) for short in in_order}
    decided = {short: _newest(found) for short, found in segments.items()}
    planned = {short: max((one.ordinal for one in found), default=0) for short, found in segments.items()}
    every = [segment for found in segments.values() for segment in found]
    partitions, manifest = ports.manifest.partitions(), ports.manifest.all_files()
    listed = _list(ports.objects)
    moving = _on_their_way(listed, decided, ports.ledger)
    entries = [entry for entry in manifest if name_in_key(entry.key) not in moving]
    files = _Files({name: infos for name, infos in listed.items() if name not in moving}, entries, redrives)
    rules, as_written = SegmentRules(ports.objects, every), _as_written(entries, ports.fetch)
    apart = came_apart(redrives, files.listed, as_written)
    for counted in ports.each(lambda infos: _count(infos, rules, apart, ports), files.listed.values()):
        if files.take(counted):
            packed.take(counted)
    for lineage, places in files.damaged():
        packed.damaged(lineage, places)
    redriven = audit_redriven(redrives, files.listed, as_written, apart, ports.progress)
    ids = {info.key: (_ids_name(info.key), info.size) for info in ports.objects.list(IDS)}
    written = _on_their_way([name for name, _ in ids.values()], decided, ports.ledger)
    witnesses = Witnesses(
        lineages,
        every,
        entries,
        files.objects,
        rejoined(files.records, redrives, redriven, files.places),
        receipts,
        # before and after: one may have come in between
        partitions=sorted({*partitions, *ports.manifest.partitions()}),
        ids_bytes=dict(ids.values()),
        tenants=files.tenants,
        times=files.times,
        redriven=redriven.marked.total(),
    )
    known = {one.ref.name for one in every} | listed.keys()
    seal = ports.ledger.seal_state()
    others = [
        *rules.differences(),
        *redriven.differences,
        *altered_rules(ports.objects),
        *check_lineages(lineages),
        *unregistered(map(split_segment, listed), ports.ledger.lineages()),
        *check_segments(every, files.extents, seal, redrives),
        *check_seal(entries, seal),
        *check_labels(lineages, every, receipts, files.records),
        *unstaged(ports.objects, ports.ledger, every),
        *stray_ids({key: name for key, (name, _) in ids.items()}, known | written),
        *(Difference("ids_altered", name, _OTHER_IDS) for name in files.other_ids),
    ]
    return audit(witnesses, packed.finish(decided, planned, known), others)


_OTHER_IDS = "the ids file holds other fingerprints than its rows have: duplicates may go unseen"


def _as_written(
    entries: Iterable[DataFile], fetch: Callable[[ObjectInfo], bytes]
) -> Callable[[ObjectInfo], bytes]:
    """Return a `fetch` that raises Corrupt for a file that is not as the manifest has it: it is named for that, and no witness."""
    named = {entry.key: entry for entry in entries if entry.digest}

    def read(info: ObjectInfo) -> bytes:
        entry = named.get(info.key)
        return verified(entry, lambda _: fetch(info)) if entry else fetch(info)

    return read


def _extent(counted: Counted) -> Extent:
    """Return what a segment's units say of it; all units of a record arrived with it."""
    arrivals = [one.arrived_us for one in counted.records.values()]
    return Extent(len(arrivals), max(map(int, counted.records)), min(arrivals), max(arrivals))


def _newest(segments: Iterable[Segment]) -> int:
    """Return the ordinal up to which everything is committed."""
    return max((one.ordinal for one in segments if one.state == "committed"), default=0)


def _list(objects: Objects) -> dict[str, list[ObjectInfo]]:
    """Return the data objects by segment."""
    groups: dict[str, list[ObjectInfo]] = defaultdict(list)
    for prefix in (EVENTS, LATE, QUARANTINE, REDRIVEN):
        for info in objects.list(prefix):
            groups[name_in_key(info.key)].append(info)
    return groups


def _count(
    infos: list[ObjectInfo], rules: SegmentRules, apart: Collection[str], ports: AuditPorts
) -> Counted:
    segment = name_in_key(infos[0].key)
    counted = count_segment(segment, infos, ports.fetch, rules.of(segment), ports.progress, apart)
    if not counted.prints:
        return counted
    rows = sum(one.rows for one in counted.objects if not one.quarantined and not one.marks)
    return replace(counted, ids=stored_prints(ports.objects, counted.ref, rows))


def _add(one: RecordCount, other: RecordCount, *, apart: bool) -> RecordCount:
    """Add what another segment holds of the same record.

    Only redrives go through a record's refused units apart from each other. Elsewhere it is a stray file: the distinct
    units are the larger count, so it shows.
    """
    return RecordCount(
        one.archived + other.archived,
        one.duplicates + other.duplicates,
        one.quarantined + other.quarantined,
        one.distinct + other.distinct if apart else max(one.distinct, other.distinct),
        min(one.arrived_us, other.arrived_us),
        whole=one.whole or other.whole,
    )


def _ids_name(key: str) -> str:
    """Return the name of the segment that fingerprints are of; "" for a key that no loader makes."""
    segment = ids_segment(key)
    return segment.name if segment else ""


def _on_their_way(names: Iterable[str], newest: dict[str, int], ledger: Ledger) -> set[str]:
    """Return the segments that were decided after the ledger was read.

    A plan comes before the first file, so a file that was listed belongs to a segment that the ledger holds by now,
    or to none.
    """
    places = {name: split_segment(name) for name in names}
    later = {name: place for name, place in places.items() if place.ordinal > newest.get(place.lineage, 0)}
    until: dict[str, int] = {}
    for lineage in {lineage for lineage, _ in later.values()}:
        found = ledger.open(lineage).newest
        until[lineage] = found.ordinal if found else 0
    return {name for name, (lineage, ordinal) in later.items() if ordinal <= until[lineage]}
