"""How an answer is printed: a table for people, JSON and CSV for programs."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import orjson

if TYPE_CHECKING:  # it loads Arrow, and `--help` is to be quick
    from pipeline.flows.query import Answer

NUMERIC = ("tinyint", "smallint", "integer", "bigint", "double", "real", "decimal")
GAP = "  "
DRAWN_GAP = 3  # between columns of a drawn table


def write_table(answer: "Answer", out: TextIO) -> None:
    """Write a table: drawn on a terminal (row by row if it is too wide), plain columns otherwise, never cut off."""
    rows = [[_shown(value) for value in row] for row in answer.rows()]
    names = [printable(column.name) for column in answer.result.columns]
    right = [column.type.startswith(NUMERIC) for column in answer.result.columns]
    if out.isatty():
        _draw(names, right, rows, out)
    else:
        out.writelines(line + "\n" for line in aligned(names, right, rows))


def write_json(answer: "Answer", out: TextIO) -> None:
    """Write one JSON array, an object and a line per row; times in ISO 8601, unknown numbers as null."""
    names = _unlike([column.name for column in answer.result.columns])
    before = "[\n"
    for row in answer.rows():
        members = {name: _plain(value) for name, value in zip(names, row, strict=True)}
        out.write(before + json.dumps(members, ensure_ascii=False, default=_text))
        before = ",\n"
    out.write("[]\n" if before == "[\n" else "\n]\n")


def write_csv(answer: "Answer", out: TextIO) -> None:
    """Write CSV with a header line; null is an empty field."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in answer.result.columns])
    for row in answer.rows():
        writer.writerow(["" if value is None else _text(value) for value in row])


WRITERS: dict[str, Callable[["Answer", TextIO], None]] = {
    "table": write_table,
    "json": write_json,
    "csv": write_csv,
}


def indented(document: Any) -> bytes:
    """Return a JSON-ready document as `--json` prints it: over several lines, for programs and for people."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2)


def footer(answer: "Answer", seconds: float) -> str:
    """Say what it took: rows, files, bytes, time; and what was left out."""
    result = answer.result
    parts = [counted(answer.count, "row")]
    if result.files_read is not None:
        parts.append(f"{counted(result.files_read, 'file')} read")
    parts += [f"{_bytes(result.bytes_scanned)} scanned", f"{seconds:.2f} s"]
    more = f" (only the first {answer.count:,} rows: --max-rows N shows more)" if answer.cut else ""
    return " · ".join(parts) + more


def _draw(names: list[str], right: list[bool], rows: list[list[str]], out: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(file=out)
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    if sum(widths) + len(widths) * DRAWN_GAP > console.width:
        out.writelines(line + "\n" for line in _records(names, rows))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name, numeric in zip(names, right, strict=True):
        table.add_column(Text(name), justify="right" if numeric else "left", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(value) for value in row))
    console.print(table)


def _records(names: list[str], rows: list[list[str]]) -> Iterator[str]:
    """Yield a wide table row by row, a column a line: nothing is squeezed."""
    width = max(map(len, names))
    for number, row in enumerate(rows, 1):
        yield f"row {number}"
        for name, value in zip(names, row, strict=True):
            yield f"  {name:{width}}{GAP}{value}".rstrip()


def aligned(names: list[str], right: list[bool], rows: list[list[str]]) -> Iterator[str]:
    """Yield the lines of plain columns, a header first; numbers stand to the right."""
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]

    def line(values: Iterable[str]) -> str:
        placed = zip(values, widths, right, strict=True)
        return GAP.join(
            value.rjust(width) if numeric else value.ljust(width) for value, width, numeric in placed
        )

    for values in (names, *rows):
        yield line(values).rstrip()


def _shown(value: Any) -> str:
    return "" if value is None else printable(_text(value))


def printable(text: str) -> str:
    """Escape control characters: refused records may hold any bytes, a terminal obeys some of them."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return "0x" + value.hex()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (dict, list)):
        return json.dumps(_plain(value), ensure_ascii=False, default=_text)
    return str(value)


def _plain(value: Any) -> Any:
    """Return a value as JSON holds it."""
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and value - value != 0:  # infinite, or not a number
        return None
    return value.isoformat() if hasattr(value, "isoformat") else value


def _unlike(names: Sequence[str]) -> list[str]:
    """Number repeated names, so that no member of an object hides another."""
    found: list[str] = []
    for name in names:
        count = 1
        candidate = name
        while candidate in found:
            count += 1
            candidate = f"{name}_{count}"
        found.append(candidate)
    return found


def counted(count: int, noun: str) -> str:
    """Return a number with its noun."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB"):
        if count < 1_000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1_000
    return f"{count:.1f} GB"


# `flows.rules.StoredRules`: files and settings once, the control store every half a minute.
RESTART_LOADERS = (
    "loaders that run read schema files and settings once, when they start: if one of those was mended, restart them "
    "(`headrace down`, then `headrace up`; or each `headrace worker`), else what comes next is judged as before. What was "
    "mended by `headrace tenants` or `headrace schema publish` they know within half a minute"
)


def say(line: str) -> None:
    """Write one line to standard error, where it is in no program's way."""
    print(line, file=sys.stderr)  # noqa: T201 - beside the data on standard output
