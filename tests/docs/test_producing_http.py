"""What docs/producing.md shows of sending over HTTP runs as it stands, against the local stack."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline.laptop.home import Home
from tests.docs.test_producing import OVER_HTTP
from tests.told import keep
from tests.web.serving import event

PRODUCING = Path(__file__).resolve().parents[2] / "docs" / "producing.md"
_OVER_HTTP = OVER_HTTP.search(PRODUCING.read_text(encoding="utf-8"))
PROGRAMS, COMMANDS = (
    re.findall(rf"^```{kind}\n(.*?)^```", _OVER_HTTP[0] if _OVER_HTTP else "", re.MULTILINE | re.DOTALL)
    for kind in ("python", "sh")
)


def _headrace(home: Path, *words: str) -> bytes:
    outside = {
        name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))
    }
    command = [sys.executable, "-m", "pipeline.cli.main", *words, "--home", str(home)]
    return subprocess.run(command, check=True, env=outside, timeout=120, stdout=subprocess.PIPE).stdout


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A stack: where its API answers, and a key."""
    home = tmp_path_factory.mktemp("home")
    _headrace(home, "up", "--detach")
    try:
        made = _headrace(home, "keys", "create", "noaa", "--scope", "ingest,read", "--json")
        yield {"URL": Home(home).api_url.read_text(encoding="ascii"), "KEY": orjson.loads(made)["key"]}
    finally:
        keep(home)
        _headrace(home, "down", "--wipe")


@pytest.mark.stack
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_a_program_runs(
    api: dict[str, str], number: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As somebody would paste it; what its comments say it prints, it prints, in order."""
    for name, value in api.items():
        monkeypatch.setenv(name, value)
    exec(compile(PROGRAMS[number], f"{PRODUCING.name} over HTTP {number + 1}", "exec"), {})
    said = re.findall(r"print\(.*\)  # (.+)", PROGRAMS[number])
    assert capsys.readouterr().out.splitlines() == said


@pytest.mark.stack
def test_the_command_runs(api: dict[str, str], tmp_path: Path) -> None:
    """`headrace produce --to` sends a file to the API of a stack."""
    lines = [orjson.dumps(event(event_id=f"file-{number}")) for number in range(20)]
    (tmp_path / "events.ndjson").write_bytes(b"\n".join(lines))
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, **api}
    [command] = COMMANDS
    found = subprocess.run(
        ["sh", "-c", command], capture_output=True, check=True, env=environment, cwd=tmp_path, timeout=120
    )
    assert found.stdout == b"acknowledged: 20, refused: 0\n"


def test_there_are_examples() -> None:
    """The pattern that finds them finds them."""
    assert (len(PROGRAMS), len(COMMANDS)) == (3, 1)
