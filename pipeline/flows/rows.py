"""Reading rows that a pointer names: only the row groups and columns it takes, by ranged reads."""

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.core.errors import Corrupt
from pipeline.ports.objects import Objects, Tail

if TYPE_CHECKING:
    from typing_extensions import Buffer

TAIL_BYTES = 2**20  # read first: the footer of any file, and all of most files of the open tier
_KEPT_BYTES = 16 * 2**20  # of one reader, and each thread has its own
_KEPT_FILES = 256
_METADATA_FACTOR = 16  # a decoded footer takes up to so many times its bytes; as measured


class RowReader:
    """Reads rows of data files, for one thread.

    Keeps the ends and the footers of files that were read lately, which never change: 16 MiB, or one file's if that is
    more. Parts that were read from before a file's end are not kept.
    """

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0

    def read(self, key: str, first_row: int, rows: int, columns: Sequence[str]) -> pa.Table:
        """Return rows first_row .. first_row + rows - 1 of a data file, in its order.

        Args:
            key: of the data file.
            first_row: counted from 0.
            rows: how many; -1 for all from `first_row` on.
            columns: names; in this order.

        Raises:
            NotFound: the file is gone.
            Corrupt: it has fewer rows, lacks a column, or is no data file.
            Transient: try again.
        """
        kept = self._of(key)
        if rows < 0:
            rows = kept.metadata.num_rows - first_row
        groups, before = _groups(key, kept.metadata, first_row, rows)
        try:
            table = self._file(key, kept).read_row_groups(groups, columns=list(columns), use_threads=False)
            return table.select(list(columns)).slice(first_row - before, rows)
        except (pa.ArrowException, KeyError, OSError) as exc:
            raise _unreadable(key, exc) from exc

    def row_group(self, key: str, row: int) -> int:
        """Return which row group of a file a row is in, counted from 0; raises as `read` does."""
        groups, _ = _groups(key, self._of(key).metadata, row, 1)
        return groups[0]

    def _of(self, key: str) -> "_Kept":
        kept = self._kept.pop(key, None)
        if kept is None:
            kept = self._open(key)
            self._kept_bytes += kept.size
        self._kept[key] = kept
        while len(self._kept) > 1 and (self._kept_bytes > _KEPT_BYTES or len(self._kept) > _KEPT_FILES):
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.size
        return kept

    def _open(self, key: str) -> "_Kept":
        tail = self._objects.tail(key, TAIL_BYTES)
        try:
            if len(tail.body) == tail.size:
                whole = pq.ParquetFile(pa.BufferReader(tail.body))
                return _Kept(tail, whole.metadata, whole)
            return _Kept(tail, pq.read_metadata(_Ranged(self._objects, key, tail)))
        except (pa.ArrowException, OSError) as exc:
            raise _unreadable(key, exc) from exc

    def _file(self, key: str, kept: "_Kept") -> pq.ParquetFile:
        """Return an open file; one that is read in parts is opened anew each time, as it holds what it has read."""
        if kept.whole is not None:
            return kept.whole
        source = _Ranged(self._objects, key, kept.tail)
        return pq.ParquetFile(source, metadata=kept.metadata, pre_buffer=True)


@dataclass(frozen=True)
class _Kept:
    tail: Tail
    metadata: pq.FileMetaData
    whole: pq.ParquetFile | None = None  # where the tail is all of the file

    @property
    def size(self) -> int:
        return len(self.tail.body) + _METADATA_FACTOR * int(self.metadata.serialized_size)


def _groups(key: str, metadata: pq.FileMetaData, first_row: int, rows: int) -> tuple[list[int], int]:
    """Return the row groups that hold some rows, and the number of rows before the first of them.

    Raises:
        Corrupt: the file has fewer rows.
    """
    if first_row < 0 or rows < 0 or first_row + rows > metadata.num_rows:
        raise Corrupt(
            f"{key} has {metadata.num_rows} rows, and rows {first_row} to {first_row + rows - 1} were "
            "asked for: run `headrace audit`"
        )
    groups: list[int] = []
    start = before = 0
    for number in range(metadata.num_row_groups):
        end = start + metadata.row_group(number).num_rows
        if start < first_row + max(rows, 1) and end > first_row:
            before = start if not groups else before
            groups.append(number)
        start = end
    return groups, before


def _unreadable(key: str, exc: Exception) -> Corrupt:
    reason = str(exc).splitlines()[0] if str(exc) else type(exc).__name__
    return Corrupt(f"{key} cannot be read as a data file: {reason}; run `headrace audit`")


class _Ranged(io.RawIOBase):
    """An object as a file: its end is there already, the rest is read in parts as it is asked for."""

    def __init__(self, objects: Objects, key: str, tail: Tail) -> None:
        super().__init__()
        self._objects, self._key, self._tail, self._size = objects, key, tail.body, tail.size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a place."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = start + offset
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: "Buffer") -> int:
        """Read on, as much as the buffer holds."""
        view = memoryview(buffer).cast("B")
        length = min(len(view), max(self._size - self._at, 0))
        start = self._at - (self._size - len(self._tail))
        if start >= 0:
            found = self._tail[start : start + length]
        else:
            found = self._objects.part(self._key, self._at, length) if length else b""
        view[: len(found)] = found
        self._at += len(found)
        return len(found)
