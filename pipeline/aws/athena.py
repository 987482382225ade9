"""Port `SqlEngine` on Athena.

A statement is started, asked after with growing pauses, and its result read page by page. Whatever ends the wait
early, Ctrl-C above all, stops the statement too: Athena would go on, and bill.
"""

import contextlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from botocore.exceptions import BotoCoreError, ClientError

from pipeline.aws.errors import error_code, translated
from pipeline.core.errors import ConfigProblem, Transient
from pipeline.core.excerpt import problem_at
from pipeline.core.statement import first_word
from pipeline.ports.clock import Clock, SystemClock
from pipeline.ports.sql import QueryResult, ResultColumn

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
PAUSE_GROWTH = 1.5
PAGE_ROWS = 1_000  # GetQueryResults limit
_PLACE = re.compile(r"line (?P<line>\d+):(?P<column>\d+): ?(?P<what>.*)", re.DOTALL)
_WHOLE = pa.int64()
_ARROW = {
    "boolean": pa.bool_(),
    **dict.fromkeys(("tinyint", "smallint", "integer", "int", "bigint"), _WHOLE),
    **dict.fromkeys(("float", "real", "double"), pa.float64()),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
}  # everything else stays the text Athena gives


class AthenaEngine:
    """Runs one statement at a time in one workgroup; `pipeline.ports.sql.SqlEngine` is the contract."""

    def __init__(
        self,
        client: Any,
        *,
        workgroup: str,
        database: str,
        output: str | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._athena = client
        self._clock = clock or SystemClock()
        self._start = {"WorkGroup": workgroup, "QueryExecutionContext": {"Database": database}}
        if output is not None:
            self._start["ResultConfiguration"] = {"OutputLocation": output}

    def run(self, sql: str) -> QueryResult:
        """Run one reading statement and return when Athena has its result."""
        first_word(sql)
        begun = self._clock.monotonic()
        with translated("start an Athena query"):
            query_id = self._started(sql)
        done = False
        try:
            execution = self._wait(query_id)
            done = True
        finally:
            if not done:
                with contextlib.suppress(
                    ClientError, BotoCoreError
                ):  # what ended the wait is what is reported
                    self._athena.stop_query_execution(QueryExecutionId=query_id)
        _refuse_failure(sql, execution)
        pages = self._pages(query_id)
        first = next(pages)
        described = first["ResultSet"]["ResultSetMetadata"]["ColumnInfo"]
        columns = tuple(ResultColumn(one["Name"], one["Type"]) for one in described)
        scanned = execution.get("Statistics", {}).get("DataScannedInBytes", 0)
        batches = _batches(columns, first, pages)
        return QueryResult(columns, batches, scanned, None, self._clock.monotonic() - begun)

    def _started(self, sql: str) -> str:
        try:
            return str(self._athena.start_query_execution(QueryString=sql, **self._start)["QueryExecutionId"])
        except ClientError as exc:
            if error_code(exc) == "InvalidRequestException":
                raise _problem(sql, str(exc.response["Error"].get("Message", exc))) from exc
            raise

    def _wait(self, query_id: str) -> dict[str, Any]:
        pause = FIRST_PAUSE_SECONDS
        while True:
            with translated(f"ask after Athena query {query_id}"):
                answer = self._athena.get_query_execution(QueryExecutionId=query_id)
            execution: dict[str, Any] = answer["QueryExecution"]
            if execution["Status"]["State"] not in {"QUEUED", "RUNNING"}:
                return execution
            self._clock.pause(pause)
            pause = min(pause * PAUSE_GROWTH, LONGEST_PAUSE_SECONDS)

    def _pages(self, query_id: str) -> Iterator[dict[str, Any]]:
        more: dict[str, str] = {}
        while True:
            with translated(f"read the result of Athena query {query_id}"):
                page = self._athena.get_query_results(QueryExecutionId=query_id, MaxResults=PAGE_ROWS, **more)
            yield page
            if not page.get("NextToken"):
                return
            more = {"NextToken": page["NextToken"]}


def _refuse_failure(sql: str, execution: dict[str, Any]) -> None:
    status = execution["Status"]
    if status["State"] == "SUCCEEDED":
        return
    reason = status.get("StateChangeReason") or f"the query ended as {status['State']}, without a reason"
    if status.get("AthenaError", {}).get("Retryable"):
        raise Transient(f"Athena: {reason}; run it again")
    raise _problem(sql, reason)


def _problem(sql: str, reason: str) -> ConfigProblem:
    place = _PLACE.search(reason)
    if place is None:
        return ConfigProblem(f"Athena: {reason}")
    return problem_at(sql, int(place["line"]), int(place["column"]), place["what"])


def _batches(
    columns: Sequence[ResultColumn], first: dict[str, Any], rest: Iterator[dict[str, Any]]
) -> Iterator[pa.RecordBatch]:
    names = [column.name for column in columns]
    rows = _values(first)
    # A query's first row repeats the names; SHOW, DESCRIBE and EXPLAIN have no such row.
    yield _batch(columns, rows[1:] if rows[:1] == [names] else rows)
    for page in rest:
        yield _batch(columns, _values(page))


def _values(page: dict[str, Any]) -> list[list[str | None]]:
    return [[one.get("VarCharValue") for one in row["Data"]] for row in page["ResultSet"]["Rows"]]


def _batch(columns: Sequence[ResultColumn], rows: list[list[str | None]]) -> pa.RecordBatch:
    arrays = []
    for index, column in enumerate(columns):
        texts = pa.array([row[index] if index < len(row) else None for row in rows], pa.string())
        arrays.append(texts.cast(_ARROW.get(column.type, pa.string())))
    return pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])
