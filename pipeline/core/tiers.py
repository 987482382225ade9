"""Tiers: which stored row, index entry and aggregate counts for a reader, given how far days are sealed."""

from pipeline.core.keys import Partition, SegmentRef, data_key
from pipeline.core.segment import SealState

OPEN, LATE = "open", "late"


def visible(tier: str, dt: str, seal: SealState) -> bool:
    """True when a reader that saw `seal` reads this tier of event day `dt`.

    Sealed days are read from their sealed generation, all others from the open tier; late rows always count.
    """
    return tier == LATE or (tier == OPEN and dt > seal.sealed_until)


def file_key(event_type: str, tier: str, day: str, writer: str) -> str:
    """Return the key of a data file; `writer` is `<lineage>#<ordinal>`, as index and manifest name it."""
    return data_key(Partition(tier, event_type, day), *SegmentRef.of_writer(writer))
