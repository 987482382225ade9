"""The examples of docs/http.md run as they stand, against the local stack with its API and its loader."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline.laptop.home import Home

PAGE = Path(__file__).resolve().parents[2] / "docs" / "http.md"
EXAMPLES = re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _headrace(home: Path, *words: str) -> None:
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))
    }
    command = [sys.executable, "-m", "pipeline.cli.main", *words, "--home", str(home)]
    subprocess.run(command, check=True, env=outside, timeout=120)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the API of a stack answers."""
    home = tmp_path_factory.mktemp("home")
    _headrace(home, "up", "--detach")
    try:
        yield Home(home).api_url.read_text(encoding="ascii")
    finally:
        _headrace(home, "down", "--wipe")


@pytest.mark.stack
def test_the_examples_run(url: str) -> None:
    """In order, in one shell, as somebody would paste them; what they send is accepted, and the last one finds it."""
    shell = "\n".join(("set -eu", *(f"{example}\necho" for example in EXAMPLES)))
    environment = {"PATH": os.environ["PATH"], "URL": url, "KEY": "noaa"}
    found = subprocess.run(["sh", "-c", shell], capture_output=True, check=True, env=environment, timeout=120)
    answers = [orjson.loads(line) for line in found.stdout.splitlines() if line]
    assert [one["accepted"] for one in answers[:-1]] == [1, 2, 1]
    assert answers[-1]["state"] == "queryable"


def test_there_are_examples() -> None:
    """The pattern that finds them finds them."""
    assert len(EXAMPLES) == 4
