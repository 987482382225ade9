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

ALLOWED = "only SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES and DESCRIBE are run here: the archive is never changed by SQL"
_BLANK = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_FIRST_WORD = re.compile(_BLANK + r"[(\s]*(?P<word>\w+)", re.DOTALL)
_SHOW_TABLES = re.compile(_BLANK + r"SHOW\s+TABLES\s*;?\s*", re.DOTALL | re.IGNORECASE)
_DESCRIBE = re.compile(
    _BLANK + r"DESC(?:RIBE)?\s+[`\"]?(?P<table>[\w.]+)[`\"]?\s*;?\s*", re.DOTALL | re.IGNORECASE
)
_PIECES = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/|.", re.DOTALL)
_MISSING = re.compile(r"Required keyword: '\w+' missing for <class '[\w.]+\.(\w+)'>")
_UNQUALIFIED = re.compile(r"(?P<what>.*?)\.? Line: (?P<line>\d+), Col: (?P<col>\d+)", re.DOTALL)
_CHANGING = (exp.DML, exp.DDL, exp.Command, exp.Copy, exp.Drop, exp.Into, exp.Set, exp.Pragma)
_DATE_STEPS = (exp.Add, exp.Sub, exp.DateAdd, exp.DateSub, exp.DateTrunc, exp.TimestampTrunc)


@dataclass(frozen=True)
class Statement:
    """One statement: a query, to be run or explained, or a question about the catalogue."""

    kind: Literal["query", "explain", "show tables", "describe"]
    sql: str
    query: exp.Query | None = None
    table: str = ""


def read_statement(sql: str) -> Statement:
    """Parse exactly one statement of those that only read.

    Raises:
        ConfigProblem: it is empty, several, not allowed, or no SQL; with the position.
    """
    first = _FIRST_WORD.match(sql)
    if first is None:
        raise ConfigProblem('no SQL given: try headrace query "SELECT count(*) FROM events"')
    word, start = first["word"].upper(), first.start("word")
    if _SHOW_TABLES.fullmatch(sql):
        return Statement("show tables", sql)
    if asked := _DESCRIBE.fullmatch(sql):
        return Statement("describe", sql, table=asked["table"].lower())
    if word == "EXPLAIN":
        blanked = sql[:start] + " " * len(word) + sql[start + len(word) :]
        return Statement("explain", sql, _parse(blanked))
    if word not in {"SELECT", "WITH", "VALUES", "TABLE"}:
        raise problem_at_offset(sql, start, first.end("word"), f"{word} is not run: {ALLOWED}")
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
        raise ConfigProblem(ALLOWED)
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
        if piece[0] in {"'", '"'} or sql.startswith("/*", piece.start()) and not piece[0].endswith("*/"):
            return problem_at_offset(sql, piece.start(), piece.start() + 1, "opened here and never closed")
    return ConfigProblem("cannot be read as SQL")


def bind(statement: Statement, catalogue: Catalogue, database: str) -> exp.Query:
    """Return the query with tables checked, columns tied to their tables, stars expanded and types known.

    Raises:
        ConfigProblem: an unknown table, a function in place of a table, or an ambiguous column.
    """
    query = cast(exp.Query, statement.query).copy()
    schema = MappingSchema(dialect="athena", normalize=False)
    for table in physical_tables(query):
        name = _known_table(table, statement.sql, catalogue, database)
        table.set("this", exp.to_identifier(name))
        table.set("db", None)
        table.set("catalog", None)
        columns = columns_of_relation(catalogue[name])
        typed = {one.name: exp.DataType.build(one.sql, dialect="hive") for one in columns}
        schema.add_table(name, typed, match_depth=False)
    try:
        bound = qualify(
            query,
            dialect="athena",
            schema=schema,
            expand_alias_refs=False,
            validate_qualify_columns=False,
            identify=False,
            quote_identifiers=False,
        )
    except OptimizeError as exc:
        raise _bind_problem(statement.sql, exc) from exc
    return cast(exp.Query, annotate_types(bound, schema=schema, dialect="athena"))


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


def _bind_problem(sql: str, exc: OptimizeError) -> ConfigProblem:
    found = _UNQUALIFIED.match(str(exc))
    if found is None:
        return ConfigProblem(str(exc).splitlines()[0])
    what = found["what"]
    word = (re.findall(r"'([^']*)'", what) or [" "])[0].rsplit(".", 1)[-1]
    return problem_at(sql, int(found["line"]), max(1, int(found["col"]) - len(word) + 1), what, len(word))


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
    return query.sql(dialect="duckdb", unsupported_level=sqlglot.ErrorLevel.IGNORE)
