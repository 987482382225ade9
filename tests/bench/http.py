"""The HTTP API under a load tool: requests and events a second of one core, against a handler that only says 202.

`wrk` drives it where that is installed. Each server has one core and the tool another; single events are compared with
the bare handlers on the same server, in turns, by the processor time of a request: other work on the machine hardly
changes that. The stream behind it takes everything at once.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.data import KEY, events
from tests.bench.figure import Figure

_BATCH = 500
_MANY = f"NDJSON batches of {_BATCH}"
_CALM_MS = 12  # about what an answer takes at 70 %: part of a connection's round
_SINGLES, _BATCHES = 2_000, 100  # different bodies, sent in turn
_SCRIPT = Path(__file__).with_name("http_load.lua")
_TENANT = ("tenant-00",)
_BARE = ("bare handler", "bare handler in falcon", "bare handler scheduled like the API")


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

    def resident_mb(self) -> float:
        """Return the memory of the process; 0 where the system does not tell."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        except OSError:
            return 0.0
        return int(status.split("VmRSS:")[1].split()[0]) / 1_024

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
    with (
        tempfile.TemporaryDirectory() as folder,
        _server("bare") as bare,
        _server("falcon") as falcon,
        _server("batch") as batch,
        _server("api") as api,
    ):
        one, many = _bodies(Path(folder))
        four = [
            tuple(_drive(wrk, server, one, seconds, 128) for server in (bare, falcon, batch, api))
            for _ in range(rounds)
        ]
        watching = _watching(wrk, api, one, seconds, rounds)
        batches = [_drive(wrk, api, many, seconds, 16) for _ in range(rounds)]
        singles = [load for *_, load in four]
        calm = _drive(wrk, api, one, seconds, 512, _pause_ms(singles, 512))
        calm_batches = _drive(wrk, api, many, seconds, 16, _pause_ms(batches, 16))
    loads = [load for round_ in four for load in round_] + [*batches, calm, calm_batches]
    return [
        *[
            Figure(name, _median(loads[place].per_core_second for loads in four), "requests/core s")
            for place, name in enumerate(_BARE)
        ],
        Figure("single events", _median(load.per_second for load in singles), "requests/s"),
        *[
            Figure(f"single events / {name}", _ratio(four, place), "x", ">= 0.4" if place < 2 else "")
            for place, name in enumerate(_BARE)
        ],
        Figure("single events with log, metrics, traces / without", watching, "x", ">= 0.9"),
        *_figures("single events", singles, calm, 1, "requests/s"),
        Figure(_MANY, _median(load.per_second for load in batches) * _BATCH, "events/s", ">= 100,000"),
        *_figures(_MANY, batches, calm_batches, _BATCH, "events/s"),
        Figure("answers that were no 202", sum(load.bad for load in loads), "", "0"),
    ]


def _watching(wrk: str, api: _Server, one: tuple[Path, str], seconds: int, rounds: int) -> float:
    """Return what a second of processor time answers, against a server that watches no request; in turns."""
    with _server("unwatched") as blind:
        pairs = [
            (_drive(wrk, api, one, seconds, 128), _drive(wrk, blind, one, seconds, 128))
            for _ in range(rounds)
        ]
    return _median(ours.per_core_second / theirs.per_core_second for ours, theirs in pairs)


def _ratio(rounds: list[tuple[Load, ...]], other: int) -> float:
    return _median(loads[-1].per_core_second / loads[other].per_core_second for loads in rounds)


def http_memory(count: int, rounds: int) -> list[Figure]:
    """Memory of the HTTP API under full load: `--count` seconds of single events, then of batches."""
    del rounds
    wrk = shutil.which("wrk")
    if wrk is None:
        print("http-memory: wrk is not installed (apt install wrk): not measured", file=sys.stderr)
        return []
    found = []
    with tempfile.TemporaryDirectory() as folder, _server("api") as api:
        for name, what, connections in zip(
            ("single events", _MANY), _bodies(Path(folder)), (128, 16), strict=True
        ):
            _drive(wrk, api, what, 15, connections)  # caches fill
            before = api.resident_mb()
            load = _drive(wrk, api, what, count, connections)
            after = api.resident_mb()
            found += [
                Figure(f"{name}: memory after 15 s", before, "MB"),
                Figure(f"{name}: memory after {count} s more", after, "MB", "flat"),
                Figure(f"{name}: requests meanwhile", load.requests, ""),
            ]
    return found


def _figures(name: str, full: list[Load], calm: Load, events_each: int, unit: str) -> list[Figure]:
    share = calm.per_second / _median(load.per_second for load in full) * 100
    return [
        Figure(
            f"{name}, if the core were its own",
            _median(one.per_core_second for one in full) * events_each,
            unit,
        ),
        Figure(f"{name}, p50 at {share:.0f} % of that", calm.p50_ms, "ms"),
        Figure(f"{name}, p99 at {share:.0f} % of that", calm.p99_ms, "ms", "< 50 at 70 %"),
    ]


def _pause_ms(full: list[Load], connections: int) -> int:
    """Return the pause of each connection with which they come to 70 % of full speed."""
    wanted = 0.7 * _median(load.per_second for load in full)
    return max(1, round(connections / wanted * 1_000 - _CALM_MS))


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


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
    wrk: str,
    server: _Server,
    what: tuple[Path, str],
    seconds: int,
    connections: int,
    delay_ms: int = 0,
) -> Load:
    """Drive a server; each connection pauses about so long between its requests."""
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
        [*command, server.url, "--", str(path), media_type, KEY.text, str(delay_ms)],
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
