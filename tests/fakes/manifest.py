"""Port `Manifest` in memory."""

from collections.abc import Sequence

from pipeline.core.manifest import DataFile


class MemoryManifest:
    """Data files by (partition, name)."""

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], DataFile] = {}

    def put_all(self, entries: Sequence[DataFile]) -> None:
        """Write entries as plain puts."""
        for entry in entries:
            self.entries[entry.partition, entry.name] = entry

    def partitions(self) -> list[str]:
        """Return every distinct partition, sorted."""
        return sorted({partition for partition, _ in self.entries})

    def files(self, *partitions: str) -> list[DataFile]:
        """Return the files of some partitions, by partition and name."""
        return [entry for entry in self.all_files() if entry.partition in partitions]

    def of_segment(self, lineage: str, ordinal: int) -> list[DataFile]:
        """Return the files of one segment, by partition."""
        writer = f"#{lineage}#{ordinal:012d}"
        return [entry for entry in self.all_files() if entry.name.endswith(writer)]

    def all_files(self) -> list[DataFile]:
        """Return every entry."""
        return [self.entries[key] for key in sorted(self.entries)]
