"""The page for Prometheus: what it shows, asked over HTTP, and what it says when it cannot be had."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline.core.errors import ConfigProblem
from pipeline.core.event import RefusalCode
from pipeline.core.histogram import SECONDS, Timing
from pipeline.facts import (
    FACTS,
    METRICS,
    LagMeasured,
    RequestsAnswered,
    SegmentCommitted,
    SegmentFinished,
    UnitsRefused,
    WritesMetered,
)
from pipeline.laptop.emulator import free_port
from pipeline.telemetry.page import Page
from tests.fakes.facts import example

HOST = "127.0.0.1"


class Served:
    """A page and where it answers."""

    def __init__(self) -> None:
        self.page, self.port = Page("reader"), free_port()
        self.page.serve(HOST, self.port)

    def text(self) -> str:
        with urlopen(f"http://{HOST}:{self.port}/metrics", timeout=10) as answer:
            assert answer.headers["Content-Type"].startswith("text/plain")
            text: str = answer.read().decode()
            return text

    def samples(self) -> dict[tuple[str, ...], float]:
        """Return values by name and labels, the worker apart."""
        found = {}
        for family in text_string_to_metric_families(self.text()):
            for sample in family.samples:
                if sample.name.startswith("headrace_"):
                    labels = dict(sample.labels)
                    assert labels.pop("worker") == "reader"
                    found[(sample.name, *labels.values())] = sample.value
        return found


@pytest.fixture
def served() -> Iterator[Served]:
    one = Served()
    yield one
    one.page.close()


def test_every_metric_is_there_before_the_first_fact(served: Served) -> None:
    """Name, kind and sentence of all, and the zero of every counter without a label."""
    families = {one.name: one for one in text_string_to_metric_families(served.text())}
    for metric in METRICS.values():
        family = families[metric.prometheus_name.removesuffix("_total")]
        assert (family.type, family.documentation) == (metric.kind, metric.says)
    plain = {
        metric.prometheus_name
        for metric in METRICS.values()
        if not metric.label and metric.kind != "histogram"
    }
    assert served.samples() == {(name,): 0.0 for name in plain}


def test_counters_add_up_and_gauges_hold(served: Served) -> None:
    """Facts that share a metric are added to one series; a gauge is what was told last."""
    for fact in (
        example(SegmentCommitted, rows=40, duplicates=2, bytes=1_000),
        example(SegmentFinished, rows=2, duplicates=1, bytes=24),
        WritesMetered(dynamodb_write_units=1.5, s3_puts=3),
        WritesMetered(dynamodb_write_units=2.0, s3_puts=0),
        UnitsRefused(lineage="0001", ordinal=1, codes={str(code): 1 for code in RefusalCode}),
        UnitsRefused(lineage="0001", ordinal=2, codes={"not_json": 4}),
        LagMeasured(shard_id="shardId-0", behind_seconds=9.0),
        LagMeasured(shard_id="shardId-1", behind_seconds=1.0),
        LagMeasured(shard_id="shardId-0", behind_seconds=2.5),
    ):
        served.page.take(fact)
    found = served.samples()
    assert found["headrace_rows_total",] == 42
    assert found["headrace_duplicates_total",] == 3
    assert found["headrace_segments_total",] == 2
    assert found["headrace_finished_segments_total",] == 1
    assert found["headrace_data_file_bytes_total",] == 1_024
    assert found["headrace_dynamodb_write_units_total",] == 3.5
    assert found["headrace_refused_units_total", "not_json"] == 5
    assert found["headrace_refused_units_total", "too_deep"] == 1
    assert (found["headrace_lag_seconds", "shardId-0"], found["headrace_lag_seconds", "shardId-1"]) == (
        2.5,
        1.0,
    )


def test_all_facts_make_few_series(served: Served) -> None:
    """A thousand segments, errors and jobs add values, never series."""
    for number in range(1_000):
        for kind in FACTS:
            given = {
                name: f"{name}-{number}"
                for name in ("lineage", "job", "error", "reason", "endpoint", "rules")
                if name in kind.__struct_fields__
            }
            served.page.take(example(kind, **given))
    plain = [name for name in served.samples() if not name[0].endswith(("_bucket", "_count", "_sum"))]
    histograms = [metric for metric in METRICS.values() if metric.kind == "histogram"]
    by_key = [
        one
        for kind in FACTS
        for one in kind.metrics
        if one.field and isinstance(getattr(example(kind), one.field), dict)
    ]
    assert len(plain) == len(METRICS) - len(histograms) + len(by_key)  # such an example has two keys
    assert len(served.samples()) == len(plain) + len(histograms) * (len(SECONDS) + 3)


def test_a_histogram_is_read_by_prometheus(served: Served) -> None:
    """Buckets are cumulative, and facts of one route and class add up; another class is a series of its own."""
    for status, seconds in (("2xx", 0.004), ("2xx", 0.3), ("5xx", 99.0)):
        timing = Timing()
        timing.add(seconds)
        served.page.take(RequestsAnswered("GET /healthz", status, 1, 0, timing.take()))
    found, route = served.samples(), "GET /healthz"
    assert found["headrace_request_seconds_bucket", "0.0025", route, "2xx"] == 0
    assert found["headrace_request_seconds_bucket", "0.005", route, "2xx"] == 1
    assert found["headrace_request_seconds_bucket", "0.5", route, "2xx"] == 2
    assert found["headrace_request_seconds_bucket", "+Inf", route, "2xx"] == 2
    assert found["headrace_request_seconds_count", route, "5xx"] == 1
    assert found["headrace_request_seconds_bucket", "60.0", route, "5xx"] == 0
    assert found["headrace_request_seconds_sum", route, "2xx"] == pytest.approx(0.304)


def test_a_taken_port_is_a_problem_of_the_settings() -> None:
    """The message names setting, variable and port, and what to do."""
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigProblem) as caught:
            Page("reader").serve(HOST, port)
    for part in (
        f"metrics.prometheus_port = {port}",
        f"{HOST}:{port}",
        "HEADRACE_METRICS__PROMETHEUS_PORT",
        "0 for no",
    ):
        assert part in str(caught.value)


@pytest.mark.parametrize("host", ["192.0.2.1", "no.such.host.invalid", "a..b"])
def test_a_host_that_is_not_ours(host: str) -> None:
    """An address of another machine, or a name of none, is worded in the same way."""
    with pytest.raises(ConfigProblem, match=r"metrics\.prometheus_host"):
        Page("reader").serve(host, free_port())


def test_a_closed_page_frees_its_port() -> None:
    """The next worker can have it at once."""
    served = Served()
    served.text()
    served.page.close()
    again = Page("reader")
    again.serve(HOST, served.port)
    again.close()


def test_a_worker_without_a_page_does_not_import_it() -> None:
    """Telemetry alone brings neither the library nor a server."""
    code = (
        "import sys; from consumers.telemetry import Telemetry; from pipeline.config import load_settings\n"
        "with Telemetry(load_settings(environ={}), 'reader'): pass\n"
        "assert not {'prometheus_client', 'wsgiref'} & set(sys.modules), sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
