"""The HTTP API under a load tool: requests and events a second of one core, against a handler that only says 202.

`wrk` drives it where that is installed. Each server has one core and the tool another; single events are compared with
the bare handlers on the same server, in turns, by the processor time of a request: other work on the machine hardly
changes that. Speed by the clock and latency are of rounds in which a virtual machine got its core: a round in which others
had too much of it is driven again, and the most that is left is among the figures. The stream behind it takes everything at
once.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.bench.data import KEY, events
from tests.bench.figure import Figure

_BATCH = 500
_MANY = f"NDJSON batches of {_BATCH}"
_STOLEN = 0.03  # of the server's core, by other machines on the same host: more of it, and a round says nothing of ours
_TRIES = 6
_CALM_MS = 12  # about what an answer takes at 70 %: part of a connection's round
_SINGLES, _BATCHES = 2_000, 100  # different bodies, sent in turn
_SCRIPT = Path(__file__).with_name("http_load.lua")
_TENANT = ("tenant-00",)
# How the server's threads take turns, and with it the ratio, depends on the number of connections.
_CONNECTIONS = (32, 64, 128, 256, 512)


class Load(NamedTuple):
    """What the tool saw."""

    requests: int
    seconds: float
    bad: int
    p50_ms: float
    p99_ms: float
    server_seconds: float  # processor time of the server meanwhile; 0 where the system does not tell
    stolen: float = 0.0  # share of the time in which the host gave the server's core to others, as far as the system tells

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
    with tempfile.TemporaryDirectory() as folder, _server("bare") as bare, _server("api") as api:
        one, many = _bodies(Path(folder))
        pull = _Pull(wrk, max(2, count // 2_000), rounds)
        return [
            *_against_bare(pull, bare, api, one),
            *_against_others(pull, bare, api, one),
            *_at_speed(pull, api, "single events", one, (128, 512), 1),
            *_at_speed(pull, api, _MANY, many, (16, 16), _BATCH),
            Figure("answers that were no 202", pull.bad, "", "0"),
        ]


class _Pull:
    """Drives servers, for so long and in so many rounds."""

    def __init__(self, wrk: str, seconds: int, rounds: int) -> None:
        self._wrk, self._seconds, self._rounds, self.bad = wrk, seconds, rounds, 0

    def drive(self, server: _Server, what: tuple[Path, str], connections: int, pause_ms: int = 0) -> Load:
        """Drive one server once."""
        load = _drive(self._wrk, server, what, self._seconds, connections, pause_ms)
        self.bad += load.bad
        return load

    def in_turns(
        self, servers: Sequence[_Server], what: tuple[Path, str], connections: int
    ) -> list[tuple[Load, ...]]:
        """Drive servers one after the other, in each round."""
        return [
            tuple(self.drive(server, what, connections) for server in servers) for _ in range(self._rounds)
        ]

    def full_and_calm(
        self, server: _Server, what: tuple[Path, str], connections: tuple[int, int]
    ) -> tuple[list[Load], list[Load]]:
        """Drive one server at full speed, and at once again at about 70 % of just that speed, in each round."""

        def both() -> tuple[Load, Load]:
            full = self.drive(server, what, connections[0])
            return full, self.drive(server, what, connections[1], _pause_ms(full, connections[1]))

        full, calm = zip(*[_undisturbed(both) for _ in range(self._rounds)], strict=True)
        return list(full), list(calm)


def _undisturbed(once: Callable[[], tuple[Load, ...]]) -> tuple[Load, ...]:
    """Return the first round in which hardly anything was stolen; after some tries the one with the least."""
    rounds: list[tuple[Load, ...]] = []
    while len(rounds) < _TRIES:
        rounds.append(once())
        if _most_stolen(rounds[-1]) <= _STOLEN:
            break
    return min(rounds, key=_most_stolen)


def _most_stolen(loads: Iterable[Load]) -> float:
    return max(load.stolen for load in loads)


def _against_bare(pull: _Pull, bare: _Server, api: _Server, one: tuple[Path, str]) -> list[Figure]:
    """Return how a single event compares with the bare handler, by processor time and by the clock."""
    found = []
    for connections in _CONNECTIONS:
        pairs = pull.in_turns((bare, api), one, connections)
        name = f"single events / bare handler, {connections} connections"
        found += [
            Figure(
                name,
                _median(ours.per_core_second / other.per_core_second for other, ours in pairs),
                "x",
                ">= 0.4",
            ),
            Figure(
                f"{name}, by the clock",
                _median(ours.per_second / other.per_second for other, ours in pairs),
                "x",
            ),
        ]
    return found


def _against_others(pull: _Pull, bare: _Server, api: _Server, one: tuple[Path, str]) -> list[Figure]:
    """Return what stands behind that: other bare handlers, and the API when it watches no request."""
    with _server("falcon") as falcon, _server("batch") as batch, _server("unwatched") as blind:
        rounds = pull.in_turns((bare, falcon, batch, blind, api), one, 128)
    names = (
        "bare handler",
        "bare handler in falcon",
        "bare handler scheduled like the API",
        "without log, metrics, traces",
    )
    rates = [_median(loads[place].per_core_second for loads in rounds) for place in range(len(names))]
    ratios = [
        _median(loads[-1].per_core_second / loads[place].per_core_second for loads in rounds)
        for place in range(len(names))
    ]
    return [
        *[Figure(name, rate, "requests/core s") for name, rate in zip(names, rates, strict=True)],
        Figure("single events / bare handler in falcon", ratios[1], "x"),
        Figure("single events / bare handler scheduled like the API", ratios[2], "x"),
        Figure("single events with log, metrics, traces / without", ratios[3], "x", ">= 0.9"),
    ]


def _at_speed(
    pull: _Pull,
    api: _Server,
    name: str,
    what: tuple[Path, str],
    connections: tuple[int, int],
    events_each: int,
) -> list[Figure]:
    """Return how many events a core takes, and the latency at about 70 % of that.

    Args:
        pull: drives.
        api: the server.
        name: of the figures.
        what: is sent.
        connections: at full speed, and at 70 %.
        events_each: events of a body.
    """
    full, calm = pull.full_and_calm(api, what, connections)
    rate = _median(load.per_second for load in full)
    share = _median(one.per_second / load.per_second for load, one in zip(full, calm, strict=True)) * 100
    hold = ">= 100,000" if events_each > 1 else ""
    return [
        Figure(name, rate * events_each, "events/s", hold),
        Figure(f"{name}, the best round", max(load.per_second for load in full) * events_each, "events/s"),
        Figure(
            f"{name}, if the core were its own",
            _median(load.per_core_second for load in full) * events_each,
            "events/s",
        ),
        Figure(f"{name}, p50 at {share:.0f} % of that", _median(load.p50_ms for load in calm), "ms"),
        Figure(
            f"{name}, p99 at {share:.0f} % of that",
            _median(load.p99_ms for load in calm),
            "ms",
            "< 50 at 70 %",
        ),
        Figure(f"{name}, p99 of the best round", min(load.p99_ms for load in calm), "ms"),
        Figure(f"{name}, stolen by other machines at most", _most_stolen([*full, *calm]) * 100, "%"),
    ]


def http_memory(count: int, rounds: int) -> list[Figure]:
    """Memory of the HTTP API under full load: `count` seconds of single events, then as many of batches."""
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


def _pause_ms(full: Load, connections: int) -> int:
    """Return the pause of each connection with which they come to 70 % of full speed."""
    return max(1, round(connections / (0.7 * full.per_second) * 1_000 - _CALM_MS))


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
    before, stolen = server.cpu_seconds(), _stolen_seconds()
    found = subprocess.run(
        [*command, server.url, "--", str(path), media_type, KEY.text, str(delay_ms)],
        capture_output=True,
        text=True,
        check=True,
    )
    line = next(line for line in found.stdout.splitlines() if line.startswith("RESULT"))
    requests, micros, bad, p50, p99 = map(int, line.split()[1:])
    spent, stolen = server.cpu_seconds() - before, _stolen_seconds() - stolen
    return Load(requests, micros / 1e6, bad, p50 / 1_000, p99 / 1_000, spent, stolen / (micros / 1e6))


def _stolen_seconds() -> float:
    """Return how long the host has kept the first core from this machine so far; 0 where the system does not tell."""
    try:
        lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0.0
    fields = next((line.split() for line in lines if line.startswith("cpu0 ")), [])
    return int(fields[8]) / os.sysconf("SC_CLK_TCK") if len(fields) > 8 else 0.0


def _on_core(core: int) -> list[str]:
    """Return what binds a command to one core, where there are two and a way to do it."""
    pinned = shutil.which("taskset") is not None and (os.cpu_count() or 1) > 1
    return ["taskset", "-c", str(core)] if pinned else []
