"""Why a process ended, from its log."""

from pathlib import Path

import pytest

from pipeline.laptop.last_words import last_words

STARTED = '{"fact":"WorkerStarted","worker":"reader"}\n'
CRASHED = '{"fact":"WorkerCrashed","worker":"reader","error":"KeyError: \'a\'"}\n'
SPOKEN = "headrace api: web.port = 1: taken\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (STARTED + CRASHED, ": KeyError: 'a'"),
        (SPOKEN, ": web.port = 1: taken"),
        (SPOKEN + STARTED, ""),  # an earlier process said it
        ("", ""),
    ],
)
def test_the_last_words_are_those_of_the_last_process(tmp_path: Path, text: str, words: str) -> None:
    """A crash or a refusal is told; what a process before it had said is not."""
    log = tmp_path / "loader.log"
    log.write_text(text)
    assert last_words(log) == f"{words} (log: {log})"
    assert last_words(log, since=len(text)) == f" (log: {log})"
    assert last_words(tmp_path / "none.log") == ""
