"""SQL over the archive: one statement in Athena's dialect, whichever engine runs it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import pyarrow as pa


class ResultColumn(NamedTuple):
    """One column of a result; `type` as Athena names it (`varchar`, `bigint`, `timestamp` ...)."""

    name: str
    type: str


@dataclass(frozen=True)
class QueryResult:
    """What a statement gave.

    Attributes:
        columns: in the order of the statement; names may repeat.
        batches: the rows, once, as they come: a consumer that stops early closes it (`rows` and `table` do).
        bytes_scanned: of data files; on a laptop the whole files, in Athena what it bills.
        files_read: data files that were opened, None where the engine does not say.
        seconds: until the first rows were there.
    """

    columns: tuple[ResultColumn, ...]
    batches: Iterator[pa.RecordBatch]
    bytes_scanned: int
    files_read: int | None
    seconds: float

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows as Python values; reads `batches`."""
        for batch in self.batches:
            yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)

    def table(self) -> pa.Table:
        """Return all rows; reads `batches`."""
        batches = list(self.batches)
        if batches:
            return pa.Table.from_batches(batches)
        return pa.table([pa.nulls(0)] * len(self.columns), names=[column.name for column in self.columns])


class SqlEngine(Protocol):
    """Runs one reading statement at a time.

    Called by a person's command or by the audit, from one thread. Changes nothing, may be repeated; two runs see
    what was written in between.
    """

    def run(self, sql: str) -> QueryResult:
        """Run one SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES or DESCRIBE, and return once rows can be read.

        Reading `batches` may raise the same errors. Ctrl-C at any moment stops the statement, in Athena too.

        Raises:
            ConfigProblem: the statement is wrong or not allowed; the message holds line, column and an excerpt
                where the engine knows them.
            Corrupt: the manifest names a file that the bucket lacks.
            Transient: the engine or the store could not answer now; try again.
        """
        ...
