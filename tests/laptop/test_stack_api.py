"""The HTTP API under a stack: its life beside the loader, and real processes that share a port."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import annotated_types
import httpx
import pytest

from pipeline.aws.kinesis import KinesisStream
from pipeline.cli.settings import settings_with_stack
from pipeline.cli.up import launch_for
from pipeline.config.front_door import Web
from pipeline.core.ending import longest_end_seconds
from pipeline.core.errors import ConfigProblem, HeadraceError, Transient
from pipeline.core.kpl import split
from pipeline.laptop.api import api_url
from pipeline.laptop.emulator import free_port
from pipeline.laptop.home import Home
from pipeline.laptop.launch import local_stack
from pipeline.laptop.stack import Stack, find_stack, read_stack
from pipeline.machine.processes import alive, send, wait_until
from pipeline.producer import connect_http
from pipeline.sending.fates import BatchFate
from pipeline.wiring import stream
from tests.laptop.stack_kit import LOADER, launch_in
from tests.told import drain, keep
from tests.web.serving import event

pytestmark = pytest.mark.stack
API = LOADER.replace(
    '"loader.json").write_text(\'{"pid": %d}\' % os.getpid())', '"api.url").write_text("http://here")'
)


def test_a_dead_api_is_started_again(folder: Path) -> None:
    """It comes back under a new pid, the record names it, and says where it answers."""
    launch = replace(launch_in(folder), with_api=True, api_command=[sys.executable, "-c", API])
    with local_stack(launch) as running:
        first = running.stack.api
        assert first is not None
        assert running.api_url == "http://here"
        send(first, signal.SIGKILL)
        assert wait_until(lambda: not alive(first), 5)
        found = find_stack(Home(folder))
        assert (found.status, f"process {os.getpid()} starts it again" in found.reason) == (
            "half-started",
            True,
        )

        def restarted() -> bool:
            running.check()
            return alive(running.stack.api)

        assert wait_until(restarted, 10)
        recorded = read_stack(Home(folder))
        assert recorded is not None
        assert recorded.api == running.stack.api != first
    assert api_url(Home(folder), recorded.api) is None


def test_an_api_that_cannot_run_ends_the_start(folder: Path) -> None:
    """It names the log, and leaves nothing running."""
    launch = replace(
        launch_in(folder), with_api=True, api_command=[sys.executable, "-c", "raise SystemExit(3)"]
    )
    with pytest.raises(HeadraceError, match=r"API ended right after its start.*api\.log"):  # noqa: SIM117
        with local_stack(launch):
            pass
    assert find_stack(Home(folder)).status == "absent"


def test_what_an_api_refuses_to_start_with_is_said_by_the_start(folder: Path) -> None:
    """A setting that only the API judges is named where the user looks, as what they can mend."""
    said = "import sys; sys.exit(sys.stderr.write('headrace api: web.metrics_token: too short\\n') and 2)"
    launch = replace(launch_in(folder), with_api=True, api_command=[sys.executable, "-c", said])
    with pytest.raises(ConfigProblem, match=r"its start: web\.metrics_token: too short \(log: .*api\.log\)$"):  # noqa: SIM117
        with local_stack(launch):
            pass
    assert find_stack(Home(folder)).status == "absent"


def test_an_api_has_as_long_to_end_as_its_settings_allow(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record carries what follows from its deadline; whoever stops it waits so long, and no longer."""
    monkeypatch.setenv("HEADRACE_WEB__DEADLINE_SECONDS", "100")
    assert launch_for(folder).api_end_seconds == longest_end_seconds(100.0)
    deaf = API.replace("sys.exit(0)", "pass")
    said: list[str] = []
    launch = replace(
        launch_in(folder),
        with_api=True,
        api_command=[sys.executable, "-c", deaf],
        api_end_seconds=0.75,
        say=said.append,
    )
    with local_stack(launch):
        recorded = read_stack(Home(folder))
        assert recorded is not None
        assert recorded.api_end_seconds == 0.75
    assert [line for line in said if "the API did not end within 0.75 s and was killed" in line]
    longest = next(
        one.le for one in Web.model_fields["deadline_seconds"].metadata if isinstance(one, annotated_types.Le)
    )
    unsaid = Stack(endpoint_url="", port=0, phase="running", started_at=0, owner=None)
    assert unsaid.api_end_seconds == longest_end_seconds(float(str(longest)))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A stack without loader and API."""
    folder = tmp_path_factory.mktemp("home")
    headrace = [sys.executable, "-m", "pipeline.cli.main"]
    up = [*headrace, "up", "--detach", "--no-loader", "--no-api", "--no-processor", "--home", str(folder)]
    subprocess.run(up, check=True, env=_environment(), timeout=120)
    yield folder
    keep(folder)
    down = [*headrace, "down", "--wipe", "--home", str(folder)]
    subprocess.run(down, check=True, env=_environment(), timeout=120)


def _sent(found: KinesisStream) -> set[str]:
    ids: set[str] = set()
    for shard in found.shards():
        reader, more = found.reader(shard.shard_id, None), True
        while more:
            batch = reader.read()
            texts = [part for record in batch.records for part in split(record.data)]
            ids |= {httpx.Response(200, content=text).json()["event_id"] for text in texts}
            more = bool(batch.records) or batch.behind_ms > 0
    return ids


def _send(url: str, key: str, name: str, told: list[str], ended: threading.Event) -> None:
    """Put events until the server is gone; tell the ids of those that are acknowledged."""
    ids: list[str] = []

    def noted(fate: BatchFate) -> None:
        if fate.kind == "acknowledged":
            told.extend(ids[ticket] for ticket in fate.tickets)

    options: dict[str, Any] = {
        "lanes": 2,
        "max_batch_events": 3,
        "linger_seconds": 0.0,
        "retry_seconds": 1.0,
        "close_seconds": 0.1,
    }
    producer = connect_http(url, api_key=key, on_batch=noted, max_buffer_bytes=4_000, **options)
    while not ended.is_set():
        ids.append(f"{name}-{len(ids)}")
        try:
            producer.put_json(event(event_id=ids[-1], entity_id=name), timeout=0.2)
        except Transient:
            ids.pop()
    producer.close(0.5)


def _key(home: Path) -> str:
    words = ["keys", "create", "noaa", "--scope", "ingest", "--json", "--home", str(home)]
    command = [sys.executable, "-m", "pipeline.cli.main", *words]
    made = subprocess.run(command, check=True, env=_environment(), timeout=120, stdout=subprocess.PIPE)
    return str(httpx.Response(200, content=made.stdout).json()["key"])


@pytest.mark.parametrize("workers", [1, 2])
def test_sigterm_under_load_loses_no_acknowledged_event(home: Path, workers: int) -> None:
    """`headrace serve` ends with status 0, and the stream has every event that was answered 202."""
    words = ["serve", "--port", "0", "--workers", str(workers), "--home", str(home)]
    told: list[str] = []
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.main", *words],
        env=_environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as api:
        assert api.stderr is not None
        line = next(line for line in api.stderr if '"ApiStarted"' in line)
        url = httpx.Response(200, text=line).json()["url"]
        drain(api.stderr, "api")
        assert wait_until(lambda: _is_up(url), 20)
        key, ended = _key(home), threading.Event()
        threads = [
            threading.Thread(target=_send, args=(url, key, f"{workers}-{number}", told, ended))
            for number in range(6)
        ]
        for thread in threads:
            thread.start()
        assert wait_until(lambda: len(told) >= 100, 30)
        api.send_signal(signal.SIGTERM)
        assert api.wait(30) == 0
        ended.set()
        for thread in threads:
            thread.join()
    assert set(told) <= _sent(stream(settings_with_stack(home)))


def _is_up(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


def _free_ports(count: int) -> int:
    """Return the first of several free ports in a row."""
    while True:
        first = free_port()
        if first + count > 65_535:
            continue
        with ExitStack() as held:
            try:
                for port in range(first, first + count):
                    held.enter_context(socket.create_server(("127.0.0.1", port)))
            except OSError:
                continue
            return first


def test_each_process_of_the_api_has_a_page(home: Path) -> None:
    """The parent at the port that is set, its processes at the next ones; each shows its own requests."""
    port = _free_ports(3)
    words = ["serve", "--port", "0", "--workers", "2", "--home", str(home)]
    env = _environment() | {"HEADRACE_METRICS__PROMETHEUS_PORT": str(port)}
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline.cli.main", *words], env=env, stderr=subprocess.PIPE, text=True
    ) as api:
        assert api.stderr is not None
        line = next(line for line in api.stderr if '"ApiStarted"' in line and '"rules":""' in line)
        url = httpx.Response(200, text=line).json()["url"]
        drain(api.stderr, "api")
        for _ in range(20):
            assert httpx.get(f"{url}/healthz").status_code == httpx.codes.OK

        def counted() -> int:
            pages = [httpx.get(f"http://127.0.0.1:{port + number}/metrics").text for number in range(3)]
            wanted = 'headrace_requests_total{route="GET /healthz",status="2xx",worker="api"}'
            found = [
                line.split()[-1] for page in pages for line in page.splitlines() if line.startswith(wanted)
            ]
            return int(sum(map(float, found)))

        assert wait_until(lambda: counted() >= 20, 10)
        assert httpx.get(f"{url}/metrics").status_code == httpx.codes.NOT_FOUND
        api.send_signal(signal.SIGTERM)
        assert api.wait(30) == 0
