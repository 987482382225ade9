"""Athena's dialect, read with care and said again for DuckDB.

A statement is parsed, its tables are checked against the catalogue, every column is tied to its table and typed (so
that `7 / 2` stays 3, as in Athena), and the text is generated for DuckDB. Nothing here touches data.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import OptimizeError, ParseError, TokenError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, traverse_scope
from sqlglot.schema import MappingSchema

from pipeline.core.catalogue import Catalogue, columns_of_relation
from pipeline.core.errors import ConfigProblem
from pipeline.core.excerpt import did_you_mean, problem_at, problem_at_offset
from pipeline.core.statement import ALLOWED, BLANK, first_word

_EXPLAIN = re.compile(BLANK + r"EXPLAIN(?P<analyze>\s+ANALYZE)?\b", re.DOTALL | re.IGNORECASE)
_SHOW_TABLES = re.compile(BLANK + r"SHOW\s+TABLES\s*;?\s*", re.DOTALL | re.IGNORECASE)
_DESCRIBE = re.compile(
    BLANK + r"DESC(?:RIBE)?\s+[`\"]?(?P<table>[\w.]+)[`\"]?\s*;?\s*", re.DOTALL | re.IGNORECASE
)
_PIECES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|.", re.DOTALL)
_MISSING = re.compile(r"Required keyword: '\w+' missing for <class '[\w.]+\.(\w+)'>")
_UNKNOWN_COLUMN = re.compile(r"Column '(\w+)' could not be resolved|Unknown column: (\w+)")
_PLACE = re.compile(r"Line: (\d+), Col: (\d+)")
_CHANGING = (exp.DML, exp.DDL, exp.Command, exp.Copy, exp.Drop, exp.Into, exp.Set, exp.Pragma)
_DATE_STEPS = (exp.Add, exp.Sub, exp.DateAdd, exp.DateSub, exp.DateTrunc, exp.TimestampTrunc)


@dataclass(frozen=True)
class Statement:
    """One statement: a query, to be run or explained, or a question about the catalogue."""

    kind: Literal["query", "explain", "show tables", "describe"]
    sql: str
    query: exp.Query | None = None
    table: str = ""
    prefix: str = ""


def read_statement(sql: str) -> Statement:
    """Parse exactly one statement of those that only read.

    Raises:
        ConfigProblem: it is empty, several, not allowed, or no SQL; with the position.
    """
    word = first_word(sql)
    if _SHOW_TABLES.fullmatch(sql):
        return Statement("show tables", sql)
    if asked := _DESCRIBE.fullmatch(sql):
        return Statement("describe", sql, table=asked["table"].lower())
    if explain := _EXPLAIN.match(sql):
        kept = re.sub(r"[^\n]", " ", explain[0]) + sql[explain.end() :]  # positions stay as they are
        return Statement(
            "explain", sql, _parse(kept), prefix="EXPLAIN ANALYZE" if explain["analyze"] else "EXPLAIN"
        )
    if word.text in {"SHOW", "DESCRIBE", "DESC"}:
        raise problem_at_offset(
            sql, word.start, word.end, "only SHOW TABLES and DESCRIBE <table> are understood here"
        )
    return Statement("query", sql, _parse(sql))


def _parse(sql: str) -> exp.Query:
    try:
        found = [one for one in sqlglot.parse(sql, dialect="athena") if one is not None]
    except ParseError as exc:
        raise _parse_problem(sql, exc) from exc
    except TokenError as exc:
        raise _open_end(sql) from exc
    if len(found) != 1:
        raise ConfigProblem(f"{len(found)} statements given: run one at a time")
    query = found[0]
    if isinstance(query, exp.Values):
        query = exp.select("*").from_(query)
    refused = query.find(*_CHANGING)
    if not isinstance(query, exp.Query) or refused:
        raise ConfigProblem(f"this is not run: {ALLOWED}")
    return query


def _parse_problem(sql: str, exc: ParseError) -> ConfigProblem:
    fault = exc.errors[0]
    word = fault["highlight"] or ""
    what = fault["description"] or "cannot be read as SQL"
    if missing := _MISSING.search(what):
        what = f"something is missing in {missing[1].upper()}"
    what = what.replace("Invalid expression / Unexpected token", f"unexpected {word!r}").rstrip(".")
    column = max(1, fault["col"] - len(word) + 1)
    return problem_at(sql, fault["line"], column, what, len(word))


def _open_end(sql: str) -> ConfigProblem:
    for piece in _PIECES.finditer(sql):
        if piece[0] in {"'", '"'} or (sql.startswith("/*", piece.start()) and not piece[0].endswith("*/")):
            return problem_at_offset(sql, piece.start(), piece.start() + 1, "opened here and never closed")
    return ConfigProblem("cannot be read as SQL")


def bind(statement: Statement, catalogue: Catalogue, database: str) -> exp.Query:
    """Return the query with tables checked, columns tied to their tables, stars expanded and types known.

    Raises:
        ConfigProblem: an unknown table, a function in place of a table, or an ambiguous column.
    """
    query = cast(exp.Query, statement.query).copy()
    schema = MappingSchema(dialect="athena", normalize=False)
    used: set[str] = set()
    for table in physical_tables(query):
        name = _known_table(table, statement.sql, catalogue, database)
        table.set("this", exp.to_identifier(name))
        table.set("db", None)
        table.set("catalog", None)
        used.add(name)
        columns = columns_of_relation(catalogue[name])
        typed = {one.name: exp.DataType.build(one.sql, dialect="hive") for one in columns}
        schema.add_table(name, typed, match_depth=False)
    try:
        bound = qualify(
            query,
            dialect="athena",
            schema=schema,
            expand_alias_refs=False,
            identify=False,
            quote_identifiers=False,
        )
    except OptimizeError as exc:
        known = {column.name for name in used for column in columns_of_relation(catalogue[name])}
        raise _bind_problem(statement.sql, exc, known) from exc
    return annotate_types(bound, schema=schema, dialect="athena")


def physical_tables(query: exp.Expr) -> Iterator[exp.Table]:
    """Yield the references to tables that are no common table expressions."""
    named: set[int] = set()
    for scope in traverse_scope(query):
        for table in scope.tables:
            if isinstance(scope.sources.get(table.alias_or_name), Scope):
                named.add(id(table))
    for table in list(query.find_all(exp.Table)):
        if id(table) not in named:
            yield table


def _known_table(table: exp.Table, sql: str, catalogue: Catalogue, database: str) -> str:
    identifier = table.this
    if not isinstance(identifier, exp.Identifier):
        word = str(identifier.sql(dialect="athena")).split("(", maxsplit=1)[0].lower()
        raise _at_word(sql, word, f"{word}() is no table here: query the tables that SHOW TABLES lists")
    name = str(identifier.this).lower()
    if name in catalogue and table.db.lower() in {"", database}:
        return name
    listed = ", ".join(sorted(one for one in catalogue if "__" not in one and not one.endswith("_raw")))
    what = f"no table {table.sql(dialect='athena', comments=False).split(' AS ')[0]!r}"
    text = f"{what}{did_you_mean(name, catalogue) or '.'} There are: {listed}; SHOW TABLES lists all"
    meta = identifier.meta
    if "start" in meta:
        return _raise(problem_at_offset(sql, meta["start"], meta["end"] + 1, text))
    raise ConfigProblem(text)


def _raise(problem: ConfigProblem) -> str:
    raise problem


def _bind_problem(sql: str, exc: OptimizeError, columns: set[str]) -> ConfigProblem:
    what = str(exc).splitlines()[0]
    unknown = _UNKNOWN_COLUMN.search(what)
    if unknown is None:
        named = re.search(r"'([^']+)'", what)
        return _at_word(sql, named[1].rsplit(".", 1)[-1], what) if named else ConfigProblem(what)
    word = next(group for group in unknown.groups() if group)
    message = f"no column {word!r}{did_you_mean(word, columns) or '; DESCRIBE <table> lists what there is'}"
    if word in columns:
        qualifier = re.search(r"for table: '(\w+)'", what)
        several = f"more than one table has a column {word!r}: write <table>.{word}"
        message = f"no table {qualifier[1]!r} in this query to take {word!r} from" if qualifier else several
    place = _PLACE.search(what)
    if place is None:
        return _at_word(sql, word, message)
    return problem_at(sql, int(place[1]), max(1, int(place[2]) - len(word) + 1), message, len(word))


def _at_word(sql: str, word: str, message: str) -> ConfigProblem:
    offset = find_word(sql, word)
    if offset is None:
        return ConfigProblem(message)
    return problem_at_offset(sql, offset, offset + len(word), message)


def find_word(sql: str, word: str) -> int | None:
    """Return where a name first stands in the text, outside strings and comments."""
    try:
        tokens = sqlglot.tokenize(sql, dialect="athena")
    except TokenError:
        return None
    for token in tokens:
        if token.text.lower() == word.lower() and token.token_type != sqlglot.TokenType.STRING:
            return int(token.start)
    return None


def to_duckdb(query: exp.Expr) -> str:
    """Generate DuckDB's text of a bound query (or of a view's), keeping what Athena means by it."""
    query = query.copy()
    for step in list(query.find_all(*_DATE_STEPS)):
        if step.this.is_type("date"):  # Athena: a date stays a date; DuckDB: it becomes a timestamp
            step.replace(exp.cast(step.copy(), "date"))
    for zoned in list(query.find_all(exp.AtTimeZone)):
        zoned.set("this", exp.cast(zoned.this.copy(), "timestamptz"))  # Athena: a plain timestamp is UTC
    for span in list(query.find_all(exp.DateDiff)):  # Athena: whole units; DuckDB's date_diff counts borders
        unit = exp.Literal.string(str(span.args.get("unit") or "day").strip("'").lower())
        span.replace(
            exp.Anonymous(this="date_sub", expressions=[unit, span.expression.copy(), span.this.copy()])
        )
    for part in list(query.find_all(exp.Extract)):  # Athena: Monday is 1, Sunday 7; DuckDB: Sunday is 0
        if part.name.upper() in ("DOW", "DAY_OF_WEEK"):
            part.set("this", exp.var("ISODOW"))
    return query.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.IGNORE)
