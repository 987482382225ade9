"""The laptop's SQL engine: Athena's dialect, run by DuckDB over the archive's own Parquet files.

A statement goes this way: read and bound (`dialect`), its conditions on partitions gathered (`prune`), the partitions
that pass them looked up in the manifest, their files fetched (`object_cache`), views made over exactly these files
(`duck_tables`), run. The bucket is never listed.

A statement cannot reach anything else: it is one that reads, its tables are the catalogue's, and DuckDB itself is
confined to the cache's directory, loads no extension, and cannot be told otherwise (`lock_configuration`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa
from sqlglot import exp

from pipeline.core.catalogue import Catalogue, Table, catalogue, columns_of_relation
from pipeline.core.errors import ConfigProblem
from pipeline.core.excerpt import did_you_mean
from pipeline.core.keys import QUARANTINE_TABLE
from pipeline.core.manifest import DataFile, partition_name
from pipeline.core.schema import TypeSchema
from pipeline.laptop.dialect import Statement, bind, physical_tables, read_statement, to_duckdb
from pipeline.laptop.duck_errors import asked
from pipeline.laptop.duck_session import batches, open_session, result_columns
from pipeline.laptop.duck_tables import view_statements
from pipeline.laptop.prune import KEYS, column_names, partition_uses
from pipeline.machine.object_cache import ObjectCache
from pipeline.ports.clock import Clock
from pipeline.ports.manifest import Manifest
from pipeline.ports.sql import QueryResult, ResultColumn

# Not an Arrow table registered: that imports pandas wherever it is installed, for two seconds.
_KNOWN_PARTITIONS = """CREATE TEMP TABLE known_partitions AS
SELECT unnest(CAST(? AS VARCHAR[])) AS event_type, unnest(CAST(? AS VARCHAR[])) AS dt"""


@dataclass(frozen=True)
class _Scan:
    """One reference to a table in a statement, and the files it may have to read."""

    node: exp.Table
    relation: str
    files: tuple[DataFile, ...]


class DuckEngine:
    """Runs one statement at a time; `pipeline.ports.sql.SqlEngine` is the contract."""

    def __init__(
        self,
        types: Mapping[str, TypeSchema],
        manifest: Manifest,
        cache: ObjectCache,
        *,
        database: str = "headrace",
        clock: Clock,
    ) -> None:
        self._catalogue: Catalogue = catalogue(types)
        self._manifest = manifest
        self._cache = cache
        self._database = database
        self._clock = clock

    def run(self, sql: str) -> QueryResult:
        """Run one reading statement over no more files than its partitions need."""
        start = self._clock.monotonic()
        statement = read_statement(sql)
        if statement.kind == "show tables":
            return _answer(
                [ResultColumn("tab_name", "varchar")], [[name] for name in sorted(self._catalogue)]
            )
        if statement.kind == "describe":
            return self._describe(statement.table)
        query = bind(statement, self._catalogue, self._database)
        connection = open_session(self._cache.directory)
        try:
            scans = self._plan(connection, query)
            paths = self._cache.fetch(
                list({file.key: file for scan in scans for file in scan.files}.values())
            )
            for number, scan in enumerate(scans):
                here: dict[str, list[Path]] = {}
                for file in scan.files:
                    here.setdefault(_tier(file), []).append(paths[file.key])
                connection.execute(f"CREATE SCHEMA scan{number}")
                for text in view_statements(scan.relation, self._catalogue, f"scan{number}", here):
                    connection.execute(text)
                scan.node.set("db", exp.to_identifier(f"scan{number}"))
            return self._run(connection, statement, query, scans, start)
        except BaseException:
            connection.close()
            raise

    def _run(
        self,
        connection: duckdb.DuckDBPyConnection,
        statement: Statement,
        query: exp.Query,
        scans: list[_Scan],
        start: float,
    ) -> QueryResult:
        text = to_duckdb(query)
        files = {file.key: file.bytes for scan in scans for file in scan.files}
        with asked(statement.sql):
            if statement.kind == "explain":
                rows = connection.execute(f"{statement.prefix} {text}").fetchall()
                connection.close()
                return _answer([ResultColumn("Query Plan", "varchar")], [[row[1]] for row in rows])
            # Binding it once by EXPLAIN makes DuckDB name the place of a fault; the call below does not.
            connection.execute(f"EXPLAIN {text}")
            relation = connection.sql(text)
            columns = result_columns(relation)
            found = batches(connection, relation, columns, statement.sql)
        return QueryResult(columns, found, sum(files.values()), len(files), self._clock.monotonic() - start)

    def _plan(self, connection: duckdb.DuckDBPyConnection, query: exp.Query) -> list[_Scan]:
        """Gather conditions, let DuckDB choose among the partitions there are, look up the files of the rest."""
        nodes = list(physical_tables(query))
        if not nodes:
            return []
        known = [name.split("#", 1) for name in self._manifest.partitions()]
        columns = [[one[0] for one in known], [one[1] for one in known]]
        connection.execute(_KNOWN_PARTITIONS, columns)
        connection.begin()  # from here to the last row `now()` is one moment, also for the choice of partitions
        uses = partition_uses(query)
        tables = [list(_base_tables(self._catalogue, node.name)) for node in nodes]
        chosen = [
            _choose(connection, found[0], uses.of(node)) for node, found in zip(nodes, tables, strict=True)
        ]
        files = self._files({one for needed in chosen for one in needed})
        scans = []
        for node, found, needed in zip(nodes, tables, chosen, strict=True):
            tiers = {table.tier for table in found}
            mine = (file for one in sorted(needed) for file in files[one] if _tier(file) in tiers)
            scans.append(_Scan(node, node.name, tuple(mine)))
        return scans

    def _files(self, partitions: set[str]) -> dict[str, list[DataFile]]:
        found: dict[str, list[DataFile]] = {partition: [] for partition in sorted(partitions)}
        for file in self._manifest.files(*found):
            found[file.partition].append(file)
        return found

    def _describe(self, name: str) -> QueryResult:
        relation = self._catalogue.get(name.removeprefix(f"{self._database}."))
        if relation is None:
            raise ConfigProblem(
                f"no table {name!r}{did_you_mean(name, self._catalogue) or '; SHOW TABLES lists all'}"
            )
        columns = [ResultColumn(column, "varchar") for column in ("col_name", "data_type", "comment")]
        return _answer(columns, [[one.name, one.sql, one.note] for one in columns_of_relation(relation)])


def _answer(columns: list[ResultColumn], rows: list[list[str]]) -> QueryResult:
    arrays = [pa.array([row[index] for row in rows], pa.string()) for index in range(len(columns))]
    batch = pa.RecordBatch.from_arrays(arrays, names=[column.name for column in columns])
    return QueryResult(tuple(columns), iter([batch]), bytes_scanned=0, files_read=0, seconds=0.0)


def _base_tables(relations: Catalogue, name: str) -> Iterator[Table]:
    """Yield the tables that a relation stands on; all of one type, or all of the quarantine."""
    relation = relations[name]
    if isinstance(relation, Table):
        yield relation
        return
    for source in relation.sources:
        yield from _base_tables(relations, source)


def _tier(file: DataFile) -> str:
    return file.name.partition("#")[0]


def _choose(connection: duckdb.DuckDBPyConnection, table: Table, uses: list[list[exp.Expr]]) -> set[str]:
    """Return the partitions that one scan needs: those that pass the conditions of any of its uses."""
    kinds = exp.column("event_type")
    mine = kinds.eq(table.event_type) if table.event_type else kinds.neq(QUARANTINE_TABLE)
    # In the quarantine `event_type` is what the refused event said, no partition key.
    keys = KEYS - {"event_type"} if table.event_type == QUARANTINE_TABLE else KEYS
    needed: set[str] = set()
    for conditions in uses:
        usable = [one for one in conditions if column_names(one) <= keys]
        try:
            needed |= _passing(connection, [mine, *usable])
        except duckdb.Error:  # the statement itself will say what is wrong with its condition
            connection.rollback()
            connection.begin()
            needed |= _passing(connection, [mine])
    return needed


def _passing(connection: duckdb.DuckDBPyConnection, conditions: list[exp.Expr]) -> set[str]:
    condition = to_duckdb(exp.and_(*conditions))
    rows = connection.execute(f"SELECT event_type, dt FROM known_partitions WHERE {condition}")  # noqa: S608 - generated from parsed conditions
    return {partition_name(event_type, dt) for event_type, dt in rows.fetchall()}
