"""The rate-limit service and the limits of plans over a real server: one core for it, one for the load, loopback.

The server is `python -m tests.bench.limits_server`; a table in memory stands for DynamoDB, with its latency.
"""

import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.bench.figure import Figure

CONNECTIONS = 16
_CHECK = json.dumps(
    {"namespace": "api", "key": "hot", "limit": {"tokens": 1_000_000, "seconds": 1, "burst": 1_000_000}}
).encode()
_SECONDS_OF_100_TIMES = 3.0
_BASIC_TIMES_100 = 1_000  # requests a second


@contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """Run the server on a free port, on the first core; give its port and process id."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    child = subprocess.Popen([sys.executable, "-m", "tests.bench.limits_server", str(port)])
    try:
        os.sched_setaffinity(child.pid, {min(os.sched_getaffinity(0))})
        _wait(port)
        yield port, child.pid
    finally:
        child.terminate()
        child.wait()


def _cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its children."""
    about = Path(f"/proc/{pid}")
    ticks = (about / "stat").read_text().rpartition(")")[2].split()[11:13]
    children = (about / "task" / str(pid) / "children").read_text().split()
    below = sum(_cpu_seconds(int(child)) for child in children)
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK") + below


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            httpx.get(f"http://127.0.0.1:{port}/healthz")
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError("the server does not answer")


def _post(path: str, tenant: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nX-Tenant: {tenant}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def _answer(reader: asyncio.StreamReader) -> int:
    head = await reader.readuntil(b"\r\n\r\n")
    lower = head.lower()
    start = lower.index(b"content-length:") + 15
    await reader.readexactly(int(lower[start : lower.index(b"\r\n", start)]))
    return int(head[9:12])


async def _loop(
    port: int, request: bytes, until: float, pause: float, found: list[tuple[int, float]]
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (began := time.perf_counter()) < until:
        writer.write(request)
        status = await _answer(reader)
        found.append((status, time.perf_counter() - began))
        if pause:
            await asyncio.sleep(max(0.0, began + pause - time.perf_counter()))
    writer.close()


async def _load(
    port: int, request: bytes, connections: int, seconds: float, rate: float = 0
) -> list[tuple[int, float]]:
    """Send from several connections, at a rate or as fast as they are answered; return status and seconds of each."""
    found: list[tuple[int, float]] = []
    until, pause = time.perf_counter() + seconds, connections / rate if rate else 0
    await asyncio.gather(*(_loop(port, request, until, pause, found) for _ in range(connections)))
    return found


def _p99_ms(found: list[tuple[int, float]]) -> float:
    return 1_000 * statistics.quantiles([seconds for _, seconds in found], n=100)[-1]


def checks(count: int, rounds: int) -> list[Figure]:
    """Checks of one hot key as fast as they are answered; and their latency at 70 % of that."""
    request, seconds = _post("/v1/ratelimit/check", "roomy", _CHECK), max(1.0, count / 10_000)
    rates, latencies, per_core = [], [], []
    with _server() as (port, pid):
        for _ in range(rounds):
            began = _cpu_seconds(pid)
            full = asyncio.run(_load(port, request, CONNECTIONS, seconds))
            per_core.append(len(full) / (_cpu_seconds(pid) - began))
            rates.append(sum(status == 200 for status, _ in full) / seconds)
            latencies.append(
                _p99_ms(asyncio.run(_load(port, request, CONNECTIONS, seconds, 0.7 * rates[-1])))
            )
    return [
        Figure(
            "checks in a second of the server's processor time", statistics.median(per_core), "/s", ">= 5,000"
        ),
        Figure("checks answered, beside whatever else runs here", statistics.median(rates), "/s"),
        Figure("p99 at 70 % of that", statistics.median(latencies), "ms", "< 20"),
    ]


async def _neighbour(port: int, noisy: bool) -> tuple[float, int, int]:
    quiet = _load(port, _post("/hello", "quiet", b"{}"), 4, _SECONDS_OF_100_TIMES, 50)
    if not noisy:
        return _p99_ms(await quiet), 0, 0
    noise = _load(port, _post("/hello", "basic", b"{}"), CONNECTIONS, _SECONDS_OF_100_TIMES, _BASIC_TIMES_100)
    found, other = await asyncio.gather(quiet, noise)
    return _p99_ms(found), len(other), sum(status == 200 for status, _ in other)


def neighbour(count: int, rounds: int) -> list[Figure]:
    """Another tenant's p99 while a basic tenant sends 100 times its plan, against its p99 without; median of the runs."""
    del count
    ratios, sent, allowed = [], 0, 0
    with _server() as (port, _):
        for _ in range(rounds):
            alone, _, _ = asyncio.run(_neighbour(port, noisy=False))
            beside, sent, allowed = asyncio.run(_neighbour(port, noisy=True))
            ratios.append(beside / alone)
    return [
        Figure("basic tenant, sent", sent / _SECONDS_OF_100_TIMES, "/s"),
        Figure("basic tenant, allowed", allowed / _SECONDS_OF_100_TIMES, "/s"),
        Figure("another tenant's p99 / without it", statistics.median(ratios), "x", "<= 2"),
    ]
