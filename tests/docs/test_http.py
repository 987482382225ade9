"""The examples of the pages about HTTP run as they stand, against the local stack with its API and its loader."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.laptop.home import Home
from tests.told import keep

ROOT = Path(__file__).resolve().parents[2]
PAGES = ("docs/http.md", "docs/http-reads.md", "docs/limits.md")
_BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_PORT = "http://127.0.0.1:8080"  # of a page; a test's stack may have another


def examples(page: str) -> list[str]:
    """Return the examples of a page for a shell."""
    return _BLOCK.findall((ROOT / page).read_text(encoding="utf-8"))


def _headrace(home: Path, *words: str) -> bytes:
    """Run the command; return what it says."""
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))
    }
    command = [sys.executable, "-m", "pipeline.cli.main", *words, "--home", str(home)]
    return subprocess.run(command, check=True, env=outside, stdout=subprocess.PIPE, timeout=120).stdout


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The home of a stack."""
    found = tmp_path_factory.mktemp("home")
    _headrace(found, "up", "--detach")
    try:
        yield found
    finally:
        keep(found)
        _headrace(found, "down", "--wipe")


def _run(home: Path, blocks: list[str], **more: str) -> list[Any]:
    """Run examples in order, in one shell, as somebody would paste them; return their answers."""
    url = Home(home).api_url.read_text(encoding="ascii")
    shell = "\n".join(("set -eu", *(f"{one}\necho" for one in blocks))).replace(_PORT, url)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {"PATH": path, "URL": url, "HEADRACE_HOME": str(home), **more}
    found = subprocess.run(
        ["sh", "-c", shell], capture_output=True, check=False, env=environment, timeout=120
    )
    assert found.returncode == 0, found.stderr
    return _documents(found.stdout.decode())


def _documents(text: str) -> list[Any]:
    """Return the answers, which stand behind one another."""
    documents, decoder = [], json.JSONDecoder()
    while text := text.strip():
        one, end = decoder.raw_decode(text)
        documents.append(one)
        text = text[end:]
    return documents


@pytest.mark.stack
def test_the_examples_run(home: Path) -> None:
    """What the pages send is accepted, what they ask for is found; nothing is refused."""
    made = _headrace(home, "keys", "create", "noaa", "--scope", "ingest,read,replay,admin", "--json")
    key = json.loads(made)["key"]
    sent, reads, limits = (_run(home, examples(page), KEY=key) for page in PAGES)
    assert [one["accepted"] for one in sent[:-1]] == [1, 1, 2, 1]
    assert sent[-1]["state"] == "queryable"
    assert [len(one["events"]) for one in reads[:2]] == [2, 4]
    assert reads[2]["found"][0]["outcome"] == "accepted"
    assert (reads[3]["events"], reads[4]["events"]) == (6, 6)
    assert limits[0]["allowed"]


@pytest.mark.stack
def test_the_commands_of_the_readme_run(home: Path) -> None:
    """From nothing to an event that was accepted."""
    (block,) = [one for one in examples("README.md") if "/v1/events" in one]
    begin, rest = block.split("\n", 1)
    assert begin == "headrace up --detach"  # what the fixture did
    sent, found = _run(home, [rest])
    assert sent["accepted"] == 1
    assert "events" in found


def test_there_are_examples() -> None:
    """The pattern that finds them finds them."""
    assert [len(examples(page)) for page in PAGES] == [5, 4, 1]
