"""One data file as the manifest (table `data_files`) knows it: enough to plan a read without listing the bucket."""

from typing import NamedTuple

import msgspec

from pipeline.core.keys import SegmentRef


class TenantRows(NamedTuple):
    """A tenant's rows in a data file: they are one run, rows first_row .. first_row + rows - 1."""

    tenant_id: str
    first_row: int
    rows: int
    duplicates: int


class DataFile(msgspec.Struct, frozen=True):
    """One data file.

    `partition` and `name` are the table's key: `<event_type>#<dt>` and `<tier>#<lineage>#<ordinal>`. Times are
    microseconds since the epoch; `tenants` is in row order and empty in quarantine; `digest` is the object's (`core.staging.digest_of`).
    """

    partition: str
    name: str
    key: str
    rows: int
    duplicates: int
    bytes: int
    min_event_time_us: int
    max_event_time_us: int
    tenants: tuple[TenantRows, ...]
    digest: str = ""

    @property
    def segment(self) -> SegmentRef:
        """Return the segment that wrote it, by its name.

        Raises:
            ValueError: no file of ours has such a name.
        """
        return SegmentRef.of_writer(self.name.partition("#")[2])

    def rows_of(self, tenant_id: str) -> TenantRows | None:
        """Return where a tenant's rows are, or None."""
        return next((one for one in self.tenants if one.tenant_id == tenant_id), None)


def partition_name(event_type: str, dt: str) -> str:
    """Return the manifest's partition of an event type and day."""
    return f"{event_type}#{dt}"


def file_name(tier: str, lineage: str, ordinal: int) -> str:
    """Return the manifest's name of a segment's file in a tier."""
    return f"{tier}#{SegmentRef(lineage, ordinal).writer}"
