"""Reads the delivered queries: `athena/queries/<name>.sql`, the first comment line of each is its question."""

import re
from pathlib import Path
from typing import NamedTuple

from pipeline.core.errors import ConfigProblem

_NAME = re.compile(r"[A-Za-z0-9_-]+")


class DeliveredQuery(NamedTuple):
    """One query with the question it answers."""

    name: str
    question: str
    sql: str


def load_queries(directory: Path) -> dict[str, DeliveredQuery]:
    """Read every delivered query, by name.

    Raises:
        ConfigProblem: the folder cannot be read.
    """
    try:
        paths = sorted(directory.glob("*.sql"))
        found = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    except OSError as exc:
        raise ConfigProblem(
            f"{directory}: cannot read the delivered queries: {exc.strerror}; see `paths.athena`"
        ) from exc
    return {
        name: DeliveredQuery(name, text.split("\n", 1)[0].removeprefix("--").strip(), text)
        for name, text in found.items()
    }


def looks_like_name(text: str) -> bool:
    """True when a text can only be meant as a query's name: no statement is one bare word."""
    return _NAME.fullmatch(text) is not None
