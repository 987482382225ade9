"""A question to the archive, and no more of its answer than is wanted."""

from collections.abc import Iterator
from typing import Any

from pipeline.ports.sql import QueryResult, SqlEngine


class Answer:
    """Columns and rows of one statement, the rows to be read once.

    Attributes:
        result: what the engine said.
        count: rows given out so far.
        cut: True once rows were left behind because `max_rows` was reached.
    """

    def __init__(self, result: QueryResult, max_rows: int | None) -> None:
        self.result = result
        self.count = 0
        self.cut = False
        self._max_rows = max_rows

    def rows(self) -> Iterator[tuple[Any, ...]]:
        """Yield the rows, at most `max_rows`."""
        for row in self.result.rows():
            if self.count == self._max_rows:
                self.cut = True
                return
            self.count += 1
            yield row


def ask(engine: SqlEngine, sql: str, max_rows: int | None = None) -> Answer:
    """Run one statement and return its answer, cut at `max_rows` (None: whole).

    Raises:
        ConfigProblem, Corrupt, Transient: see `SqlEngine.run`; reading the rows may raise them too.
    """
    return Answer(engine.run(sql), max_rows)
