"""Marks of redriven units, as everybody reads them but the audit: a day at once, each file once, and only as it was written.

The audit is a witness: it reads them by itself, and goes on where one is damaged.
"""

from collections.abc import Callable, Iterable

import pyarrow as pa

from pipeline.core.errors import Corrupt, NotFound
from pipeline.core.keys import QUARANTINE_TABLE
from pipeline.core.manifest import DataFile, partition_name
from pipeline.core.redriven import REDRIVEN, Mark, RefusedPlace, is_tier, read_marks
from pipeline.core.staging import digest_of


class Marks:
    """Which refused units went through again.

    Args:
        files: gives the files of a partition of the manifest.
        get: gives an object's bytes; raises NotFound.
    """

    def __init__(self, files: Callable[[str], Iterable[DataFile]], get: Callable[[DataFile], bytes]) -> None:
        self._files, self._get = files, get
        self._days: dict[str, dict[RefusedPlace, Mark]] = {}
        self._read: set[str] = set()

    def of(self, dt: str) -> dict[RefusedPlace, Mark]:
        """Return the marks of units that arrived on a day, as they were when it was first asked for, or last renewed.

        Raises:
            Corrupt: a file of marks is gone, or is not what was written.
        """
        return self._days[dt] if dt in self._days else self.renew(dt)

    def renew(self, dt: str) -> dict[RefusedPlace, Mark]:
        """Return a day's marks as they are now: files that were read before are not read again.

        Raises:
            Corrupt: a file of marks is gone, or is not what was written.
        """
        return self.take(dt, self._files(partition_name(QUARANTINE_TABLE, dt)))

    def take(self, dt: str, files: Iterable[DataFile]) -> dict[RefusedPlace, Mark]:
        """Return a day's marks, those in some of its files added; `files` may be of any tier.

        Raises:
            Corrupt: a file of marks is gone, or is not what was written.
        """
        found = self._days.setdefault(dt, {})
        for file in files:
            if is_tier(file, REDRIVEN) and file.key not in self._read:
                found |= {one.place: one for one in self._marks(file)}
                self._read.add(file.key)
        return found

    def _marks(self, file: DataFile) -> list[Mark]:
        try:
            return list(read_marks(verified(file, self._get)))
        except (pa.ArrowException, LookupError, OSError, TypeError, ValueError) as exc:
            raise Corrupt(f"{file.key} cannot be read as marks: run `headrace audit`") from exc


def verified(file: DataFile, get: Callable[[DataFile], bytes]) -> bytes:
    """Return a file's bytes.

    Raises:
        Corrupt: it is gone, or not what was written.
    """
    try:
        body = get(file)
    except NotFound as exc:
        lineage, ordinal = file.segment
        raise Corrupt(
            f"the manifest names {file.key} of segment {lineage}/{ordinal}, which is gone: run `headrace audit`"
        ) from exc
    if digest_of(body) != file.digest:
        raise Corrupt(f"{file.key} is not what was written: run `headrace audit`")
    return body
