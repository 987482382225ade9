"""What is seen of progress where no terminal is."""

import pytest

from pipeline.cli import progress
from pipeline.cli.progress import Progress, Stages


def test_stages_are_told_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """Begin and end of each, and in between how far those are that run; all on standard error."""
    stages = Stages(told=True)
    for name in ("start", "load", "audit"):
        stages.add(name)
    with stages:
        stages.begin("start")
        stages.tell()
        stages.end("start")
        stages.begin("load")
        stages.update("load", 1_234, "3 segments")
        stages.tell()
    out, err = capsys.readouterr()
    seen = [line.rpartition(", " if "," in line else ": ")[0] or line for line in err.splitlines()]
    assert seen == ["start", "start", "start: done", "load", "load: 1,234, 3 segments"]
    assert out == ""


def test_they_are_told_by_themselves(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Time alone is enough: a stage may have nothing to count."""
    monkeypatch.setattr(progress, "TELL_SECONDS", 0.01)
    said: list[str] = []
    with Stages(told=True) as stages:
        stages.add("start")
        stages.begin("start")
        while len(said) < 3:
            said += capsys.readouterr().err.splitlines()
    assert said[0] == "start: begins"
    assert said[1].startswith("start: 0.")


def test_one_stage_is_told_where_it_takes_long(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two seconds, then every ten, where the command asks for it; no line at begin and end."""
    monkeypatch.setattr(progress, "FIRST_SECONDS", 0.01)
    monkeypatch.setattr(progress, "TELL_SECONDS", 0.01)
    said: list[str] = []
    with Progress("freeze", unit="chunks", told=True) as one:
        while len(said) < 2:
            said += capsys.readouterr().err.splitlines()
        one.update(3)
    assert {line.rpartition(" ")[0][:10] for line in said} == {"freeze: 0."}


def test_one_stage_is_silent_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    """A command's own output is what a script reads; nothing stands beside it."""
    with Progress("audit", unit="objects") as one:
        one.add(3)
    assert capsys.readouterr() == ("", "")
