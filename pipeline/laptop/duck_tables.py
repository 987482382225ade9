"""The catalogue's relations as DuckDB views over local Parquet files, and what Athena's functions lack there."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import sqlglot

from pipeline.core.catalogue import DT, EVENT_TYPE, Catalogue, SqlColumn, Table, columns_of_relation, quoted
from pipeline.laptop.dialect import to_duckdb

_FILE = "__file"  # no column of a data file starts with an underscore
_PLAIN = {
    pa.string(): "VARCHAR",
    pa.bool_(): "BOOLEAN",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.float64(): "DOUBLE",
    pa.date32(): "DATE",
    pa.binary(): "BLOB",
    pa.timestamp("us", tz="UTC"): "TIMESTAMP",  # as in Athena: without a zone, and UTC
}

MACROS = (  # functions of Athena that neither DuckDB nor the translation knows
    "arrays_overlap(a, b) AS list_has_any(a, b)",
    "at_timezone(t, zone) AS CAST(t AS TIMESTAMPTZ) AT TIME ZONE zone",
    "codepoint(s) AS unicode(s)",
    "every(x) AS bool_and(x)",
    "infinity() AS CAST('inf' AS DOUBLE)",
    "map_agg(k, v) AS map_from_entries(list({'k': k, 'v': v}))",
    "nan() AS CAST('nan' AS DOUBLE)",
    "to_iso8601(t) AS strftime(CAST(t AS TIMESTAMP), '%Y-%m-%dT%H:%M:%S.%gZ')",
    "to_milliseconds(i) AS CAST(epoch_ms(i) AS BIGINT)",
    "zip(a, b) AS list_zip(a, b)",
)


def duck_type(kind: pa.DataType) -> str:
    """Return an Arrow type as DuckDB writes it."""
    if pa.types.is_struct(kind):
        fields = (kind.field(index) for index in range(kind.num_fields))
        return "STRUCT(" + ", ".join(f"{quoted(one.name)} {duck_type(one.type)}" for one in fields) + ")"
    if pa.types.is_list(kind):
        return f"{duck_type(kind.value_type)}[]"
    return _PLAIN[kind]


def view_statements(
    name: str, catalogue: Catalogue, schema: str, paths: Mapping[str, Sequence[Path]]
) -> Iterator[str]:
    """Yield what creates relation `name` and all it stands on in a DuckDB schema of its own.

    `paths` are the data files that this use of it may read, by tier; none gives an empty table with all its columns.
    """
    relation = catalogue[name]
    if isinstance(relation, Table):
        yield f"CREATE VIEW {schema}.{quoted(name)} AS {_scan(relation, paths.get(relation.tier, ()))}"
        return
    for source in relation.sources:
        yield from view_statements(source, catalogue, schema, paths)
    select = relation.select.replace('"${database}"', schema)
    yield f"CREATE VIEW {schema}.{quoted(name)} AS {to_duckdb(sqlglot.parse_one(select, dialect='athena'))}"


def _scan(table: Table, paths: Sequence[Path]) -> str:
    if not paths:
        nulls = (
            f"CAST(NULL AS {duck_type(one.arrow)}) AS {quoted(one.name)}"
            for one in columns_of_relation(table)
        )
        return f"SELECT {', '.join(nulls)} WHERE false"
    keys = {
        DT.name: f"regexp_extract({_FILE}, '/dt=([^/]*)/[^/]*$', 1)",
        EVENT_TYPE.name: f"regexp_extract({_FILE}, '/event_type=([^/]*)/dt=[^/]*/[^/]*$', 1)",
    }
    columns = [_read(one) for one in table.columns]
    columns += [f"{keys[key]} AS {quoted(key)}" for key in table.partition_keys]
    files = ", ".join(_text(str(path)) for path in paths)
    shape = ", ".join(_expected(one) for one in table.columns)
    return f"SELECT {', '.join(columns)} FROM read_parquet([{files}], schema=MAP {{{shape}}}, filename='{_FILE}')"  # noqa: S608 - quoted above


def _read(column: SqlColumn) -> str:
    """Read a column; a struct behind COALESCE, for DuckDB 2.0 fails on `column.field` where a file lacks either."""
    name = quoted(column.name)
    if not pa.types.is_struct(column.arrow):
        return name
    return f"coalesce({name}, CAST(NULL AS {duck_type(column.arrow)})) AS {name}"


def _expected(column: SqlColumn) -> str:
    """Say what a column of the files is to be, and null where a file has none: written under an older version."""
    name = _text(column.name)
    return f"{name}: {{name: {name}, type: {_text(duck_type(column.arrow))}, default_value: NULL}}"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
