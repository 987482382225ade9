"""The HTTP API under a load tool: requests and events a second of one core, against a handler that only says 202.

`wrk` drives it where that is installed. Each server has one core and the tool another; single events are compared with
the bare handler on the same server, in turns. The stream behind it takes everything at once.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.data import KEY, events
from tests.bench.figure import Figure

_CONNECTIONS = 128
_BATCH = 500
_SINGLES, _BATCHES = 2_000, 100  # different bodies, sent in turn
_SCRIPT = Path(__file__).with_name("http_load.lua")
_TENANT = ("tenant-00",)


class Load(NamedTuple):
    """What the tool saw."""

    requests: int
    seconds: float
    bad: int
    p50_ms: float
    p99_ms: float
    server_seconds: float  # processor time of the server meanwhile; 0 where the system does not tell

    @property
    def per_second(self) -> float:
        """Return the rate."""
        return self.requests / self.seconds

    @property
    def per_core_second(self) -> float:
        """Return the rate of a core that does nothing else."""
        return self.requests / self.server_seconds if self.server_seconds else self.per_second


class _Server(NamedTuple):
    url: str
    pid: int

    def cpu_seconds(self) -> float:
        """Return the processor time of the process so far."""
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def http(count: int, rounds: int) -> list[Figure]:
    """The HTTP API on one core over a null stream, driven by wrk: single events, NDJSON batches, latency."""
    wrk = shutil.which("wrk")
    if wrk is None:
        print("http: wrk is not installed (apt install wrk): not measured", file=sys.stderr)
        return []
    seconds = max(2, count // 1_000)
    with tempfile.TemporaryDirectory() as folder, _server("bare") as bare, _server("api") as api:
        singles, batches = _bodies(Path(folder))
        pairs = [
            (_drive(wrk, bare, singles, seconds), _drive(wrk, api, singles, seconds)) for _ in range(rounds)
        ]
        many = [_drive(wrk, api, batches, seconds, connections=16) for _ in range(rounds)]
    bad = sum(load.bad for pair in pairs for load in pair) + sum(load.bad for load in many)
    ours = statistics.median(load.per_second for _, load in pairs)
    theirs = statistics.median(load.per_second for load, _ in pairs)
    return [
        Figure("single events, bare handler", theirs, "requests/s"),
        Figure("single events", ours, "requests/s"),
        Figure(
            "single events / bare",
            statistics.median(a.per_second / b.per_second for b, a in pairs),
            "x",
            ">= 0.4",
        ),
        Figure(
            "single events, of a core of its own",
            statistics.median(a.per_core_second for _, a in pairs),
            "requests/s",
        ),
        Figure("single events, p50 at full speed", statistics.median(load.p50_ms for _, load in pairs), "ms"),
        Figure("single events, p99 at full speed", statistics.median(load.p99_ms for _, load in pairs), "ms"),
        Figure(
            f"NDJSON batches of {_BATCH}",
            statistics.median(load.per_second for load in many) * _BATCH,
            "events/s",
            ">= 100,000",
        ),
        Figure(
            f"NDJSON batches of {_BATCH}, of a core of its own",
            statistics.median(load.per_core_second for load in many) * _BATCH,
            "events/s",
        ),
        Figure(
            f"NDJSON batches of {_BATCH}, p99 at full speed",
            statistics.median(load.p99_ms for load in many),
            "ms",
        ),
        Figure("answers that were no 202", bad, "", "0"),
    ]


def _bodies(folder: Path) -> tuple[tuple[Path, str], tuple[Path, str]]:
    singles, batches = folder / "singles", folder / "batches"
    singles.write_bytes(b"\n".join(events(_SINGLES, tenants=_TENANT)) + b"\n")
    many = events(_BATCH * _BATCHES, tenants=_TENANT)
    lines = (b"\t".join(many[first : first + _BATCH]) for first in range(0, len(many), _BATCH))
    batches.write_bytes(b"\n".join(lines) + b"\n")
    return (singles, "application/json"), (batches, "application/x-ndjson")


@contextmanager
def _server(kind: str) -> Iterator[_Server]:
    command = [*_on_core(0), sys.executable, "-m", "tests.bench.http_server", kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            assert server.stdout is not None
            yield _Server(f"http://127.0.0.1:{int(server.stdout.readline())}", server.pid)
        finally:
            server.send_signal(signal.SIGTERM)


def _drive(
    wrk: str, server: _Server, what: tuple[Path, str], seconds: int, connections: int = _CONNECTIONS
) -> Load:
    path, media_type = what
    command = [
        *_on_core(1),
        wrk,
        "-t1",
        f"-c{connections}",
        f"-d{seconds}s",
        "--timeout",
        "10s",
        "-s",
        str(_SCRIPT),
    ]
    before = server.cpu_seconds()
    found = subprocess.run(
        [*command, server.url, "--", str(path), media_type, KEY.text],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in found.stdout.splitlines() if line.startswith("RESULT"))
    requests, micros, bad, p50, p99 = map(int, line.split()[1:])
    spent = server.cpu_seconds() - before
    return Load(requests, micros / 1e6, bad, p50 / 1_000, p99 / 1_000, spent)


def _on_core(core: int) -> list[str]:
    """Return what binds a command to one core, where there are two and a way to do it."""
    pinned = shutil.which("taskset") is not None and (os.cpu_count() or 1) > 1
    return ["taskset", "-c", str(core)] if pinned else []
