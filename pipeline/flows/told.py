"""What a loader says of a segment that it committed."""

from collections.abc import Mapping

from pipeline.core.segment import Lineage, Segment
from pipeline.facts import FactSink, SegmentCommitted, ShardEnded, UnitsRefused


def tell_committed(
    segment: Segment,
    lineage: Lineage,
    codes: Mapping[str, int],
    facts: FactSink,
    *,
    reason: str,
    seconds: float,
) -> None:
    """Tell of a committed segment; `codes` counts its refusals, `seconds` is the time it took."""
    counts = segment.counts
    if codes:
        facts(UnitsRefused(lineage=segment.lineage, ordinal=segment.ordinal, codes=dict(codes)))
    facts(
        SegmentCommitted(
            lineage=segment.lineage,
            ordinal=segment.ordinal,
            reason=reason,
            records=counts.records,
            rows=counts.rows,
            duplicates=counts.duplicates,
            quarantined=counts.quarantined,
            files=counts.files,
            bytes=counts.bytes,
            seconds=round(seconds, 3),
        )
    )
    if segment.shard_end:
        facts(ShardEnded(lineage=segment.lineage, shard_id=lineage.shard_id))
