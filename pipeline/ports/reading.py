"""How flows read beside each other: rows of data files, and several things at once."""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

import pyarrow as pa

T = TypeVar("T")
R = TypeVar("R")


class ReadRows(Protocol):
    """`flows.rows.RowReader.read`, whose errors it raises; from any thread where it goes with an `Each`."""

    def __call__(self, key: str, first_row: int, rows: int, columns: Sequence[str]) -> pa.Table:
        """Return rows of a data file."""
        ...


class Each(Protocol):
    """Calls a function for every item, several at once if it likes."""

    def __call__(self, call: Callable[[T], R], items: Iterable[T], /) -> Iterable[R]:
        """Return the answers in the order of the items; the first error is raised in its place."""
        ...
