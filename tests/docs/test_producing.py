"""The examples of docs/producing.md run as they stand, against the local stack; those over HTTP with the others of HTTP."""

import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from pipeline import wiring
from pipeline.aws.kinesis import KinesisSink
from pipeline.config import load_settings
from pipeline.config.running import emulator_overrides
from pipeline.core.decode import Decoded, Decoder
from pipeline.core.event import Record
from pipeline.ports.stream import OutgoingRecord, PutAnswer
from tests.aws.backends import ministack

PAGE = Path(__file__).resolve().parents[2] / "docs" / "producing.md"
OVER_HTTP = re.compile(
    r"^## Over HTTP\n.*?(?=^## )", re.MULTILINE | re.DOTALL
)  # tests/docs/test_http.py runs these
_TO_THE_STREAM = OVER_HTTP.sub("", PAGE.read_text(encoding="utf-8"))
EXAMPLES = re.findall(r"^```python\n(.*?)^```", _TO_THE_STREAM, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A stack with stream, bucket and tables."""
    home = tmp_path_factory.mktemp("home")
    with ministack(home / "stack") as found:
        wiring.provision(load_settings({"paths": {"home": home}, **emulator_overrides(found)}, environ={}))
        yield found


@pytest.fixture
def surroundings(endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a user has set: the endpoint, and a folder to run in."""
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADRACE_AWS__ENDPOINT_URL", endpoint)
    monkeypatch.setenv("HEADRACE_AWS__ACCESS_KEY_ID", "headrace")
    monkeypatch.setenv("HEADRACE_AWS__SECRET_ACCESS_KEY", "headrace")
    monkeypatch.setenv("HEADRACE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.mark.stack
@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """As somebody would paste it; what its comments say it prints, it prints."""
    names: dict[str, Any] = {}
    exec(compile(EXAMPLES[number], f"{PAGE.name} example {number + 1}", "exec"), names)
    printed = capsys.readouterr().out.split("\n")
    said = re.findall(r"print\(.*\)  # ([\w ]+)", EXAMPLES[number])
    assert [one for one in said if not any(line.startswith(one) for line in printed)] == []


@pytest.mark.stack
@pytest.mark.usefixtures("surroundings")
@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_what_an_example_sends_is_archived(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acknowledged is not enough: the loader, by the schemas that are shipped, takes every event."""
    sent: list[OutgoingRecord] = []
    put = KinesisSink.put

    def watched(sink: KinesisSink, records: Sequence[OutgoingRecord]) -> list[PutAnswer]:
        sent.extend(records)
        return put(sink, records)

    monkeypatch.setattr(KinesisSink, "put", watched)
    exec(compile(EXAMPLES[number], f"{PAGE.name} example {number + 1}", "exec"), {})
    decoded, now_us = Decoded(), time.time_ns() // 1_000
    decoder = Decoder(wiring.rules(load_settings()))
    decoder.decode([Record("1", one.partition_key, one.data, now_us) for one in sent], 0, decoded)
    assert decoded.refusals == []
    assert len(decoded.rows) == ("put" in EXAMPLES[number] and "InvalidEvent" not in EXAMPLES[number])


def test_there_are_examples() -> None:
    """The pattern that finds them finds them."""
    assert len(EXAMPLES) >= 4
