"""The child as the process it is, spoken to over pipes as the daemon does, without Java, against the emulator."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pipeline import wiring
from pipeline.core.event import Record
from pipeline.core.kpl import split
from pipeline.laptop.emulator import free_port
from pipeline.machine.processes import wait_until
from tests.aws.backends import ministack
from tests.consumers.test_reader import SECRET, Deployment, _accepted, _broken_row
from tests.fakes.daemon import bare, initialize, process

pytestmark = pytest.mark.stack
FIRST = "shardId-000000000000"
# What the daemon must never see: a library that prints orders, to both levels of standard output.
PRINTING = """
import os, sys
print('{"action": "checkpoint"}', flush=True)
os.write(1, b'{"action": "status", "responseFor": "initialize"}\\n')
os.system('echo \\'{"action": "checkpoint"}\\'')
"""


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One emulator for the module."""
    with ministack(tmp_path_factory.mktemp("stack") / "home") as found:
        yield found


class Pipes:
    """A child and both ends of its pipes; its log is a file."""

    def __init__(self, house: Deployment, *python: str) -> None:
        self.log = house.folder / "child.log"
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(
                [sys.executable, *(python or ("-m", "consumers.kcl"))],
                env=kept | house.environment,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        house.readers.append(self.child)

    def send(self, message: dict[str, Any]) -> None:
        """Write one line, as the daemon does."""
        assert self.child.stdin is not None
        self.child.stdin.write(json.dumps(message).encode() + b"\n")
        self.child.stdin.flush()

    def ask(self, message: dict[str, Any]) -> list[tuple[str | None, int | None]]:
        """Send a message and wait for its status; return the checkpoints in between, each of which holds."""
        self.send(message)
        asked: list[tuple[str | None, int | None]] = []
        while True:
            said = self.read()
            if said["action"] == "status":
                assert said == {"action": "status", "responseFor": message["action"]}
                return asked
            assert said["action"] == "checkpoint"
            asked.append((said["sequenceNumber"], said["subSequenceNumber"]))
            self.send({**said, "error": None})

    def read(self) -> dict[str, Any]:
        """Return the next line of the child; empty ones are nothing to the daemon."""
        assert self.child.stdout is not None
        while (line := self.child.stdout.readline()) == b"\n":
            pass
        assert line, self.log.read_text()
        found: dict[str, Any] = orjson.loads(line)
        return found

    def hang_up(self) -> int:
        """Close the pipe; return the child's status."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        return self.child.wait(30)

    def facts(self) -> list[dict[str, Any]]:
        """Return the log's lines: every one is a JSON object."""
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines()]


@pytest.fixture
def house(tmp_path: Path, endpoint: str) -> Iterator[Callable[..., Deployment]]:
    """Make deployments of one shard whose children are ended after the test."""
    made: list[Deployment] = []

    def make(**more: str) -> Deployment:
        made.append(Deployment(tmp_path, endpoint, shards=1, **more).provision())
        return made[-1]

    yield make
    for one in made:
        for child in one.readers:
            child.kill()
            child.wait()


def _delivered(house: Deployment) -> list[Record]:
    """Read the stream as KCL does: every user record by itself."""
    reader = wiring.stream(house.settings).reader(FIRST, None)
    found: list[Record] = []
    while records := reader.read().records:
        for one in records:
            found += [
                Record(one.sequence_number, one.partition_key, part, one.arrived_us // 1_000 * 1_000, number)
                for number, part in enumerate(split(one.data))
            ]
    return found


def test_a_life(house: Callable[..., Deployment]) -> None:
    """Begun, fed, asked to shut down and let go: committed once, checkpointed at its end, status 0, nothing printed."""
    home = house()
    home.produce(200)
    records, child = _delivered(home), Pipes(home)
    assert child.ask(initialize(FIRST)) == []
    assert child.ask(process(records)) == []  # collected only
    last = records[-1]
    assert child.ask(bare("shutdownRequested")) == [(last.sequence_number, last.subsequence_number)]
    assert child.ask(bare("leaseLost")) == []
    assert child.hang_up() == 0
    assert home.rows() == _accepted(200)
    assert home.audit().balanced
    facts = [one["fact"] for one in child.facts()]
    assert (facts[0], facts[-1]) == ("WorkerStarted", "WorkerStopped")
    assert "ShardReleased" in facts
    assert SECRET not in child.log.read_text()


def test_signals_are_the_daemon_s(house: Callable[..., Deployment]) -> None:
    """TERM and INT to the whole group, as a terminal or an init sends them, do not end a child before it is asked."""
    home = house()
    home.produce(50)
    child = Pipes(home)
    child.ask(initialize(FIRST))
    child.ask(process(_delivered(home)))
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
        os.killpg(child.child.pid, number)
    assert len(child.ask(bare("shutdownRequested"))) == 1
    assert child.hang_up() == 0
    assert home.rows() == _accepted(50)


def test_signals_before_the_first_import(house: Callable[..., Deployment]) -> None:
    """Also while it still starts."""
    child = Pipes(house())
    assert wait_until(lambda: _ignored(child.child.pid) & _TERM_AND_INT == _TERM_AND_INT, 30)
    os.killpg(child.child.pid, signal.SIGTERM)
    child.ask(initialize(FIRST))
    assert child.hang_up() == 0


_TERM_AND_INT = 1 << (signal.SIGTERM - 1) | 1 << (signal.SIGINT - 1)


def _ignored(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("SigIgn:")), 16)


def test_what_is_printed_does_not_reach_the_daemon(house: Callable[..., Deployment]) -> None:
    """A stray print, a stray write and a child's echo go to the log; an order among them is obeyed by nobody."""
    home = house()
    code = (
        "import runpy\n"
        "from pipeline.flows import load\n"
        "start = load.Loader.start\n"
        f"def printing(self):\n    exec({PRINTING!r})\n    return start(self)\n"
        "load.Loader.start = printing\n"
        "runpy.run_module('consumers.kcl', run_name='__main__')\n"
    )
    child = Pipes(home, "-c", code)
    assert child.ask(initialize(FIRST)) == []
    assert child.ask(process([])) == []
    assert child.hang_up() == 0
    assert child.log.read_text().count('"action"') == 3


def test_an_unknown_error_is_not_answered(house: Callable[..., Deployment]) -> None:
    """Status 70, one line that names type and place, no status for the daemon, nothing of the payload."""
    home = house(HEADRACE_SEGMENT__MAX_ROWS="10")
    _broken_row(home)
    child = Pipes(home)
    child.send(initialize(FIRST))
    assert child.child.wait(30) == 70
    assert child.child.stdout is not None
    assert child.child.stdout.read() == b""
    assert [one["error"][:20] for one in child.facts() if one["fact"] == "WorkerCrashed"] == [
        "Corrupt at items.py:"
    ]
    assert SECRET not in child.log.read_text()
    assert "Traceback" not in child.log.read_text()


def test_a_line_that_is_none(house: Callable[..., Deployment]) -> None:
    """The daemon's own rubbish ends the process as well, and is not quoted."""
    home = house()
    child = Pipes(home)
    child.ask(initialize(FIRST))
    child.send({"action": "dance", "data": SECRET})
    assert child.child.wait(30) == 70
    assert SECRET not in child.log.read_text()


def test_a_daemon_that_is_killed(house: Callable[..., Deployment]) -> None:
    """The end of the pipe ends the child in order; what it had collected is the next one's."""
    home = house()
    home.produce(50)
    child = Pipes(home)
    child.ask(initialize(FIRST))
    child.ask(process(_delivered(home)))
    assert child.hang_up() == 0
    assert home.segments() == []
    assert [one["units"] for one in child.facts() if one["fact"] == "ShardReleased"] == [50]


def test_the_page_is_not_a_child_s(house: Callable[..., Deployment]) -> None:
    """Two children with one port for a page both run: neither serves it."""
    home = house(HEADRACE_METRICS__PROMETHEUS_PORT=str(free_port()))
    children = [Pipes(home), Pipes(home)]
    for child in children:
        assert child.ask(initialize(FIRST)) == []
    assert [child.hang_up() for child in children] == [0, 0]


def test_a_wrong_setting(house: Callable[..., Deployment]) -> None:
    """Status 2 and a sentence."""
    home = house()
    home.environment["HEADRACE_EVENTS__TENANTS"] = "No Tenant"
    child = Pipes(home)
    assert child.child.wait(30) == 2
    assert child.log.read_text().startswith("headrace kcl: events.tenants")
