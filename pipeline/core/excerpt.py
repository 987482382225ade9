"""A fault in a SQL text, shown where it is: one line that says what, the line of the text, a caret."""

import difflib
from collections.abc import Iterable

from pipeline.core.errors import ConfigProblem

_WIDTH = 100  # characters of a long line that are shown


def problem_at(sql: str, line: int, column: int, message: str, length: int = 1) -> ConfigProblem:
    """Return the error for a fault at a line and column of `sql`, both counted from 1; `length` carets."""
    lines = sql.splitlines() or [""]
    text = lines[min(line, len(lines)) - 1]
    first = max(0, column - _WIDTH // 2) if len(text) > _WIDTH else 0
    shown = text[first : first + _WIDTH].replace("\t", " ")
    at = column - 1 - first
    carets = "^" * max(1, min(length, _WIDTH - at))
    return ConfigProblem(f"line {line}, column {column}: {message}\n  {shown}\n  {' ' * at}{carets}")


def problem_at_offset(sql: str, start: int, end: int, message: str) -> ConfigProblem:
    """Return the error for a fault at the characters [start, end) of `sql`."""
    line = sql.count("\n", 0, start) + 1
    column = start - (sql.rfind("\n", 0, start) + 1) + 1
    return problem_at(sql, line, column, message, max(1, end - start))


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean "x"?` for the nearest known name, or nothing."""
    near = difflib.get_close_matches(name.lower(), list(known), n=1, cutoff=0.6)
    return f'; did you mean "{near[0]}"?' if near else ""
