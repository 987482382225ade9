"""One trace from a request to a data file and to a replayed chunk, through real processes and a collector that parses OTLP."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from pipeline.cli.settings import settings_with_stack
from pipeline.config import as_environment
from pipeline.laptop.api import api_url
from pipeline.laptop.home import Home
from pipeline.laptop.stack import read_stack
from pipeline.machine.processes import wait_until
from tests.fakes.collector import Collector, GotSpan, collecting
from tests.told import keep
from tests.web.serving import event

pytestmark = [pytest.mark.stack, pytest.mark.slow]
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED = {"traceparent": f"00-{TRACE}-{SPAN}-01"}


def _headrace(*words: str, env: dict[str, str]) -> str:
    command = [sys.executable, "-m", "pipeline.cli.main", *words]
    return subprocess.run(command, check=True, env=env, timeout=180, stdout=subprocess.PIPE, text=True).stdout


@contextmanager
def _stack(folder: Path, collector: Collector) -> Iterator[dict[str, str]]:
    env = {name: value for name, value in os.environ.items() if not name.startswith(("HEADRACE_", "AWS_"))}
    env |= {
        "HEADRACE_TRACING__OTLP_ENDPOINT": collector.url,
        "HEADRACE_TRACING__SAMPLE": "0",
        "HEADRACE_WEB__PORT": "0",
    }
    _headrace("up", "--detach", "--home", str(folder), env=env)
    try:
        yield env
    finally:
        keep(folder)
        _headrace("down", "--wipe", "--home", str(folder), env=env)


def _named(collector: Collector, name: str, count: int) -> list[GotSpan]:
    """Wait for spans of a name."""
    assert wait_until(lambda: sum(one.name == name for one in collector.spans) >= count, 60), collector.spans
    return [one for one in collector.spans if one.name == name]


def test_one_trace_from_the_request_to_the_archive_and_the_replay(tmp_path: Path) -> None:
    """Request, loader's write and processor's chunk are spans of the caller's trace, each the child of its cause."""
    with collecting() as collector, _stack(tmp_path, collector) as env:
        stack = read_stack(Home(tmp_path))
        assert stack is not None
        assert wait_until(lambda: api_url(Home(tmp_path), stack.api) is not None, 30)
        url = str(api_url(Home(tmp_path), stack.api))
        words = ("keys", "create", "noaa", "--scope", "ingest,read,replay", "--json", "--home", str(tmp_path))
        key = json.loads(_headrace(*words, env=env))["key"]
        with httpx.Client(base_url=url, headers={"X-API-Key": key}, timeout=30) as client:
            assert client.post("/v1/events", json=event(event_id="plain")).status_code == 202
            answer = client.post("/v1/events", json=event(event_id="traced"), headers=SAMPLED)
            assert (answer.status_code, answer.headers["x-trace-id"]) == (202, TRACE)
            [written] = _named(collector, "archive event", 1)
            [asked] = _named(collector, "POST /v1/events", 1)
            made = client.post("/v1/replays", json={"entity": "IAH"}, headers=SAMPLED)
            assert made.status_code == 202, made.text
            environment = env | as_environment(settings_with_stack(tmp_path))
            environment["HEADRACE_TRACING__OTLP_ENDPOINT"] = collector.url
            path = f"/v1/replays/{made.json()['job']}"
            assert wait_until(lambda: client.get(path).json()["state"] in {"sent", "done"}, 30)
            command = [sys.executable, "-m", "consumers.sqs", "--drain"]
            subprocess.run(command, check=True, env=environment, timeout=120)
            [replay] = _named(collector, "POST /v1/replays", 1)
            [chunk] = _named(collector, "replay chunk", 1)
    assert {one.trace_id for one in (asked, written, replay, chunk)} == {TRACE}
    assert (asked.parent_id, replay.parent_id) == (SPAN, SPAN)
    assert (written.parent_id, chunk.parent_id) == (asked.span_id, replay.span_id)
    assert (asked.scope, written.scope, chunk.scope) == ("headrace.api", "headrace.reader", "headrace.sqs")
    assert asked.attributes["endpoint"] == "POST /v1/events"
    assert asked.attributes["request_id"] == answer.headers["x-request-id"]
    assert (written.attributes["tenant_id"], written.attributes["event_id"]) == ("noaa", "traced")
    assert str(written.attributes["data_file"]).endswith(".parquet")
    assert chunk.attributes["job"] == made.json()["job"]
    assert asked.start_ns <= asked.end_ns <= written.end_ns <= chunk.end_ns
