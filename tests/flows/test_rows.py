"""Reading rows by pointer: exact rows, few bytes, and clear words where a file is not what it should be."""

import tracemalloc

import pyarrow as pa
import pytest

from pipeline.core.encode import write_parquet
from pipeline.core.errors import Corrupt, NotFound
from pipeline.flows import rows as rows_module
from pipeline.flows.rows import RowReader
from pipeline.ports.objects import Tail
from tests.fakes.objects import MemoryObjects

ROWS = 150_000  # three row groups


class Counting(MemoryObjects):
    """A bucket that counts the bytes that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def get(self, key: str) -> bytes:
        """Refuse: whole objects are not read."""
        raise AssertionError(key)

    def tail(self, key: str, length: int) -> Tail:
        """Read the end of an object."""
        body = self.stored[key].body
        self.read += min(length, len(body))
        return Tail(body[-length:], len(body))

    def part(self, key: str, start: int, length: int) -> bytes:
        """Read a part of an object."""
        self.read += length
        return self.stored[key].body[start : start + length]


def _file(rows: int) -> bytes:
    numbers = pa.array(range(rows), pa.int64())
    texts = pa.array([f"{number * 7919 % 1_000_003:x}" * 4 for number in range(rows)])
    return write_parquet(pa.table({"n": numbers, "text": texts}), {})


@pytest.fixture(scope="module")
def large() -> bytes:
    """A file of several row groups and megabytes."""
    return _file(ROWS)


@pytest.mark.parametrize(
    ("first", "count"), [(0, 1), (65_535, 2), (ROWS - 1, 1), (70_000, 5), (0, ROWS), (10, 0), (149_000, -1)]
)
def test_the_rows_asked_for(large: bytes, first: int, count: int) -> None:
    """Any run of rows comes back in order, over row groups too; -1 is all of the rest."""
    objects = Counting()
    objects.put_if_absent("k", large, "")
    found = RowReader(objects).read("k", first, count, ["n"])
    assert found.column("n").to_pylist() == list(range(first, ROWS if count < 0 else first + count))


def test_only_what_is_needed_is_read(large: bytes) -> None:
    """One row of one narrow column costs the file's end and one column of one row group."""
    objects = Counting()
    objects.put_if_absent("k", large, "")
    reader = RowReader(objects)
    assert reader.read("k", 3, 1, ["n"]).to_pylist() == [{"n": 3}]
    assert reader.row_group("k", 65_536) == 1
    assert objects.read < rows_module.TAIL_BYTES + len(large) / 4
    before = objects.read
    small = Counting()
    small.put_if_absent("s", _file(100), "")
    twice = RowReader(small)
    twice.read("s", 0, 100, ["n", "text"])
    first = small.read
    twice.read("s", 50, 1, ["text"])
    assert (small.read, objects.read) == (first, before)


def test_what_a_reader_keeps_is_bounded(large: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts that were read are let go; ends and footers of files are kept as far as the budget goes."""
    objects, tail = Counting(), 2**16
    monkeypatch.setattr(rows_module, "TAIL_BYTES", tail)
    for number in range(6):
        objects.put_if_absent(f"k{number}", large, "")
    reader = RowReader(objects)
    tracemalloc.start()
    for number in range(6):
        reader.read(f"k{number}", 0, ROWS, ["n", "text"])
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 6 * (tail + 2**14)
    read = objects.read
    reader.row_group("k0", 0)
    assert objects.read == read
    monkeypatch.setattr(rows_module, "_KEPT_BYTES", 3 * tail)
    reader.row_group("k1", 0)
    assert objects.read == read
    reader.row_group("k2", 0)
    assert objects.read == read + tail


def test_footers_count_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of small files the decoded footer is most of what is kept."""
    objects, small = Counting(), _file(1)
    monkeypatch.setattr(rows_module, "_KEPT_BYTES", 2 * len(small))
    reader = RowReader(objects)
    for key in ("a", "b"):
        objects.put_if_absent(key, small, "")
        reader.row_group(key, 0)
    reader.row_group("a", 0)
    assert objects.read == 3 * len(small)


def test_files_that_are_not_what_they_should_be() -> None:
    """A missing file, too few rows, a missing column, and what is no data file each have their own words."""
    objects = MemoryObjects()
    objects.put_if_absent("k", _file(10), "")
    objects.put_if_absent("odd", b"PAR1 and nothing more", "")
    reader = RowReader(objects)
    with pytest.raises(NotFound, match="gone"):
        reader.read("gone", 0, 1, ["n"])
    with pytest.raises(Corrupt, match="k has 10 rows, and rows 8 to 12"):
        reader.read("k", 8, 5, ["n"])
    for row in (-1, 10):
        with pytest.raises(Corrupt, match=f"k has 10 rows, and rows {row} to {row} were"):
            reader.row_group("k", row)
    with pytest.raises(Corrupt, match="k cannot be read"):
        reader.read("k", 0, 1, ["m"])
    with pytest.raises(Corrupt, match="odd cannot be read"):
        reader.read("odd", 0, 1, ["n"])
