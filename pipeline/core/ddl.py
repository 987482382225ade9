"""Athena DDL, generated from the schemas: one text per table and view, the same for the same schemas.

Two placeholders stay in a text, for whoever applies it: `${bucket}` is the archive's bucket, `${database}` the Glue
database. (`${dt}` and `${event_type}` belong to Athena's partition projection.) Apply tables before views; a table
is dropped and created anew when its columns change: it is external, no data is touched.
"""

from collections.abc import Mapping

from pipeline.core.catalogue import Relation, SqlColumn, Table, View, catalogue, columns_of_relation, quoted
from pipeline.core.schema import TypeSchema

FIRST_DAY = "2010-01-01"  # Athena asks S3 for every projected day of a query without dt; earlier days stay unseen there
LAST_DAY = "NOW+2DAYS"  # an event may be dated a little ahead of its arrival
MAX_COMMENT_CHARS = 255  # Glue limit
HEADER = "-- Generated from schemas/ by `headrace schema ddl`; change the schema, not this file.\n"


def ddl_files(types: Mapping[str, TypeSchema]) -> dict[str, str]:
    """Return the text of every DDL file by its name, `<relation>.sql`; each holds one statement.

    Raises:
        ConfigProblem: two relations would share a name.
    """
    return {f"{name}.sql": HEADER + _statement(relation) for name, relation in catalogue(types).items()}


def _statement(relation: Relation) -> str:
    return _view(relation) if isinstance(relation, View) else _table(relation)


def _view(view: View) -> str:
    return f'-- {view.note}\nCREATE OR REPLACE VIEW "${{database}}".{quoted(view.name)} AS\n{view.select};\n'


def _table(table: Table) -> str:
    known = {column.name: column for column in columns_of_relation(table)}
    columns = ",\n".join(_column(column) for column in table.columns)
    keys = ",\n".join(_column(known[key]) for key in table.partition_keys)
    properties = ",\n".join(f"  {_text(key)} = {_text(value)}" for key, value in _properties(table).items())
    return (
        f"CREATE EXTERNAL TABLE IF NOT EXISTS `${{database}}`.`{table.name}` (\n{columns}\n)\n"
        f"COMMENT {_text(table.note)}\n"
        f"PARTITIONED BY (\n{keys}\n)\n"
        "STORED AS PARQUET\n"
        f"LOCATION {_text('s3://${bucket}/' + table.location)}\n"
        f"TBLPROPERTIES (\n{properties}\n);\n"
    )


def _column(column: SqlColumn) -> str:
    note = f" COMMENT {_text(_shortened(column.note))}" if column.note else ""
    return f"  `{column.name}` {column.sql}{note}"


def _properties(table: Table) -> dict[str, str]:
    path = "".join(f"{key}=${{{key}}}/" for key in table.partition_keys)
    kinds = {
        "projection.event_type.type": "enum",
        "projection.event_type.values": ",".join(table.event_types),
    }
    return {
        "classification": "parquet",
        "parquet.compression": "ZSTD",
        "projection.enabled": "true",
        **(kinds if "event_type" in table.partition_keys else {}),
        "projection.dt.type": "date",
        "projection.dt.format": "yyyy-MM-dd",
        "projection.dt.range": f"{FIRST_DAY},{LAST_DAY}",
        "projection.dt.interval": "1",
        "projection.dt.interval.unit": "DAYS",
        "storage.location.template": "s3://${bucket}/" + table.location + path,
    }


def _shortened(note: str) -> str:
    line = " ".join(note.split())
    if len(line) <= MAX_COMMENT_CHARS:
        return line
    return line[: MAX_COMMENT_CHARS - 3].rsplit(" ", 1)[0] + "..."


def _text(value: str) -> str:
    """Return a string literal of Athena's DDL, which follows Hive: a quote is escaped, never doubled."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
