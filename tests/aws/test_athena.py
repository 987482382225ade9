"""Port `SqlEngine` on Athena: a client played by hand where moto is too simple, and moto once."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto import mock_aws
from moto.athena.models import QueryResults, athena_backends
from moto.core.models import DEFAULT_ACCOUNT_ID

from pipeline.aws.athena import LONGEST_PAUSE_SECONDS, AthenaEngine
from pipeline.core.errors import ConfigProblem, Transient

SUCCEEDED = {"Status": {"State": "SUCCEEDED"}, "Statistics": {"DataScannedInBytes": 4096}}
RUNNING = {"Status": {"State": "RUNNING"}}
COLUMNS = [
    ("n", "bigint"),
    ("at", "timestamp"),
    ("day", "date"),
    ("share", "double"),
    ("ok", "boolean"),
    ("s", "varchar"),
]
VALUES = ["7", "2013-01-01 05:30:00.000", "2013-01-02", "1.5", "true", "x"]


class SteppedClock:
    """Time that passes only in pauses; one of them may be interrupted."""

    def __init__(self, interrupt_at: int | None = None) -> None:
        self.pauses: list[float] = []
        self._interrupt_at = interrupt_at

    def now_us(self) -> int:
        """Return the time since the start."""
        return int(self.monotonic() * 1_000_000)

    def monotonic(self) -> float:
        """Return the sum of the pauses."""
        return sum(self.pauses)

    def idle(self, seconds: float) -> None:
        self.pause(seconds)

    def pause(self, seconds: float) -> None:
        """Let time pass."""
        self.pauses.append(seconds)
        if len(self.pauses) == self._interrupt_at:
            raise KeyboardInterrupt


class PlayedClient:
    """An Athena that answers from lists, and notes what it was asked."""

    def __init__(
        self, states: list[dict[str, Any]], pages: Sequence[Sequence[Sequence[str | None]]] | None = None
    ) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self._states: Iterator[dict[str, Any]] = iter(states)
        self._pages = pages or [[[name for name, _ in COLUMNS]]]
        self.refusal: ClientError | None = None

    def start_query_execution(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append(("start", arguments))
        if self.refusal is not None:
            raise self.refusal
        return {"QueryExecutionId": "q1"}

    def get_query_execution(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append(("ask", arguments))
        return {"QueryExecution": next(self._states)}

    def stop_query_execution(self, **arguments: Any) -> None:
        self.calls.append(("stop", arguments))

    def get_query_results(self, **arguments: Any) -> dict[str, Any]:
        self.calls.append(("page", arguments))
        number = int(arguments.get("NextToken", 0))
        rows = [
            {"Data": [{} if one is None else {"VarCharValue": one} for one in row]}
            for row in self._pages[number]
        ]
        described = [{"Name": name, "Type": kind} for name, kind in COLUMNS]
        page: dict[str, Any] = {"ResultSet": {"Rows": rows, "ResultSetMetadata": {"ColumnInfo": described}}}
        return page | ({"NextToken": str(number + 1)} if number + 1 < len(self._pages) else {})


def engine(client: PlayedClient, clock: SteppedClock | None = None) -> AthenaEngine:
    return AthenaEngine(
        client, workgroup="work", database="base", output="s3://out/", clock=clock or SteppedClock()
    )


def test_a_result_is_read_page_by_page_with_its_types() -> None:
    """Values get the types Athena names, null stays null, the row of names is left out, bytes are told."""
    client = PlayedClient([SUCCEEDED], [[[name for name, _ in COLUMNS], VALUES], [[None] * 6], [VALUES]])
    result = engine(client).run("SELECT 1")
    row = (7, datetime(2013, 1, 1, 5, 30), date(2013, 1, 2), 1.5, True, "x")  # noqa: DTZ001 - Athena gives no zone
    assert list(result.rows()) == [row, (None,) * 6, row]
    assert [tuple(column) for column in result.columns] == COLUMNS
    assert (result.bytes_scanned, result.files_read) == (4096, None)
    assert client.calls[0] == (
        "start",
        {
            "QueryString": "SELECT 1",
            "WorkGroup": "work",
            "QueryExecutionContext": {"Database": "base"},
            "ResultConfiguration": {"OutputLocation": "s3://out/"},
        },
    )


def test_pauses_grow_and_stay_bounded() -> None:
    """A long statement is asked after ever more rarely, up to a bound; the time it took is told."""
    clock = SteppedClock()
    result = engine(PlayedClient([{"Status": {"State": "QUEUED"}}, *[RUNNING] * 19, SUCCEEDED]), clock).run(
        "SELECT 1"
    )
    assert clock.pauses == sorted(clock.pauses)
    assert clock.pauses[0] < clock.pauses[-1] == LONGEST_PAUSE_SECONDS
    assert result.seconds == sum(clock.pauses)


def test_an_interrupted_wait_stops_the_statement() -> None:
    """Ctrl-C ends the query in Athena too."""
    client = PlayedClient([RUNNING] * 9)
    with pytest.raises(KeyboardInterrupt):
        engine(client, SteppedClock(interrupt_at=3)).run("SELECT 1")
    assert client.calls[-1] == ("stop", {"QueryExecutionId": "q1"})


def test_a_finished_statement_is_not_stopped() -> None:
    """A statement that ended by itself, well or not, is left alone."""
    client = PlayedClient([{"Status": {"State": "FAILED", "StateChangeReason": "no"}}])
    with pytest.raises(ConfigProblem, match="Athena: no"):
        engine(client).run("SELECT 1")
    assert "stop" not in [call for call, _ in client.calls]


def test_a_failure_shows_its_place() -> None:
    """Athena's line and column become a caret under the statement."""
    reason = "COLUMN_NOT_FOUND: line 2:3: Column 'nope' cannot be resolved"
    client = PlayedClient([{"Status": {"State": "FAILED", "StateChangeReason": reason}}])
    with pytest.raises(ConfigProblem) as caught:
        engine(client).run("SELECT\n  nope FROM events")
    assert (
        str(caught.value) == "line 2, column 3: Column 'nope' cannot be resolved\n    nope FROM events\n    ^"
    )


def test_a_refused_start_shows_its_place() -> None:
    """A syntax error that Athena finds at once is shown the same way."""
    client = PlayedClient([])
    error = {"Code": "InvalidRequestException", "Message": "line 1:8: mismatched input 'FROM'"}
    client.refusal = ClientError({"Error": error}, "StartQueryExecution")  # type: ignore[typeddict-item]
    with pytest.raises(ConfigProblem, match="line 1, column 8: mismatched input"):
        engine(client).run("SELECT FROM x")


def test_a_passing_fault_may_be_repeated() -> None:
    """What Athena calls retryable is Transient."""
    status = {"State": "FAILED", "StateChangeReason": "busy", "AthenaError": {"Retryable": True}}
    with pytest.raises(Transient, match="busy"):
        engine(PlayedClient([{"Status": status}])).run("SELECT 1")


def test_only_reading_statements_reach_athena() -> None:
    """A statement that changes something is refused before any call."""
    client = PlayedClient([])
    with pytest.raises(ConfigProblem, match="DROP is not run"):
        engine(client).run("-- tidy up\nDROP TABLE events")
    assert client.calls == []


@mock_aws
def test_the_calls_are_those_boto3_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    """The real client accepts every argument, and its answer is understood."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    client = boto3.client("athena", region_name="us-east-1")
    rows = [{"Data": [{"VarCharValue": "n"}]}, {"Data": [{"VarCharValue": "3"}]}]
    described = [{"Name": "n", "Type": "bigint"}]
    athena_backends[DEFAULT_ACCOUNT_ID]["us-east-1"].query_results_queue.append(QueryResults(rows, described))
    found = AthenaEngine(
        client, workgroup="primary", database="headrace", output="s3://out/", clock=SteppedClock()
    )
    assert list(found.run("SELECT 3 AS n").rows()) == [(3,)]
