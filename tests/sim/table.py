"""The table of guards in `docs/guarantees.md`: `python -m tests.sim --guard all --table`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guarantees.md"
BEGIN = "<!-- guards: written by `python -m tests.sim --guard all --table` -->"
END = "<!-- end of guards -->"
_ROW = re.compile(
    r"^\| (?P<guard>[^|]+?) \| (?P<caught>\d+|not counted) \| (?P<first>\d+|none) \| (?P<names>[^|]*?) \|$"
)


class Row(NamedTuple):
    """One guard: how many seeds catch its absence (None: not counted), the first, by which invariants, most often first."""

    guard: str
    caught: int | None
    first: int | None
    invariants: tuple[str, ...]


def write_table(rows: Sequence[Row], seeds: int) -> None:
    """Put the table between its marks."""
    text = PAGE.read_text(encoding="utf-8")
    lines = [BEGIN, "", f"| guard switched off | of {seeds} seeds | first | seen by |", "|---|---|---|---|"]
    for row in rows:
        first = "none" if row.first is None else row.first
        caught = "not counted" if row.caught is None else row.caught
        lines.append(f"| {row.guard} | {caught} | {first} | {'; '.join(row.invariants)} |")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    PAGE.write_text(before + "\n".join([*lines, "", END]) + after, encoding="utf-8")


def read_table() -> dict[str, Row]:
    """Return the table's rows by guard."""
    table = PAGE.read_text(encoding="utf-8").split(BEGIN)[1].split(END)[0]
    found = {}
    for row in filter(None, map(_ROW.fullmatch, table.splitlines())):
        first = None if row["first"] == "none" else int(row["first"])
        caught = int(row["caught"]) if row["caught"].isdigit() else None
        found[row["guard"]] = Row(row["guard"], caught, first, tuple(row["names"].split("; ")))
    return found
