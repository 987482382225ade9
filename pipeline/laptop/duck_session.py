"""One DuckDB connection for one statement: confined before it sees the statement, gone after its last row."""

import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import current_thread, main_thread
from typing import TypeVar

import duckdb
import pyarrow as pa

from pipeline.laptop.duck_errors import asked
from pipeline.laptop.duck_tables import MACROS
from pipeline.machine.interrupts import Interrupts
from pipeline.ports.sql import ResultColumn

T = TypeVar("T")
BATCH_ROWS = 10_000
LOOK_SECONDS = 0.1  # between two looks whether a signal came
_SETTINGS = {
    "TimeZone": "'UTC'",
    "memory_limit": "'512MB'",
    "threads": "2",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
    "allow_community_extensions": "false",
}
_CONFINED = ("enable_external_access = false", "lock_configuration = true")  # in this order, nothing after
_UNNAMED = re.compile(r"^_col_(\d+)$")  # as sqlglot numbers unnamed columns; Athena writes _col0
_WHOLE = {
    "HUGEINT": "bigint",
    "UBIGINT": "bigint",
    "UINTEGER": "bigint",
}  # Athena's sums and counts are bigint
_NAMES = {
    **_WHOLE,
    "BLOB": "varbinary",
    "FLOAT": "real",
}


def open_session(readable: Path) -> duckdb.DuckDBPyConnection:
    """Return a connection that can read files under `readable` and nothing else."""
    readable.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(":memory:")
    for name, value in _SETTINGS.items():
        connection.execute(f"SET {name} = {value}")
    folder, spill = (str(path).replace("'", "''") for path in (readable, readable.parent / "spill"))
    connection.execute(f"SET temp_directory = '{spill}'")
    connection.execute(f"SET allowed_directories = ['{folder}/']")
    for macro in MACROS:
        connection.execute(f"CREATE MACRO {macro}")
    for setting in _CONFINED:
        connection.execute(f"SET {setting}")
    return connection


def result_columns(relation: duckdb.DuckDBPyRelation) -> tuple[ResultColumn, ...]:
    """Return the columns of a result with the types that Athena would name."""
    return tuple(
        ResultColumn(_UNNAMED.sub(r"_col\1", name), _NAMES.get(str(kind), str(kind).lower()))
        for name, kind in zip(relation.columns, relation.types, strict=True)
    )


def batches(
    connection: duckdb.DuckDBPyConnection,
    relation: duckdb.DuckDBPyRelation,
    columns: tuple[ResultColumn, ...],
    sql: str,
) -> Iterator[pa.RecordBatch]:
    """Start the statement and return its batches, at least one; the last one closes the connection."""
    reader = interruptible(connection, lambda: relation.to_arrow_reader(BATCH_ROWS))
    first = _next(connection, reader, sql)
    fields = zip(columns, reader.schema, strict=True)
    whole = set(_WHOLE.values())
    schema = pa.schema(
        [pa.field(one.name, pa.int64() if one.type in whole else field.type) for one, field in fields]
    )

    def rest() -> Iterator[pa.RecordBatch]:
        try:
            batch = first or pa.RecordBatch.from_pylist([], schema=reader.schema)
            while batch is not None:
                yield _cast(batch, schema)
                batch = _next(connection, reader, sql)
        finally:
            connection.close()

    return rest()


def _next(
    connection: duckdb.DuckDBPyConnection, reader: pa.RecordBatchReader, sql: str
) -> pa.RecordBatch | None:
    with asked(sql):
        return interruptible(connection, lambda: next(reader, None))


def interruptible(connection: duckdb.DuckDBPyConnection, call: Callable[[], T]) -> T:
    """Return what a long call on the connection returns; Ctrl-C stops it.

    DuckDB does not always notice a signal while it works in the main thread, so it works in another one.
    """
    if current_thread() is not main_thread():  # signals go to the main thread alone
        return call()
    interrupts = Interrupts()
    with interrupts.installed(), interrupts.held(), ThreadPoolExecutor(1, "duckdb") as pool:
        answer = pool.submit(call)
        while not wait([answer], timeout=LOOK_SECONDS).done:
            if interrupts.asked:
                connection.interrupt()  # at each look: the statement may not have begun
        if interrupts.asked:
            raise KeyboardInterrupt
        return answer.result()


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    arrays = [
        array if array.type == field.type else array.cast(field.type)
        for array, field in zip(batch.columns, schema, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
