"""Object keys: the layout of the bucket (design §5), in one place.

Every key holds the lineage's short form and the ordinal, so no two segments ever share one; no key holds a tenant
or any other word of a producer save the event type, which was checked.
"""

import re
from dataclasses import dataclass

EVENTS = "events/"
LATE = "late/"
QUARANTINE = "quarantine/"
REDRIVEN = "redriven/"
STAGING = "staging/"
IDS = "ids/"
RULES = "rules/"
QUARANTINE_TABLE = "_quarantine"  # its partition in the manifest; no event type can start with "_"


@dataclass(frozen=True, order=True)
class Partition:
    """Where a data file belongs: tier ("open", "late", "quarantine" or "redriven"), event type and day."""

    tier: str
    event_type: str
    dt: str


_DATA_KEY = re.compile(
    r"(?P<tier>events|late|quarantine|redriven)/(?:event_type=(?P<type>[a-z0-9][a-z0-9._-]*)/)?(?:dt|arrival_day)="
    r"(?P<day>\d{4}-\d\d-\d\d)/(?P<lineage>\w+)-(?P<ordinal>\d{12})\.parquet",
    re.ASCII,
)


def is_data_key(key: str) -> bool:
    """True when a key has the form of a data file's: nothing else of a bucket may become a path."""
    return _DATA_KEY.fullmatch(key) is not None


def data_place(key: str) -> Partition | None:
    """Return where a data file's key belongs, the inverse of `data_key`; None for another key."""
    found = _DATA_KEY.fullmatch(key)
    if found is None:
        return None
    tier = "open" if found["tier"] == "events" else found["tier"]
    return Partition(tier, found["type"] or QUARANTINE_TABLE, found["day"])


def manifest_place(key: str) -> tuple[str, str] | None:
    """Return the manifest's partition and name of a data file's key."""
    place, found = data_place(key), _DATA_KEY.fullmatch(key)
    if place is None or found is None:
        return None
    return f"{place.event_type}#{place.dt}", f"{place.tier}#{found['lineage']}#{found['ordinal']}"


def segment_name(lineage: str, ordinal: int) -> str:
    """Return the part of a key that names a segment."""
    return f"{lineage}-{ordinal:012d}"


def data_key(partition: Partition, lineage: str, ordinal: int) -> str:
    """Return the key of a data file."""
    name = segment_name(lineage, ordinal)
    if partition.tier == "quarantine":
        return f"{QUARANTINE}dt={partition.dt}/{name}.parquet"
    if partition.tier == "redriven":
        return f"{REDRIVEN}dt={partition.dt}/{name}.parquet"
    if partition.tier == "late":
        return f"{LATE}event_type={partition.event_type}/arrival_day={partition.dt}/{name}.parquet"
    return f"{EVENTS}event_type={partition.event_type}/dt={partition.dt}/{name}.parquet"


def ids_key(lineage: str, ordinal: int) -> str:
    """Return the key of a segment's fingerprints."""
    return f"{IDS}{lineage}/{ordinal:012d}.ids"


def staging_prefix(lineage: str, ordinal: int) -> str:
    """Return what the keys of everything that was ever staged for an ordinal begin with."""
    return f"{STAGING}{lineage}/{ordinal:012d}-"


def staging_key(lineage: str, ordinal: int, digest: str) -> str:
    """Return the key of a segment's staged effects."""
    return f"{staging_prefix(lineage, ordinal)}{digest}.seg"


def staged_digest(key: str) -> str:
    """Return the digest that a staging key carries."""
    return key.rsplit("-", 1)[1].removesuffix(".seg")


def rules_key(digest: str) -> str:
    """Return the key of a set of rules."""
    return f"{RULES}{digest}.json"
