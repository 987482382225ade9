"""Workers under the real daemon: `headrace worker --kcl` as a user starts it, against the emulator."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from consumers.java import find_jars, find_java
from pipeline.core.errors import ConfigProblem
from pipeline.machine.processes import wait_until
from tests.consumers.test_reader import Deployment

PATIENCE = 90.0  # seconds; each wait ends as soon as what it waits for is there
QUICK = {  # KCL's own times are made for a cloud: half a minute until the first lease
    "HEADRACE_KCL__FAILOVER_SECONDS": "3",
    "HEADRACE_KCL__IDLE_MS": "200",
    "HEADRACE_KCL__PROPERTIES": "leaseAssignmentIntervalMillis=1000,workerMetricsReporterFreqInMillis=1000,"
    "varianceBalancingFrequency=1,schedulerInitializationBackoffTimeMillis=200,shardSyncIntervalMillis=1000",
}


def lacking() -> str:
    """Say what this machine lacks for the real daemon; nothing when it lacks nothing."""
    try:
        find_java(), find_jars()
    except ConfigProblem as problem:
        return f"the real KCL daemon is not tested here: {problem}"
    return ""


needs_daemon = pytest.mark.skipif(bool(lacking()), reason=lacking() or "all there")


class Worker:
    """One `headrace worker --kcl` and its log."""

    def __init__(self, house: Deployment, name: str, *arguments: str, **more: str) -> None:
        self.log = house.folder / f"{name}.log"
        kept = {one: os.environ[one] for one in ("PATH", "HOME", "JAVA_HOME") if one in os.environ}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "pipeline.cli.main", "worker", *(arguments or ("--kcl",))],
                env=kept | {"LC_ALL": "C"} | house.environment | more,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        house.readers.append(self.process)

    def facts(self, name: str = "") -> list[dict[str, Any]]:
        """Return the log's lines, or those of one fact: every one is a JSON object."""
        lines = self.log.read_bytes()
        whole = lines[: lines.rfind(b"\n") + 1]
        found = [orjson.loads(line) for line in whole.splitlines()]
        return [one for one in found if not name or one["fact"] == name]

    def holds(self) -> set[str]:
        """Return the shards it has begun and not let go of since its daemon was last started."""
        held: set[str] = set()
        for one in self.facts():
            if one["fact"] == "LoaderOpened":
                held.add(one["shard_id"])
            elif one["fact"] == "ShardReleased":
                held.discard(one["shard_id"])
            elif one["fact"] == "DaemonEnded":
                held.clear()
        return held

    def children(self) -> dict[str, list[int]]:
        """Return the pids below the supervisor: the daemon's, and those of its children."""
        [java] = _below(self.process.pid) or [0]
        return {"daemon": [java] if java else [], "shards": _below(java) if java else []}

    def kill(self, what: str) -> None:
        """SIGKILL the daemon, or one shard's process."""
        os.kill(self.children()[what][0], signal.SIGKILL)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Ask it to stop; return its status, which comes within 30 seconds or not at all."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def wait(self, condition: Callable[[], bool]) -> None:
        """Wait for something while the worker lives."""
        assert wait_until(lambda: self.process.poll() is not None or condition(), PATIENCE), self.said()
        assert self.process.poll() is None, self.said()

    def said(self) -> str:
        """Return the end of its log."""
        return self.log.read_text(errors="replace")[-6_000:]


def _below(pid: int) -> list[int]:
    answer = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, check=False)
    return [int(one) for one in answer.stdout.split()]


class Writer:
    """A producer that writes in the background from start to stop."""

    def __init__(self, house: Deployment, first: int, size: int = 50) -> None:
        self._house, self._size = house, size
        self.count = first
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self) -> None:
        while not self._stop.wait(0.3):
            self._house.produce(self._size, self.count)
            self.count += self._size

    def stop(self) -> int:
        """Stop; return how many events there are."""
        self._stop.set()
        self._thread.join()
        return self.count
