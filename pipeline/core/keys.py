"""Object keys: the layout of the bucket, in one place.

Every key holds the lineage's short form and the ordinal, so no two segments ever share one; no key holds a tenant
or any other word of a producer save the event type, which was checked.
"""

import re
from dataclasses import dataclass
from typing import NamedTuple

EVENTS = "events/"
LATE = "late/"
QUARANTINE = "quarantine/"
REDRIVEN = "redriven/"
STAGING = "staging/"
IDS = "ids/"
RULES = "rules/"
QUARANTINE_TABLE = "_quarantine"  # its partition in the manifest; no event type can start with "_"


class SegmentRef(NamedTuple):
    """Which segment: the short form of its lineage, and its ordinal there. Sorts as the ledger does.

    Its `name` stands in keys of data files and is what people read; its `writer` in names of items of manifest and index.
    """

    lineage: str
    ordinal: int

    @property
    def name(self) -> str:
        """Return `<lineage>-<ordinal>`."""
        return f"{self.lineage}-{self.ordinal:012d}"

    @property
    def writer(self) -> str:
        """Return `<lineage>#<ordinal>`."""
        return f"{self.lineage}#{self.ordinal:012d}"

    @classmethod
    def of_name(cls, name: str) -> "SegmentRef":
        """Return the segment of a `name`.

        Raises:
            ValueError: it does not end in an ordinal.
        """
        return cls._read(*name.rpartition("-"))

    @classmethod
    def of_writer(cls, writer: str) -> "SegmentRef":
        """Return the segment of a `writer`.

        Raises:
            ValueError: it does not end in an ordinal.
        """
        return cls._read(*writer.rpartition("#"))

    @classmethod
    def _read(cls, lineage: str, sign: str, ordinal: str) -> "SegmentRef":
        if not (ordinal.isascii() and ordinal.isdigit()):
            raise ValueError(f"{lineage}{sign}{ordinal} names no segment: it does not end in an ordinal")
        return cls(lineage, int(ordinal))


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


def data_segment(key: str) -> SegmentRef | None:
    """Return the segment of a data file's key; None for another key."""
    found = _DATA_KEY.fullmatch(key)
    return None if found is None else SegmentRef(found["lineage"], int(found["ordinal"]))


def name_in_key(key: str) -> str:
    """Return what stands in a data file's key where the name of its segment belongs, whatever that is."""
    return key.rpartition("/")[2].removesuffix(".parquet")


def data_key(partition: Partition, lineage: str, ordinal: int) -> str:
    """Return the key of a data file."""
    name = SegmentRef(lineage, ordinal).name
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


def ids_segment(key: str) -> SegmentRef | None:
    """Return the segment of the key of fingerprints, the inverse of `ids_key`; None for a key that no loader makes."""
    lineage, _, ordinal = key.removeprefix(IDS).removesuffix(".ids").rpartition("/")
    found = SegmentRef(lineage, int(ordinal)) if ordinal.isascii() and ordinal.isdigit() else None
    return found if found is not None and key == ids_key(*found) else None


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
