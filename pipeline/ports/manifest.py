"""The manifest: which data files there are (table `data_files`)."""

from collections.abc import Sequence
from typing import Protocol

from pipeline.core.manifest import DataFile


class Manifest(Protocol):
    """Data files by event type and day; answers "what is there to read" without listing the bucket."""

    def put_all(self, entries: Sequence[DataFile]) -> None:
        """Write entries as plain puts, the same bytes each time.

        May be repeated, by anyone, at any later time; on return all of them are there.

        Raises:
            Transient: some may be written; repeat the whole call.
        """
        ...

    def partitions(self) -> list[str]:
        """Return every distinct `<event_type>#<dt>`, sorted."""
        ...

    def files(self, *partitions: str) -> list[DataFile]:
        """Return the files of some partitions, by partition and name; consistent.

        Reads what it takes and little more: the whole manifest only where these are a good part of it.

        Raises:
            Transient: try again.
        """
        ...

    def of_segment(self, lineage: str, ordinal: int) -> list[DataFile]:
        """Return the files of one segment, quarantine included, by partition; consistent. For a trace.

        Raises:
            Transient: try again.
        """
        ...

    def all_files(self) -> list[DataFile]:
        """Return every entry, by partition and name; for the audit, which holds all of them against the bucket."""
        ...
