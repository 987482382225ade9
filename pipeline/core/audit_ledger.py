"""The audit of what the ledger says besides its counts: lineages, the seal, and each segment against its files.

What is not held against anything, because nothing else knows it: which parents a shard has, whether a newest segment ended
its shard, from when to when a gap reaches, and how many of a segment's units came without a label.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.core.audit import Difference
from pipeline.core.days import day_of
from pipeline.core.keys import staging_prefix
from pipeline.core.manifest import DataFile
from pipeline.core.receipt import Receipt
from pipeline.core.segment import Lineage, SealState, Segment, redrive_lineage


@dataclass(frozen=True)
class Extent:
    """What the files of one segment say of it: Kinesis records, the last sequence number, first and last arrival."""

    records: int
    last: int
    first_arrival_us: int
    max_arrival_us: int


def check_lineages(lineages: Sequence[Lineage]) -> list[Difference]:
    """Return which lineages contradict themselves or each other."""
    shorts = Counter(one.short for one in lineages)
    named = {one.short: one for one in lineages}
    found = []
    for one in lineages:
        wrong = ""
        if shorts[one.short] > 1:
            wrong = "two lineages have this short form: their keys collide"
        elif not one.redrives and not (
            one.name.startswith(f"{one.stream}-") and one.name.endswith(f"-{one.shard_id}")
        ):
            wrong = f"it is named {one.name}, but says stream {one.stream} and shard {one.shard_id}"
        elif one.redrives and not (
            one.redrives in named and one == redrive_lineage(named[one.redrives], one.short)
        ):
            wrong = f"it is not what a redrive of lineage {one.redrives} is: what was redriven may come twice"
        elif one.short in one.parents or not shorts.keys() >= set(one.parents):
            wrong = f"its parents {', '.join(one.parents)} are not other lineages: duplicates may go unseen"
        if wrong:
            found.append(Difference("lineage_altered", one.short, wrong))
    return found


def unregistered(places: Iterable[tuple[str, int]], lineages: Iterable[Lineage]) -> list[Difference]:
    """Return the lineages that files name and the ledger does not; `lineages` were read after the files were listed."""
    known = {one.short for one in lineages}
    message = "files are named after this lineage, and the ledger has none of this short form"
    lost = sorted({lineage for lineage, ordinal in places if ordinal} - known)
    return [Difference("lineage_missing", lineage, message) for lineage in lost]


def check_segments(
    segments: Sequence[Segment], extents: Mapping[str, Extent], seal: SealState, redrives: Collection[str]
) -> list[Difference]:
    """Return which rows of the ledger contradict the row before, the seal, or their own files.

    Args:
        segments: of all lineages.
        extents: of the segments whose files are all as they were written, by name.
        seal: read after them.
        redrives: the lineages of redrives, whose segments are no ranges of positions.
    """
    found = []
    before: Segment | None = None
    for one in sorted(segments, key=lambda one: (one.lineage, one.ordinal)):
        name = one.ref.name
        if before is not None and before.lineage == one.lineage:
            if before.state != "committed" or before.shard_end:
                says = "is not committed" if before.state != "committed" else "ended its shard"
                message = f"segment {before.ordinal} {says}, and yet this one follows"
                found.append(Difference("ledger_broken", name, message))
            if one.seal_version < before.seal_version:
                message = "it was planned under an older seal than the segment before"
                found.append(Difference("segment_altered", name, message))
        gaps = (before.gap, before.gap_beyond) if before and before.lineage == one.lineage else ()
        if one.gap_beyond not in (None, *gaps):
            message = "it goes on with a gap that the segment before does not know"
            found.append(Difference("segment_altered", name, message))
        wrong = _wrong(one, extents.get(name), seal, ranged=one.lineage not in redrives)
        found += [Difference("segment_altered", name, message) for message in wrong]
        before = one
    return found


def check_seal(files: Iterable[DataFile], seal: SealState) -> list[Difference]:
    """Return how the seal contradicts itself, or the late rows that were put aside because of it."""
    raised, found = seal.sealing_to or "none", []
    if seal.sealed_until > seal.sealing_to:
        message = f"days are sealed until {seal.sealed_until}, but sealing was raised to {raised}"
        found.append(Difference("seal_altered", "seal", message))
    late = max((day_of(one.max_event_time_us) for one in files if one.name.startswith("late#")), default="")
    if late > seal.sealing_to:
        message = (
            f"rows of {late} were late, but sealing was raised to {raised}: rows would go to a sealed day"
        )
        found.append(Difference("seal_altered", "seal", message))
    return found


def _wrong(one: Segment, extent: Extent | None, seal: SealState, *, ranged: bool) -> list[str]:
    found = []
    if one.seal_version > seal.version:
        found.append(f"the ledger says seal version {one.seal_version}, the seal is at {seal.version}")
    if not one.staging_key.startswith(staging_prefix(*one.ref)):
        found.append(f"the ledger names {one.staging_key}, which is staged for another segment")
    found += _odd_empty(one) if ranged else _odd_redrive(one)
    if extent is None or one.state != "committed":
        return found
    end = int(one.end.sequence_number) if one.end else -1
    if ranged and end != extent.last:
        message = f"the ledger says it ends at {end}, its files at {extent.last}: records would be lost or come twice"
        found.append(message)
    if one.counts.records != extent.records:
        found.append(f"the ledger says {one.counts.records} records, its files hold {extent.records}")
    arrivals = (one.first_arrival_us, one.max_arrival_us)
    if arrivals != (extent.first_arrival_us, extent.max_arrival_us):
        found.append("the ledger gives it other arrivals than its records have: the window would be another")
    return found


def _odd_empty(one: Segment) -> list[str]:
    """Return what is wrong with a gap, or an end without records: neither has a file that would show it."""
    if one.counts.units:
        return [] if one.gap is None else ["the ledger has a gap here, but a gap holds no units"]
    found = []
    if one.gap is None and not one.shard_end:
        found.append("the ledger has no units here, no gap and no end: what stood here is gone")
    if one.start != one.end or one.counts.records:
        found.append("the ledger has positions or records here, but no units")
    if one.first_arrival_us != one.max_arrival_us:
        found.append("the ledger has two arrivals here, but no units")
    if one.gap is not None and one.gap.from_us > one.gap.until_us:
        found.append("the ledger has a gap here that ends before it begins")
    return found


def _odd_redrive(one: Segment) -> list[str]:
    """Return what is wrong with a segment of a redrive: it stands for no place in a shard."""
    if (one.start, one.end, one.gap, one.gap_beyond) != (None,) * 4 or one.shard_end or one.batches:
        return ["the ledger gives a redrive's segment a place in the shard, which it has not"]
    return []


def check_labels(
    lineages: Sequence[Lineage],
    segments: Sequence[Segment],
    receipts: Sequence[Receipt],
    archived: Collection[tuple[str, str]],
) -> list[Difference]:
    """Return the segments that hold an acknowledged batch and do not name it: a batch sent twice would go unseen.

    Args:
        lineages: all.
        segments: of all lineages.
        receipts: all.
        archived: the records of which something is archived, by lineage and sequence number.
    """
    rows: dict[str, list[Segment]] = defaultdict(list)
    for one in sorted(segments, key=lambda one: one.ordinal):
        if one.end is not None and one.state == "committed":
            rows[one.lineage].append(one)
    ends = {
        lineage: [int(one.end.sequence_number) for one in found if one.end] for lineage, found in rows.items()
    }
    shorts = {one.name: one.short for one in lineages}
    lacking: Counter[str] = Counter()
    for receipt in receipts:
        for batch in receipt.batches:
            lineage = shorts.get(f"{receipt.stream}-{receipt.epoch}-{batch.shard_id}", "")
            at = bisect_left(ends.get(lineage, []), int(batch.sequence_number))
            if at == len(rows.get(lineage, [])) or (lineage, batch.sequence_number) not in archived:
                continue
            segment, wanted = rows[lineage][at], (receipt.producer, batch.slot)
            begins = int(segment.start.sequence_number) if segment.start else -1
            if begins < int(batch.sequence_number) and not any(
                (one.producer, one.slot) == wanted and one.first <= batch.number <= one.last
                for one in segment.batches
            ):
                lacking[segment.ref.name] += 1
    message = "acknowledged batches lie in this segment, and the ledger does not name them"
    return [Difference("segment_altered", name, f"{count} {message}") for name, count in lacking.items()]
