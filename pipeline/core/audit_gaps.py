"""The ledger's gaps in the audit: a term of the balance with a name, never a difference without one."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.core.receipt import AckedBatch, Receipt
from pipeline.core.segment import Lineage, Segment


@dataclass
class GapLine:
    """One gap of the ledger: what arrived in (from_us, until_us] may have been dropped unread.

    `events` counts what receipts tell of it; of events without a receipt nobody knows.
    """

    lineage: str
    shard_id: str
    ordinal: int
    from_us: int
    until_us: int
    events: int = 0


class Gaps:
    """The ledger's gaps, and which acknowledged batches lie in them: by position, and by time where none follows."""

    def __init__(self, segments: Sequence[Segment], lineages: Sequence[Lineage]) -> None:
        shards = {one.short: one.shard_id for one in lineages}
        self._found = [
            (
                one,
                one.gap,
                GapLine(
                    one.lineage,
                    shards.get(one.lineage, one.lineage),
                    one.ordinal,
                    one.gap.from_us,
                    one.gap.until_us,
                ),
            )
            for one in segments
            if one.gap is not None and one.state == "committed"
        ]
        self.lines = [line for _, _, line in self._found]

    def around(self, lineage: str, batch: AckedBatch, receipt: Receipt) -> GapLine | None:
        """Return the gap that holds a batch of which nothing was archived."""
        at = int(batch.sequence_number)
        for segment, gap, line in self._found:
            if segment.lineage != lineage or (segment.end and at <= int(segment.end.sequence_number)):
                continue
            in_time = segment.shard_end or receipt.acked_from_us <= gap.until_us
            if at < int(gap.before) if gap.before else in_time:
                return line
        return None
