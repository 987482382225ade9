"""The audit's arithmetic: received = archived + duplicates + quarantined, and every difference by name.

Three witnesses are held against each other: *received* comes from the producers' receipts, *archived* is counted
again from the objects themselves, and the ledger (with its manifest) must agree with both. Of units that nobody gave a
receipt for, *received* is what the objects hold, and the check is the ledger's count of decoded units.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.core.audit_gaps import GapLine, Gaps
from pipeline.core.days import day_of
from pipeline.core.keys import manifest_place
from pipeline.core.manifest import DataFile, TenantRows
from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.core.segment import Counts, Lineage, Segment
from pipeline.core.window import ids_size


@dataclass(frozen=True)
class ObjectCount:
    """One data object, read again. `problem` says why it could not be, and then the counts are 0."""

    key: str
    segment: str  # `<lineage>-<ordinal>` from its name
    size: int
    rows: int
    duplicates: int
    quarantined: int
    problem: str = ""
    digest: str = ""
    marks: int = 0  # of a file of marks, which are rows and no events


@dataclass(frozen=True)
class RecordCount:
    """What the objects hold of one Kinesis record; `distinct` counts its different sub-sequence numbers."""

    archived: int
    duplicates: int
    quarantined: int
    distinct: int
    arrived_us: int
    whole: bool = False  # refused as it was, without being taken apart

    @property
    def total(self) -> int:
        """Return the units found."""
        return self.archived + self.duplicates + self.quarantined


@dataclass(frozen=True)
class Witnesses:
    """Everything the audit looks at, gathered.

    `records` is keyed by (lineage short form, sequence number); what was redriven stands with the record it came in.
    """

    lineages: Sequence[Lineage]
    segments: Sequence[Segment]
    manifest: Sequence[DataFile]
    objects: Sequence[ObjectCount]
    records: Mapping[tuple[str, str], RecordCount]
    receipts: Sequence[Receipt]
    partitions: Sequence[str] | None = None  # as the manifest lists them; None: not looked at
    ids_bytes: Mapping[str, int] | None = None  # size of each ids file by segment name; None: not looked at
    tenants: Mapping[str, tuple[TenantRows, ...]] = field(default_factory=dict)  # of each file, counted again
    times: Mapping[str, tuple[int, int]] = field(
        default_factory=dict
    )  # first and last of each file, read again
    redriven: int = 0  # refused units that went through again


@dataclass
class Line:
    """One shard and arrival day of the balance."""

    received: int = 0
    archived: int = 0
    duplicates: int = 0
    quarantined: int = 0

    in_gap: int = 0  # acknowledged, and dropped by the stream before it was read

    @property
    def difference(self) -> int:
        """Return received - (archived + duplicates + quarantined + in a gap); 0 balances."""
        return self.received - self.archived - self.duplicates - self.quarantined - self.in_gap


@dataclass(frozen=True)
class Difference:
    """One thing that does not agree: a stable word, what it is about, and a sentence."""

    kind: str
    subject: str
    message: str


@dataclass
class PackedReport:
    """What the comparison of index and aggregates gave."""

    differences: list[Difference]
    index_items: int
    aggregate_rows: int


@dataclass
class Report:
    """The outcome. Balanced when there is no difference and nothing is on its way; complete without a gap too."""

    lines: dict[tuple[str, str], Line] = field(default_factory=lambda: defaultdict(Line))
    differences: list[Difference] = field(default_factory=list)
    gaps: list[GapLine] = field(default_factory=list)
    in_flight: int = 0  # acknowledged events beyond the last committed segment
    in_flight_since_us: int | None = None  # when the first of them may have been acknowledged
    sent_twice: int = 0  # batches that a producer had to send again; their copies are flagged duplicates
    unreceipted: int = 0  # units of labelled batches without a receipt: sent twice, their producer killed, or yet to write one
    index_items: int = 0
    aggregate_rows: int = 0
    plain: int = 0  # units of producers that give no receipts; received is what the loader decoded
    redriven: int = 0  # units that were refused once: they count as archived or duplicates now

    @property
    def balanced(self) -> bool:
        """True when nothing is missing, too much, or still on its way."""
        return not self.differences and not self.in_flight

    @property
    def complete(self) -> bool:
        """True when it is balanced and the stream dropped nothing that nobody had read."""
        return self.balanced and not self.gaps

    def total(self) -> Line:
        """Return the sum of all lines."""
        return Line(
            sum(line.received for line in self.lines.values()),
            sum(line.archived for line in self.lines.values()),
            sum(line.duplicates for line in self.lines.values()),
            sum(line.quarantined for line in self.lines.values()),
            sum(line.in_gap for line in self.lines.values()),
        )


def audit(found: Witnesses, packed: PackedReport | None = None, others: Iterable[Difference] = ()) -> Report:
    """Hold the witnesses against each other; what was found elsewhere joins the report."""
    report = Report(differences=[*others], redriven=found.redriven)
    if packed is not None:
        report.differences += packed.differences
        report.index_items, report.aggregate_rows = packed.index_items, packed.aggregate_rows
    _check_files(found, report)
    _check_ledger(found, report)
    _check_ids(found, report)
    _check_batches(found, report)
    unreceipted = _balance_records(found, report, _balance_receipts(found, report))
    report.plain = sum(one.counts.plain_units for one in found.segments if one.state == "committed")
    report.unreceipted = max(0, unreceipted - report.plain)
    report.differences.sort(key=lambda one: (one.kind, one.subject))
    return report


def _check_files(found: Witnesses, report: Report) -> None:
    """Manifest against objects: deleted, stray and altered files, and entries that lead astray."""
    named = {entry.key: entry for entry in found.manifest}
    _check_entries(found, report)
    there = {one.key: one for one in found.objects}
    for key in named.keys() - there.keys():
        _differ(report, "file_missing", key, "the manifest names this file, the bucket does not hold it")
    for key in there.keys() - named.keys():
        _differ(report, "file_stray", key, "the bucket holds this file, the manifest does not name it")
    for key in named.keys() & there.keys():
        entry, counted = named[key], there[key]
        if counted.problem:
            _differ(report, "file_unreadable", key, counted.problem)
        elif (entry.rows, entry.duplicates) != (counted.rows, counted.duplicates):
            _differ(
                report,
                "count_altered",
                key,
                f"the manifest says {entry.rows} rows, {entry.duplicates} duplicates; "
                f"the file holds {counted.rows} and {counted.duplicates}",
            )
        elif entry.bytes != counted.size:
            message = f"the manifest says {entry.bytes} bytes, the file has {counted.size}"
            _differ(report, "file_altered", key, message)
        elif entry.digest and counted.digest and entry.digest != counted.digest:
            _differ(report, "file_altered", key, "the file's bytes are not those that were written")
        else:
            _check_entry(entry, found, report)


def _check_entry(entry: DataFile, found: Witnesses, report: Report) -> None:
    """What readers go by when they leave a file, or some of its rows, alone."""
    key, times = entry.key, (entry.min_event_time_us, entry.max_event_time_us)
    if entry.tenants != found.tenants.get(key, entry.tenants):
        message = "the manifest has the tenants' rows in other places than the file: replays would go wrong"
        _differ(report, "tenants_altered", key, message)
    if times != found.times.get(key, times):
        message = "the manifest gives the file other times than its rows have: readers would pass over it"
        _differ(report, "times_altered", key, message)


def _check_entries(found: Witnesses, report: Report) -> None:
    """Every file has one entry, where its key says, in a partition that readers can find."""
    seen: set[str] = set()
    for entry in found.manifest:
        if entry.key in seen:
            _differ(report, "manifest_doubled", entry.key, "the manifest names this file more than once")
        seen.add(entry.key)
        if (entry.partition, entry.name) != manifest_place(entry.key):
            message = f"the manifest has this file under {entry.partition} {entry.name}, where no reader of it looks"
            _differ(report, "manifest_misplaced", entry.key, message)
    if found.partitions is not None:
        for partition in {entry.partition for entry in found.manifest} - set(found.partitions):
            message = (
                "the manifest's list lacks this partition: readers of many partitions do not see its files"
            )
            _differ(report, "partition_unlisted", partition, message)


def _check_ids(found: Witnesses, report: Report) -> None:
    """Every committed segment with rows has its fingerprints, or later copies would not be seen."""
    if found.ids_bytes is None:
        return
    for segment in found.segments:
        name = segment.ref.name
        wanted = ids_size(segment.counts.rows)
        if segment.state == "committed" and segment.counts.rows and found.ids_bytes.get(name) != wanted:
            message = f"the ids file has {found.ids_bytes.get(name, 0)} bytes, not {wanted}: duplicates may go unseen"
            _differ(report, "ids_altered", name, message)


def _check_ledger(found: Witnesses, report: Report) -> None:
    """Ledger against objects, and against itself: counts and continuity."""
    counted: dict[str, list[ObjectCount]] = defaultdict(list)
    for one in found.objects:
        counted[one.segment].append(one)
    last: dict[str, Segment] = {}
    for segment in sorted(found.segments, key=lambda one: (one.lineage, one.ordinal)):
        name = segment.ref.name
        before = last.get(segment.lineage)
        if (segment.ordinal, segment.start) != ((before.ordinal + 1, before.end) if before else (1, None)):
            _differ(report, "ledger_broken", name, "this segment does not begin where the one before it ends")
        last[segment.lineage] = segment
        files = counted.pop(name, [])
        if segment.state == "committed":
            _compare_counts(report, name, segment.counts, files)
    for name, files in counted.items():
        _differ(
            report, "segment_unknown", name, f"{len(files)} files of a segment that the ledger does not hold"
        )


def _compare_counts(report: Report, name: str, says: Counts, files: list[ObjectCount]) -> None:
    rows = sum(one.rows for one in files if not one.quarantined and not one.marks)
    duplicates = sum(one.duplicates for one in files)
    quarantined = sum(one.quarantined for one in files)
    if (says.rows, says.duplicates, says.quarantined) != (rows, duplicates, quarantined):
        _differ(
            report,
            "segment_altered",
            name,
            f"the ledger says {says.rows} rows, {says.duplicates} duplicates, {says.quarantined} quarantined; "
            f"its files hold {rows}, {duplicates} and {quarantined}",
        )
    size = sum(one.size for one in files)
    if not any(one.problem for one in files) and (says.files, says.bytes) != (len(files), size):
        message = (
            f"the ledger says {says.files} files of {says.bytes} bytes; there are {len(files)} of {size}"
        )
        _differ(report, "segment_altered", name, message)
    if says.units != says.rows + says.quarantined:
        _differ(
            report,
            "segment_altered",
            name,
            f"the ledger says {says.units} units, but {says.rows} rows and {says.quarantined} quarantined",
        )


def _check_batches(found: Witnesses, report: Report) -> None:
    """Batch labels: numbers without holes in a producer's receipts, and batches seen more than once."""
    acked: dict[tuple[str, int], set[int]] = defaultdict(set)
    closed = {receipt.producer for receipt in found.receipts if receipt.closed}
    numbers: dict[str, list[int]] = defaultdict(list)
    for receipt in found.receipts:
        numbers[receipt.producer].append(receipt.number)
        for batch in receipt.batches:
            acked[receipt.producer, batch.slot].add(batch.number)
    for producer, seen in numbers.items():
        if sorted(seen) != list(range(len(seen))):
            _differ(
                report, "receipt_missing", producer, "the producer's receipts are not numbered without a hole"
            )
    for (producer, slot), seen_numbers in acked.items():
        missing = sorted(set(range(max(seen_numbers) + 1)) - seen_numbers)
        if missing and producer in closed:
            _differ(
                report,
                "batch_unacknowledged",
                f"{producer}/{slot}",
                f"batches {missing[:5]} of slot {slot} were never acknowledged, later ones were",
            )
    times: dict[tuple[str, int, int], int] = defaultdict(int)
    for segment in found.segments:
        for span in segment.batches:
            for number in range(span.first, span.last + 1):
                times[span.producer, span.slot, number] += 1
    report.sent_twice = sum(count - 1 for count in times.values())


def _balance_receipts(found: Witnesses, report: Report) -> set[tuple[str, str]]:
    """Hold what was acknowledged against what is stored; return the records of which there is a receipt."""
    named = {one.name: one for one in found.lineages}
    ends = {
        segment.lineage: int(segment.end.sequence_number)
        for segment in sorted(found.segments, key=lambda one: one.ordinal)
        if segment.end and segment.state == "committed"
    }
    gaps = Gaps(found.segments, found.lineages)
    report.gaps = gaps.lines
    receipted: set[tuple[str, str]] = set()
    for receipt in found.receipts:
        for batch in receipt.batches:
            lineage = named.get(f"{receipt.stream}-{receipt.epoch}-{batch.shard_id}")
            key = (lineage.short if lineage else "", batch.sequence_number)
            receipted.add(key)
            dropped = gaps.around(key[0], batch, receipt) if key not in found.records else None
            if dropped is not None:
                dropped.events += batch.events
                line = report.lines[batch.shard_id, day_of(receipt.acked_until_us)]
                line.received += batch.events
                line.in_gap += batch.events
            elif int(batch.sequence_number) > ends.get(key[0], -1):
                report.in_flight += batch.events
                since_us = report.in_flight_since_us or receipt.acked_from_us
                report.in_flight_since_us = min(since_us, receipt.acked_from_us)
            else:
                _balance_batch(report, receipt, batch, found.records.get(key))
    return receipted


def _balance_records(found: Witnesses, report: Report, receipted: set[tuple[str, str]]) -> int:
    """Count what is stored, record by record; return the units without a receipt."""
    unreceipted = 0
    shards = {one.short: one.shard_id for one in found.lineages}
    for (short, sequence), count in found.records.items():
        line = report.lines[shards.get(short, short), day_of(count.arrived_us)]
        line.archived += count.archived
        line.duplicates += count.duplicates
        line.quarantined += count.quarantined
        if (short, sequence) not in receipted:
            line.received += count.total
            unreceipted += count.total
        if count.distinct != count.total:
            _differ(
                report,
                "row_repeated",
                f"{shards.get(short, short)}/{sequence}",
                f"{count.total} rows for {count.distinct} units of this record",
            )
    return unreceipted


def _balance_batch(report: Report, receipt: Receipt, batch: AckedBatch, count: RecordCount | None) -> None:
    day = day_of(count.arrived_us if count else receipt.acked_until_us)
    if count is not None and count.whole and count.total == 1:
        report.lines[
            batch.shard_id, day
        ].received += 1  # nobody took it apart: one unit, whatever it says of itself
        return
    report.lines[batch.shard_id, day].received += batch.events
    subject = f"{batch.shard_id}/{batch.sequence_number}"
    label = f"batch {batch.number} of slot {batch.slot}, producer {receipt.producer}"
    if count is None:
        _differ(report, "batch_lost", subject, f"{label}: {batch.events} events acknowledged, none archived")
    elif count.total != batch.events:
        _differ(
            report,
            "batch_differs",
            subject,
            f"{label}: {batch.events} events acknowledged; {count.archived} archived, "
            f"{count.duplicates} duplicates, {count.quarantined} quarantined",
        )


def _differ(report: Report, kind: str, subject: str, message: str) -> None:
    report.differences.append(Difference(kind, subject, message))


def count_by_kind(differences: Iterable[Difference]) -> dict[str, int]:
    """Return how many differences there are of each kind."""
    counts: dict[str, int] = defaultdict(int)
    for one in differences:
        counts[one.kind] += 1
    return dict(counts)
