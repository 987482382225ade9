"""DuckDB's complaints about the translated text, said about the text the person wrote."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from pipeline.core.errors import ConfigProblem
from pipeline.core.excerpt import problem_at_offset
from pipeline.laptop.dialect import find_word

_KIND = re.compile(r"^(?:Invalid Input|Not implemented|[A-Z]\w*) Error: ")
_INTERNAL = re.compile(r"\bscan\d+\.")
_NAMED = re.compile(
    r"""["'`]([A-Za-z_][\w.]*)["'`(]|with name "?(\w+)"?|types '(\w+)\(|source column (\w+)"""
)
_CANDIDATES = re.compile(r'Candidate bindings?: (.*?)(?:\n|$)|Did you mean "(\w+)"', re.DOTALL)


@contextmanager
def asked(sql: str) -> Iterator[None]:
    """Translate what DuckDB raises while it works on `sql`.

    Raises:
        ConfigProblem: the statement is wrong, or too large.
        KeyboardInterrupt: Ctrl-C, which DuckDB turns into an error of its own.
    """
    try:
        yield
    except (duckdb.Error, pa.ArrowException, RuntimeError) as exc:
        if "interrupted" in str(exc).lower():
            raise KeyboardInterrupt from exc
        if isinstance(exc, RuntimeError) and not isinstance(exc, duckdb.Error):
            raise
        raise duck_problem(sql, exc) from exc


def duck_problem(sql: str, exc: BaseException) -> ConfigProblem:
    """Return the error for a statement that DuckDB refused, with the place in `sql` if the message names one."""
    text = _INTERNAL.sub("", str(exc))
    message = _KIND.sub("", text.split("\n", 1)[0]).strip().rstrip("!.")
    if message.startswith("Out of Memory"):
        return ConfigProblem("the query needs more than its 512 MB: narrow it by dt, or select fewer columns")
    near = _nearest(text)
    message += f"; did you mean {near}?" if near and "did you mean" not in message.lower() else ""
    named = [next(group for group in match.groups() if group) for match in _NAMED.finditer(message)]
    for word in [name.rsplit(".", 1)[-1] for name in [*named, *_underlined(text)]]:
        start = find_word(sql, word)
        if start is not None:
            return problem_at_offset(sql, start, start + len(word), message)
    return ConfigProblem(message)


def _underlined(text: str) -> list[str]:
    """Return the names that DuckDB's own caret line points at."""
    lines = text.splitlines()
    if len(lines) < 2 or set(lines[-1].strip()) != {"^"}:
        return []
    first = len(lines[-1]) - len(lines[-1].lstrip())
    return re.findall(r"[A-Za-z_][\w.]*", lines[-2][first : len(lines[-1].rstrip())])


def _nearest(text: str) -> str:
    found = _CANDIDATES.search(text)
    if found is None:
        return ""
    if found[2]:
        return f'"{found[2]}"'
    return (re.findall(r'"([^"]+)"', found[1]) or [""])[0].join('""') if found[1] else ""
