"""What must hold at the end: equal rows, not totals; the ledger, manifest and bucket agree with each other."""

from collections import Counter
from collections.abc import Iterable, Iterator

from pipeline.core.errors import HeadraceError
from pipeline.core.keys import ids_key, staged_digest
from pipeline.core.segment import Lineage, Segment
from pipeline.core.staging import unstage
from pipeline.core.window import decode_ids
from tests.sim.archive import Place, StoredRefusal, StoredRow, is_data
from tests.sim.events import Produced, Unit, prints_of, version_of
from tests.sim.invariants import Invariant, Violation
from tests.sim.naive import Accepted, Decided, naive_flags
from tests.sim.packed import check_packed
from tests.sim.trouble import settle_gaps
from tests.sim.witness import check_audit, check_promises
from tests.sim.world import World


def check(world: World) -> list[Violation]:
    """Return everything that does not hold once all is drained."""
    return list(_all(world))


def _all(world: World) -> Iterator[Violation]:
    yield from check_promises(world)  # of all that was produced, also of what the stream dropped since
    yield from settle_gaps(world)
    yield from _units(world)
    yield from _bucket(world)
    yield from _manifest(world)
    yield from _seals(world)
    yield from check_packed(world)
    yield from check_audit(world)
    decided: dict[str, list[Decided]] = {}
    for shard in world.shards:
        lineage, produced = shard.lineage, world.produced[shard.lineage.name]
        segments = world.ledger.segments(lineage.short)
        broken = list(_ledger(lineage, segments, produced, closed=shard.closed))
        yield from broken
        if broken:
            return  # what follows reads the produced records by these segments
        parts = [_covered(segment, produced) for segment in segments]
        decided[lineage.short] = [
            Decided(segment, _accepted(segment, part)) for segment, part in zip(segments, parts, strict=True)
        ]
        for segment, part in zip(segments, parts, strict=True):
            yield from _counts(world, segment, part)
            yield from _ids(world, segment, part)
    yield from _duplicates(world, decided)


def _places(lineage: str, one: Produced) -> Iterator[tuple[Place, Unit]]:
    for index, unit in enumerate(one.units):
        yield Place(lineage, one.record.sequence_number, index), unit


def _units(world: World) -> Iterator[Violation]:
    """Every accepted unit is one row, every refused one is one row of quarantine, each as it was produced.

    Which it is depends on the rules of the segment that covers it: whoever planned it ran them, whoever finished it.
    """
    rows: Counter[StoredRow] = Counter()
    refusals: Counter[StoredRefusal] = Counter()
    codes: dict[Place, tuple[str, ...]] = {}
    for shard in world.shards:
        segments = world.ledger.segments(shard.lineage.short)
        for one in world.produced[shard.lineage.name]:
            version = _version(segments, one)
            for place, unit in _places(shard.lineage.short, one):
                if unit.accepted(version):
                    rows[_row(place, unit, one.record.arrived_us)] += 1
                else:
                    codes[place] = unit.codes[version]
                    refusals[_refusal(place, unit, one)] += 1
    stored = Counter(row._replace(is_duplicate=False) for file in world.monitor.rows.values() for row in file)
    refused = [refusal for file in world.monitor.refusals.values() for refusal in file]
    yield from _compare(rows, stored)
    bare = Counter(one._replace(code="") for one in refused)
    if bare != refusals:
        wrong = [*(refusals - bare), *(bare - refusals)]
        yield Violation(Invariant.QUARANTINE, f"{len(wrong)} differ, such as {wrong[0]}")
    for found in refused:
        if found.code not in codes.get(found.place, (found.code,)):
            yield Violation(
                Invariant.QUARANTINE, f"{found.place}: {found.code} instead of {codes[found.place]}"
            )


def _version(segments: list[Segment], one: Produced) -> int:
    covering = (segment for segment in segments if _covered(segment, [one]))
    return next((version_of(segment.rules_digest) for segment in covering), 0)


def _row(place: Place, unit: Unit, arrived_us: int) -> StoredRow:
    return StoredRow(
        place,
        unit.tenant_id,
        unit.event_id,
        unit.event_type,
        unit.day,
        unit.data,
        arrived_us,
        is_duplicate=False,
    )


def _refusal(place: Place, unit: Unit, one: Produced) -> StoredRefusal:
    return StoredRefusal(place, "", unit.raw, one.record.partition_key, one.record.arrived_us)


def _compare(rows: Counter[StoredRow], stored: Counter[StoredRow]) -> Iterator[Violation]:
    missing, extra = rows - stored, stored - rows
    here, there = {row.place for row in stored}, {row.place for row in rows}
    lost = [row for row in missing if row.place not in here]
    repeated = [row for row in extra if stored[row] > 1]
    altered = [row for row in extra if stored[row] == 1 or row.place not in there]
    for invariant, found in (
        (Invariant.NOT_LOST, lost),
        (Invariant.NOT_REPEATED, repeated),
        (Invariant.UNALTERED, altered),
    ):
        if found:
            yield Violation(invariant, f"{len(found)} rows, such as {found[0]}")


def _bucket(world: World) -> Iterator[Violation]:
    """The data files in the bucket are those that the staging objects of committed segments name, byte for byte."""
    named: dict[str, str] = {}
    for segment in world.ledger.rows.values():
        try:
            staged = world.objects.get(segment.staging_key)
            effects = world.monitor.staged((segment.lineage, segment.ordinal))
            for one in (effects or unstage(staged, staged_digest(segment.staging_key))).objects:
                named[one.key] = one.digest
        except HeadraceError as exc:
            yield Violation(Invariant.NAMED, f"{segment.staging_key}: {exc}")
    stored = {
        key: one.digest for key, one in world.objects.stored.items() if is_data(key) or key.startswith("ids/")
    }
    if named != stored:
        wrong = sorted(set(named.items()) ^ set(stored.items()))
        yield Violation(Invariant.NAMED, f"{len(wrong)} objects, such as {wrong[0]}")


def _manifest(world: World) -> Iterator[Violation]:
    monitor = world.monitor
    expected: dict[str, tuple[int, int]] = {}
    for key in [*monitor.rows, *monitor.refusals]:
        rows = monitor.rows.get(key, [])
        count = len(rows) or len(monitor.refusals.get(key, []))
        expected[key] = (count, sum(row.is_duplicate for row in rows))
    found = [(entry.key, (entry.rows, entry.duplicates)) for entry in world.manifest.all_files()]
    if Counter(found) != Counter(expected.items()):
        wrong = sorted(set(found) ^ set(expected.items()))
        yield Violation(Invariant.MANIFEST, f"{len(wrong)} entries, such as {wrong[:1]}")


def _seals(world: World) -> Iterator[Violation]:
    """A row is in the late tier exactly when its day was sealed at the moment its plan took hold."""
    for key, rows in world.monitor.rows.items():
        if not rows:
            continue
        ordinal = int(key.rpartition("-")[2].removesuffix(".parquet"))
        seal = world.monitor.seals.get((rows[0].place.lineage, ordinal))
        for row in rows:
            if seal is None or seal.is_late(row.day) != key.startswith("late/"):
                yield Violation(Invariant.SEALED, f"{key} holds {row.day}, planned under {seal}")
                break


def _ledger(
    lineage: Lineage, segments: list[Segment], produced: list[Produced], *, closed: bool
) -> Iterator[Violation]:
    end = None
    for ordinal, segment in enumerate(segments, 1):
        if (segment.ordinal, segment.state, segment.start) != (ordinal, "committed", end):
            yield Violation(
                Invariant.LEDGER,
                f"{lineage.short}: place {ordinal} after {end} holds {segment.ordinal}, {segment.state}, from {segment.start}",
            )
        if segment.shard_end != (closed and ordinal == len(segments)):
            yield Violation(Invariant.LEDGER, f"{lineage.short}/{ordinal}: shard_end is {segment.shard_end}")
        end = segment.end
    last = int(end.sequence_number) if end else -1
    beyond = [one for one in produced if int(one.record.sequence_number) > last]
    if beyond:
        yield Violation(
            Invariant.NOT_LOST, f"{lineage.short}: {len(beyond)} records after the last segment's end"
        )


def _covered(segment: Segment, produced: list[Produced]) -> list[Produced]:
    """Return the records in (start, end]: whole ones, since a segment ends between Kinesis records."""
    start = int(segment.start.sequence_number) if segment.start else -1
    end = int(segment.end.sequence_number) if segment.end else -1
    return [one for one in produced if start < int(one.record.sequence_number) <= end]


def _accepted(segment: Segment, part: list[Produced]) -> list[Accepted]:
    version = version_of(segment.rules_digest)
    return [
        Accepted(place, (unit.tenant_id, unit.event_id))
        for one in part
        for place, unit in _places(segment.lineage, one)
        if unit.accepted(version)
    ]


def _counts(world: World, segment: Segment, part: list[Produced]) -> Iterator[Violation]:
    units = [unit for one in part for unit in one.units]
    version = version_of(segment.rules_digest)
    rows = sum(unit.accepted(version) for unit in units)
    suffix = f"/{segment.lineage}-{segment.ordinal:012d}.parquet"
    files = [key for key in world.objects.stored if is_data(key) and key.endswith(suffix)]
    duplicates = sum(row.is_duplicate for key in files for row in world.monitor.files[key].rows)
    expected = {
        "records": len(part),
        "units": len(units),
        "rows": rows,
        "duplicates": duplicates,
        "quarantined": len(units) - rows,
        "plain_units": sum(len(one.units) for one in part if one.label is None),
        "files": len(files),
        "bytes": sum(len(world.objects.stored[key].body) for key in files),
    }
    found = {name: getattr(segment.counts, name) for name in expected}
    where = f"{segment.lineage}/{segment.ordinal}"
    if found != expected:
        yield Violation(Invariant.COUNTS, f"{where}: {found}, not {expected}")
    arrivals = [one.record.arrived_us for one in part]
    if arrivals and (segment.first_arrival_us, segment.max_arrival_us) != (min(arrivals), max(arrivals)):
        yield Violation(Invariant.COUNTS, f"{where}: arrivals {segment}")
    yield from _batches(where, segment, part)


def _batches(where: str, segment: Segment, part: list[Produced]) -> Iterator[Violation]:
    seen = sorted((one.label.producer, one.label.slot, one.label.number) for one in part if one.label)
    events = sum(one.label.events for one in part if one.label)
    ranges = segment.batches
    named = sorted(
        (one.producer, one.slot, number) for one in ranges for number in range(one.first, one.last + 1)
    )
    if named != seen or events != sum(one.events for one in ranges):
        yield Violation(Invariant.COUNTS, f"{where}: batches {ranges}, seen {seen}")


def _ids(world: World, segment: Segment, part: list[Produced]) -> Iterator[Violation]:
    version = version_of(segment.rules_digest)
    accepted = [unit for one in part for unit in one.units if unit.accepted(version)]
    key = ids_key(segment.lineage, segment.ordinal)
    if key not in world.objects.stored:
        if accepted:
            yield Violation(Invariant.NAMED, f"{key} is missing")
        return
    ids = decode_ids(world.objects.stored[key].body)
    if sorted(zip(ids.high.tolist(), ids.low.tolist(), strict=True)) != prints_of(accepted):
        yield Violation(Invariant.COUNTS, f"{key} holds other ids than its segment")


def _duplicates(world: World, decided: dict[str, list[Decided]]) -> Iterator[Violation]:
    parents = {one.lineage.short: one.lineage.parents for one in world.shards}
    expected = naive_flags(decided, parents, world.scenario.limits.window)
    stored = {row.place: row.is_duplicate for found in world.monitor.rows.values() for row in found}
    wrong = [place for place, flag in expected.items() if stored.get(place) != flag]
    if wrong:
        yield Violation(
            Invariant.DUPLICATES, f"{len(wrong)} flags, such as {wrong[0]}: {stored.get(wrong[0])}"
        )


def names(violations: Iterable[Violation]) -> set[Invariant]:
    """Return the invariants that broke."""
    return {one.invariant for one in violations}
