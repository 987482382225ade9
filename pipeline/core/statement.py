"""Which statements are run: those that read. Both engines ask here before they do anything else."""

import re
from typing import NamedTuple

from pipeline.core.errors import ConfigProblem
from pipeline.core.excerpt import problem_at_offset

READING = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "EXPLAIN", "SHOW", "DESCRIBE", "DESC"})
ALLOWED = (
    "only SELECT, WITH, VALUES, EXPLAIN, SHOW TABLES and DESCRIBE are, for SQL never changes the archive"
)
BLANK = r"(?:\s|--[^\n]*(?:\n|$)|/\*.*?\*/)*"  # white space and comments
_FIRST_WORD = re.compile(BLANK + r"[(\s]*(?P<word>\w+)", re.DOTALL)


class Word(NamedTuple):
    """A word of a statement, in capitals, and where it stands: characters [start, end)."""

    text: str
    start: int
    end: int


def first_word(sql: str) -> Word:
    """Return the word that says what a statement does.

    Raises:
        ConfigProblem: the statement is empty, or does anything but read.
    """
    found = _FIRST_WORD.match(sql)
    if found is None:
        raise ConfigProblem('no SQL given: try headrace query "SELECT count(*) FROM events"')
    word = Word(found["word"].upper(), found.start("word"), found.end("word"))
    if word.text not in READING:
        raise problem_at_offset(sql, word.start, word.end, f"{word.text} is not run: {ALLOWED}")
    return word
