"""The SQL catalogue: which tables and views there are, with which columns, from the schemas alone.

Per event type and for `events` (all types together):

    <table>__open    the files of the open tier, as they lie in the bucket
    <table>_raw      every row of every tier, with `tier` and `is_duplicate`
    <table>          the view people use: no duplicates, no tiers

and `quarantine`: refused records, by arrival day, with what became of those that were redriven; it joins

    quarantine__refused     the quarantine files as they lie
    quarantine__redriven    the marks of redrives, one for each refused record that went through again

The SELECT of a view is one text for both engines: Athena runs it
from its DDL, the laptop's engine translates the same text.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from pipeline.core.columns import arrow_type, envelope_schema, quarantine_schema, redriven_schema
from pipeline.core.errors import ConfigProblem
from pipeline.core.keys import EVENTS, QUARANTINE, QUARANTINE_TABLE, REDRIVEN
from pipeline.core.names import table_name
from pipeline.core.schema import Column, ColumnType, TypeSchema

EVENTS_TABLE = "events"
QUARANTINE_NAME = "quarantine"
TIERS = {"open": EVENTS}  # tier -> prefix of its keys; sealing adds the others
REFUSED_TABLE, REDRIVEN_TABLE = "quarantine__refused", "quarantine__redriven"
_TAKEN = frozenset({EVENTS_TABLE, QUARANTINE_NAME, REFUSED_TABLE, REDRIVEN_TABLE})
_ENDINGS = ("_raw", *(f"__{tier}" for tier in TIERS))

ENVELOPE_NOTES = {
    "event_id": "Identity of the event, chosen by its producer; with tenant_id the key of duplicates.",
    "tenant_id": "Who owns the event.",
    "entity_id": "The thing the event is about.",
    "schema_version": "Version of the event type's schema that data was written for.",
    "source": "Where the event was produced.",
    "event_time": "When it happened, by the producer's clock, UTC.",
    "received_time": "When we first received it, UTC.",
    "ingested_time": "When it arrived in the stream, UTC.",
    "correlation_id": "What ties this event to others, if the producer gave it.",
    "is_duplicate": "True when an event of the same tenant and id was accepted before.",
    "shard_id": "Shard of the stream it came through.",
    "sequence_number": "Its position in the shard: number of the Kinesis record.",
    "subsequence_number": "Its position inside that record.",
    "data_json": "The producer's bytes of data, the source of truth.",
}
QUARANTINE_NOTES = {
    "code": "Why it was refused: a stable word.",
    "pointer": "JSON pointer to the fault; empty for the whole record.",
    "message": "The reason in words.",
    "tenant_id": "Tenant it named, where that could be read.",
    "event_type": "Event type it named, where that could be read.",
    "event_id": "Event id it named, where that could be read.",
    "ingested_time": "When it arrived in the stream, UTC.",
    "partition_key": "Partition key of its Kinesis record.",
    "shard_id": "Shard of the stream it came through.",
    "sequence_number": "Its position in the shard: number of the Kinesis record.",
    "subsequence_number": "Its position inside that record.",
    "raw": "The refused bytes, whole.",
}
REDRIVEN_NOTES = {
    "code": "Why it had been refused.",
    "ingested_time": QUARANTINE_NOTES["ingested_time"],
    "shard_id": QUARANTINE_NOTES["shard_id"],
    "sequence_number": QUARANTINE_NOTES["sequence_number"],
    "subsequence_number": QUARANTINE_NOTES["subsequence_number"],
    "quarantine_file": "Key of the quarantine file that holds it.",
    "quarantine_row": "Its row in that file, counted from 0.",
    "units": "As how many units it went through: more than one where it came apart.",
    "redriven_as": "Segment that took it in again; null: it was not redriven.",
    "redriven_time": "When it was redriven, UTC.",
}
_JOINED = (  # a record's refused units are apart by position; one that came apart, from its own parts by code
    "dt",
    "shard_id",
    "sequence_number",
    "subsequence_number",
    "ingested_time",
    "code",
)


@dataclass(frozen=True)
class SqlColumn:
    """One column of a relation. `sql` is its type in Athena's DDL, `arrow` the type in the files."""

    name: str
    sql: str
    arrow: pa.DataType
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Files of one tier as a table.

    Attributes:
        event_type: the one type in it, None for all types, `QUARANTINE_TABLE` for the quarantine.
        tier: as in the manifest's names of files.
        location: prefix of its keys; the partition keys follow as `<key>=<value>/`.
        event_types: the known types, where `event_type` is a partition key.
    """

    name: str
    note: str
    event_type: str | None
    tier: str
    location: str
    columns: tuple[SqlColumn, ...]
    partition_keys: tuple[str, ...]
    event_types: tuple[str, ...] = ()


@dataclass(frozen=True)
class View:
    """A view. `select` is in Athena's dialect; `${database}` in it stands for the database of its sources.

    A condition on a partition key holds for all of its sources alike.
    """

    name: str
    note: str
    select: str
    sources: tuple[str, ...]
    columns: tuple[SqlColumn, ...]


Relation = Table | View
Catalogue = dict[str, Relation]
_TEXT = pa.string()
DT = SqlColumn("dt", "string", _TEXT, "Day of the event time, UTC: yyyy-mm-dd. Partition key.")
ARRIVAL_DAY = SqlColumn("dt", "string", _TEXT, "Day it arrived, UTC: yyyy-mm-dd. Partition key.")
EVENT_TYPE = SqlColumn("event_type", "string", _TEXT, "Event type.")
TIER = SqlColumn("tier", "string", _TEXT, "Tier of the archive the row was read from.")
_SCALARS = {
    "int64": "bigint",
    "float64": "double",
    "string": "string",
    "bool": "boolean",
    "timestamp": "timestamp",
    "date32": "date",
    "json": "string",
}
_ARROW = {
    pa.string(): "string",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "bigint",
    pa.binary(): "binary",
    pa.timestamp("us", tz="UTC"): "timestamp",
}


def catalogue(types: Mapping[str, TypeSchema]) -> Catalogue:
    """Return every relation by name: the types in order of name, `events` and `quarantine` last.

    Raises:
        ConfigProblem: an event type's table would take a name of the catalogue itself or of another type's views.
    """
    found: Catalogue = {}
    owners: dict[str, str] = {}
    for event_type in sorted(types):
        name = table_name(event_type)
        columns = (*_envelope(), *(_typed(column) for column in types[event_type].columns))
        for relation in _relations(name, event_type, columns, ()):
            if relation.name in found or relation.name in _TAKEN | {EVENTS_TABLE + end for end in _ENDINGS}:
                other = f"event type {owners[relation.name]!r}" if relation.name in owners else "headrace"
                raise ConfigProblem(
                    f"event type {event_type!r} needs the table name {relation.name!r}, which {other} uses; rename it"
                )
            found[relation.name] = relation
            owners[relation.name] = event_type
    for relation in (*_relations(EVENTS_TABLE, None, _envelope(), tuple(sorted(types))), *_quarantine()):
        found[relation.name] = relation
    return found


def columns_of_relation(relation: Relation) -> tuple[SqlColumn, ...]:
    """Return the columns of a relation as a query sees them, partition keys included."""
    if isinstance(relation, View):
        return relation.columns
    keys = {"dt": ARRIVAL_DAY if relation.event_type == QUARANTINE_TABLE else DT, "event_type": EVENT_TYPE}
    return (*relation.columns, *(keys[key] for key in relation.partition_keys))


def quoted(name: str) -> str:
    """Return an identifier as a query writes it."""
    return '"' + name.replace('"', '""') + '"'


def _relations(
    name: str, event_type: str | None, columns: tuple[SqlColumn, ...], event_types: tuple[str, ...]
) -> Iterable[Relation]:
    what = f"{event_type} events" if event_type else "Events of all types"
    tables = []
    for tier, prefix in TIERS.items():
        location = f"{prefix}event_type={event_type}/" if event_type else prefix
        keys = ("dt",) if event_type else ("event_type", "dt")
        tables.append(
            Table(
                f"{name}__{tier}",
                f"{what}, {tier} tier: the files as they lie.",
                event_type,
                tier,
                location,
                columns,
                keys,
                event_types,
            )
        )
    every = (*columns, EVENT_TYPE, DT)
    kind = f"'{event_type}' AS \"event_type\"" if event_type else '"event_type"'
    parts = [*(quoted(column.name) for column in columns), kind, '"dt"']
    raw = "\nUNION ALL\n".join(
        _select([*parts, f"'{table.tier}' AS \"tier\""], table.name) for table in tables
    )
    raw_columns = (*every, TIER)
    raw_note = f"{what}: every row, with its tier and whether it repeats an earlier one."
    shown = tuple(column for column in every if column.name != "is_duplicate")
    select = _select([quoted(column.name) for column in shown], f"{name}_raw") + '\nWHERE NOT "is_duplicate"'
    return [
        *tables,
        View(f"{name}_raw", raw_note, raw, tuple(table.name for table in tables), raw_columns),
        View(name, f"{what}, without duplicates.", select, (f"{name}_raw",), shown),
    ]


def _select(parts: Iterable[str], source: str) -> str:
    return "SELECT\n  " + ",\n  ".join(parts) + f'\nFROM "${{database}}".{quoted(source)}'


def _quarantine() -> list[Relation]:
    refused, redriven = (
        _noted(quarantine_schema(), QUARANTINE_NOTES),
        _noted(redriven_schema(), REDRIVEN_NOTES),
    )
    added = tuple(one for one in redriven if one.name in {"redriven_as", "redriven_time"})
    parts = [
        *(f"q.{quoted(one.name)}" for one in refused),
        *(f"r.{quoted(one.name)}" for one in added),
        'q."dt"',
    ]
    on = "\n  AND ".join(f"r.{quoted(name)} = q.{quoted(name)}" for name in _JOINED)
    select = (
        _select(parts, REFUSED_TABLE) + f' q\nLEFT JOIN "${{database}}".{quoted(REDRIVEN_TABLE)} r\n  ON {on}'
    )
    return [
        _arrived(REFUSED_TABLE, "Refused records: the files as they lie.", QUARANTINE, refused),
        _arrived(REDRIVEN_TABLE, "Marks of refused records that went through again.", REDRIVEN, redriven),
        View(
            QUARANTINE_NAME,
            "Refused records, raw bytes kept, and what became of those that were redriven; dt is the day they arrived.",
            select,
            (REFUSED_TABLE, REDRIVEN_TABLE),
            (*refused, *added, ARRIVAL_DAY),
        ),
    ]


def _arrived(name: str, note: str, location: str, columns: tuple[SqlColumn, ...]) -> Table:
    return Table(name, note, QUARANTINE_TABLE, location.rstrip("/"), location, columns, ("dt",))


def _noted(schema: pa.Schema, notes: Mapping[str, str]) -> tuple[SqlColumn, ...]:
    return tuple(SqlColumn(field.name, _ARROW[field.type], field.type, notes[field.name]) for field in schema)


def _envelope() -> tuple[SqlColumn, ...]:
    return _noted(envelope_schema(), ENVELOPE_NOTES)


def _typed(column: Column) -> SqlColumn:
    return SqlColumn(column.name, sql_type(column.type), arrow_type(column.type), column.description)


def sql_type(kind: ColumnType) -> str:
    """Return a column type as Athena's DDL writes it, nested names in back quotes."""
    if kind.kind == "struct":
        return "struct<" + ",".join(f"`{one.name}`:{sql_type(one.type)}" for one in kind.fields) + ">"
    if kind.kind == "list" and kind.item:
        return f"array<{sql_type(kind.item)}>"
    return _SCALARS[kind.kind]
