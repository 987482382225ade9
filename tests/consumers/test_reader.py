"""The reader as the process it is, against the emulator: drained, killed, started again, crashed."""

import io
import itertools
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import orjson
import pyarrow.parquet as pq
import pytest

from pipeline import wiring
from pipeline.aws.items import segment_item
from pipeline.config import Settings, load_settings
from pipeline.core.audit import Report
from pipeline.core.segment import Segment
from pipeline.laptop.emulator import free_port
from pipeline.machine.processes import wait_until
from tests.aws.backends import ministack
from tests.aws.test_items import SEGMENT
from tests.core.kit import DOOR, SCHEMAS, event, wire

pytestmark = pytest.mark.stack
SECRET = "hush-hush"
PATIENCE = 30.0  # seconds; each wait ends as soon as what it waits for is there
_NUMBERS = itertools.count(1)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One emulator for the module."""
    with ministack(tmp_path_factory.mktemp("stack") / "home") as found:
        yield found


class Deployment:
    """One stream and archive of its own, and readers of it."""

    def __init__(self, folder: Path, endpoint: str, shards: int = 2, **more: str) -> None:
        number, self.folder = next(_NUMBERS), folder
        schemas = folder / "schemas"
        (schemas / "door").mkdir(parents=True)
        (schemas / "envelope.json").write_bytes((SCHEMAS / "envelope.json").read_bytes())
        (schemas / "door" / "1.json").write_bytes(
            orjson.dumps({"$schema": "https://json-schema.org/draft/2020-12/schema", **DOOR})
        )
        self.environment = {
            "HEADRACE_HOME": str(folder / "home"),
            "HEADRACE_PATHS__SCHEMAS": str(schemas),
            "HEADRACE_AWS__ENDPOINT_URL": endpoint,
            "HEADRACE_AWS__ACCESS_KEY_ID": "headrace",
            "HEADRACE_AWS__SECRET_ACCESS_KEY": "headrace",
            "HEADRACE_STREAM__NAME": f"events-{number}",
            "HEADRACE_STREAM__SHARDS": str(shards),
            "HEADRACE_STORAGE__BUCKET": f"archive-{number}",
            "HEADRACE_STORAGE__TABLE_PREFIX": f"r{number}-",
            "HEADRACE_EVENTS__TENANTS": "acme",
            **more,
        }
        self.settings: Settings = load_settings(environ=self.environment)
        self.readers: list[subprocess.Popen[bytes]] = []

    def provision(self) -> "Deployment":
        """Make stream, bucket and tables."""
        wiring.provision(self.settings)
        self.stores = wiring.archive(self.settings)
        return self

    def produce(self, count: int, first: int = 0) -> None:
        """Send numbered events of many entities; every tenth is rubbish."""
        producer = wiring.producer(self.settings, self.stores)
        for number in range(first, first + count):
            entity = f"door-{number % 40}"
            whole = wire(event(event_id=f"e{number}", entity_id=entity, source=SECRET))
            producer.put("acme", entity, SECRET.encode() if number % 10 == 9 else whole)
            if number % 25 == 24:
                producer.flush()
        producer.close()

    def start(self, *module: str) -> subprocess.Popen[bytes]:
        """Start a reader, or what a test has in its place; its log is appended to `log`."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
        with self.log.open("ab") as log:
            reader = subprocess.Popen(
                [sys.executable, "-m", *(module or ("consumers.reader",))],
                env=kept | self.environment,
                cwd=Path(__file__).parents[2],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.readers.append(reader)
        return reader

    @property
    def log(self) -> Path:
        """Return where the readers log."""
        return self.folder / "reader.log"

    def lines(self) -> list[dict[str, Any]]:
        """Return the log's lines: every one is a JSON object."""
        return [orjson.loads(line) for line in self.log.read_bytes().splitlines()]

    def heartbeat(self) -> dict[str, Any]:
        """Return the heartbeat file, or nothing before the first."""
        with suppress(FileNotFoundError):
            found: dict[str, Any] = orjson.loads((self.folder / "home" / "run" / "loader.json").read_bytes())
            return found
        return {}

    def segments(self) -> list[Segment]:
        """Return all segments of the ledger."""
        ledger = self.stores.ledger
        return [segment for one in ledger.lineages() for segment in ledger.segments(one.short)]

    def audit(self) -> Report:
        """Return the audit's report."""
        return wiring.audit(self.settings, lambda _objects: None)

    def rows(self) -> list[str]:
        """Return the event ids in all data files."""
        found: list[str] = []
        for info in self.stores.objects.list("events/"):
            found += pq.read_table(io.BytesIO(self.stores.objects.get(info.key)), columns=["event_id"])[
                "event_id"
            ].to_pylist()
        return sorted(found)


@pytest.fixture
def deploy(tmp_path: Path, endpoint: str) -> Iterator[Callable[..., Deployment]]:
    """Make deployments whose readers are ended after the test."""
    made: list[Deployment] = []

    def make(**more: Any) -> Deployment:
        made.append(Deployment(tmp_path, **{"endpoint": endpoint, **more}))
        return made[-1]

    yield make
    for one in made:
        for reader in one.readers:
            reader.kill()
            reader.wait()


def _accepted(count: int) -> list[str]:
    return sorted(f"e{number}" for number in range(count) if number % 10 != 9)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(deploy: Callable[..., Deployment], number: signal.Signals) -> None:
    """Asked to stop, the reader commits what it has collected and ends with 0; nothing of any event is in its log."""
    house = deploy().provision()
    house.produce(200)
    reader = house.start()
    assert wait_until(lambda: house.heartbeat().get("units") == 200, PATIENCE), house.log.read_text()
    assert house.segments() == []  # collected only: no limit was reached
    reader.send_signal(number)
    assert reader.wait(PATIENCE) == 0
    assert house.rows() == _accepted(200)
    assert house.audit().balanced
    lines = house.lines()
    assert (lines[0]["fact"], lines[-1]["fact"]) == ("WorkerStarted", "WorkerStopped")
    assert {line["reason"] for line in lines if line["fact"] == "SegmentCommitted"} == {"stop"}
    assert SECRET not in house.log.read_text()


def test_killed_and_started_again(deploy: Callable[..., Deployment]) -> None:
    """SIGKILL at any moment, several times, and a restart give the rows of one undisturbed run, each once."""
    house = deploy(HEADRACE_SEGMENT__MAX_ROWS="20").provision()
    house.produce(200)
    for enough, first in ((1, 200), (3, 300)):
        reader = house.start()
        assert wait_until(_has_segments(house, enough), PATIENCE), house.log.read_text()
        reader.kill()
        reader.wait()
        house.produce(100, first)
    reader = house.start()
    assert wait_until(lambda: _units(house, reader.pid) == 400, PATIENCE), house.log.read_text()
    reader.terminate()
    assert reader.wait(PATIENCE) == 0
    assert house.rows() == _accepted(400)
    report = house.audit()
    assert report.balanced, report.differences
    assert (report.total().received, report.total().duplicates, report.total().quarantined) == (400, 0, 40)


def _has_segments(house: Deployment, number: int) -> Callable[[], bool]:
    return lambda: len(house.segments()) >= number


def _units(house: Deployment, pid: int) -> int:
    """Return what is committed, or collected by the running reader."""
    found = house.heartbeat()
    pending = found["units"] - found["rows"] - found["quarantined"] if found.get("pid") == pid else 0
    return pending + sum(segment.counts.units for segment in house.segments())


def test_the_heartbeat(deploy: Callable[..., Deployment]) -> None:
    """The file says who works, how much is done and what it cost, and its totals are those of the ledger."""
    house = deploy(shards=1, HEADRACE_SEGMENT__MAX_IDLE_SECONDS="0.3").provision()
    house.produce(50)
    reader = house.start()
    assert wait_until(lambda: house.heartbeat().get("segments", 0) >= 1, PATIENCE), house.log.read_text()
    reader.terminate()
    assert reader.wait(PATIENCE) == 0
    found = house.heartbeat()
    counts = [segment.counts for segment in house.segments()]
    assert found["pid"] == reader.pid
    for name in ("rows", "duplicates", "quarantined", "files", "bytes", "units"):
        assert found[name] == sum(getattr(one, name) for one in counts), name
    assert (found["units"], found["rows"], found["quarantined"]) == (50, 45, 5)
    assert (found["segments"], found["behind_ms"]) == (len(counts), 0)
    assert min(found[name] for name in ("at_us", "s3_puts", "cpu_seconds", "peak_memory_bytes")) > 0
    assert not list((house.folder / "home" / "run").glob("*.part"))


def _corrupt_ids(house: Deployment) -> None:
    house.stores.objects.put_if_absent("ids/0001/000000000001.ids", SECRET.encode(), "other")


def _broken_row(house: Deployment) -> None:
    """Leave a row with a count that nobody knows: reading it raises an error that quotes its name."""
    stream, ledger = wiring.stream(house.settings), house.stores.ledger
    short = ledger.register(stream.name, stream.epoch, "shardId-000000000000", ()).short
    item = segment_item(replace(SEGMENT, lineage=short, ordinal=1))
    item["counts"]["M"][SECRET] = {"N": "1"}
    ledger._dynamodb.put_item(TableName=ledger._segments, Item=item)


@pytest.mark.parametrize(
    ("damage", "error"), [(_corrupt_ids, "Corrupt at "), (_broken_row, "Corrupt at items.py:")]
)
def test_an_unknown_error_ends_the_process(
    deploy: Callable[..., Deployment], damage: Callable[[Deployment], None], error: str
) -> None:
    """Status 70 and one line that names type and place: no stack trace, no foreign text, nothing committed wrongly."""
    house = deploy(shards=1, HEADRACE_SEGMENT__MAX_ROWS="10").provision()
    damage(house)
    house.produce(30)
    reader = house.start()
    assert reader.wait(PATIENCE) == 70
    crashed = [line for line in house.lines() if line["fact"] == "WorkerCrashed"]
    assert len(crashed) == 1
    assert crashed[0]["level"] == "ERROR"
    assert crashed[0]["error"].startswith(error)
    assert SECRET not in house.log.read_text()
    assert b"Traceback" not in house.log.read_bytes()


def test_numbers_by_log_and_page(deploy: Callable[..., Deployment]) -> None:
    """The page, the EMF lines and the ledger say the same; neither names a tenant, an entity or anything of an event."""
    port = free_port()
    house = deploy(
        HEADRACE_SEGMENT__MAX_IDLE_SECONDS="0.3",
        HEADRACE_METRICS__EMF="true",
        HEADRACE_METRICS__PROMETHEUS_PORT=str(port),
    ).provision()
    house.produce(100)
    reader = house.start()
    assert wait_until(lambda: house.heartbeat().get("units") == 100, PATIENCE), house.log.read_text()
    assert wait_until(lambda: _page(port).get("headrace_rows_total") == 90, PATIENCE), house.log.read_text()
    page = _page(port)
    reader.terminate()
    assert reader.wait(PATIENCE) == 0
    counts, heartbeat, lines = (
        [segment.counts for segment in house.segments()],
        house.heartbeat(),
        house.lines(),
    )
    expected = {
        "rows": sum(one.rows for one in counts),
        "quarantined_units": sum(one.quarantined for one in counts),
        "data_file_bytes": sum(one.bytes for one in counts),
        "segments": len(counts),
        "refused_units_not_json": 10,
        "dynamodb_write_units": heartbeat["dynamodb_write_units"],
        "s3_puts": heartbeat["s3_puts"],
    }
    assert {name: _summed(lines, name) for name in expected} == expected
    assert 'headrace_refused_units_total{code="not_json",worker="reader"}' in page
    for name in ("rows", "quarantined_units", "data_file_bytes", "segments"):
        assert page[f"headrace_{name}_total"] == expected[name], name
    assert 0 < page["headrace_s3_puts_total"] <= expected["s3_puts"]
    assert sum(name.startswith("headrace_lag_seconds{") for name in page) == 2
    for text in (house.log.read_text(), "\n".join(page)):
        assert not any(word in text for word in (SECRET, "acme", "door-"))


def _page(port: int) -> dict[str, float]:
    """Return the page's samples by name and labels, those without a label of their own by name; nothing if unserved."""
    with suppress(URLError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE) as answer:
        samples = [line.rsplit(" ", 1) for line in answer.read().decode().splitlines() if line[0] != "#"]
        return {name.replace('{worker="reader"}', ""): float(value) for name, value in samples}
    return {}


def _summed(lines: list[dict[str, Any]], name: str) -> float:
    """Add up what CloudWatch would: the metric's value in every document that defines it."""
    total = 0.0
    for line in lines:
        for directive in line.get("_aws", {}).get("CloudWatchMetrics", ()):
            total += sum(line[name] for metric in directive["Metrics"] if metric["Name"] == name)
    return total


def test_a_crash_is_counted(deploy: Callable[..., Deployment]) -> None:
    """The last line of a process that dies is a metric too, whichever thread it dies of."""
    house = deploy(shards=1, HEADRACE_METRICS__EMF="true").provision()
    _broken_row(house)
    assert house.start().wait(PATIENCE) == 70
    house.environment |= {
        "HEADRACE_AWS__ENDPOINT_URL": "http://127.0.0.1:1",
        "HEADRACE_AWS__MAX_ATTEMPTS": "1",
    }
    assert house.start().wait(PATIENCE) == 70
    crashed = [line for line in house.lines() if line["fact"] == "WorkerCrashed"]
    assert [_summed([line], "crashed_workers") for line in crashed] == [1, 1]


def test_a_taken_port(deploy: Callable[..., Deployment]) -> None:
    """A page that cannot be served is status 2 and a sentence that names the setting, before anything is read."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        house = deploy(HEADRACE_METRICS__PROMETHEUS_PORT=str(port))
        assert house.start().wait(PATIENCE) == 2
    assert house.log.read_text().startswith(f"headrace reader: metrics.prometheus_port = {port}: ")


def test_produce_tells_its_numbers(deploy: Callable[..., Deployment], tmp_path: Path) -> None:
    """With `metrics.emf` the command ends with one document of what it sent; a person's terminal has none."""
    house = deploy(HEADRACE_METRICS__EMF="true").provision()
    path = tmp_path / "lines.ndjson"
    path.write_bytes(b"\n".join([wire(event(event_id="e1")), b"{", wire(event(event_id="e2"))]))
    for emf, told in (("true", [(2, 1)]), ("false", [])):
        house.environment["HEADRACE_METRICS__EMF"] = emf
        done = subprocess.run(
            [sys.executable, "-m", "pipeline.cli.main", "produce", str(path)],
            env={"PATH": os.environ["PATH"]} | house.environment,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 1, done.stderr
        lines = [orjson.loads(line) for line in done.stderr.splitlines() if line.startswith(b"{")]
        assert [(_summed([one], "ingested_events"), _summed([one], "refused_lines")) for one in lines] == told
        assert [one["worker"] for one in lines] == ["produce"] * len(told)


def test_nothing_answers(deploy: Callable[..., Deployment]) -> None:
    """A service that cannot be reached is no fault of the settings: status 70, for a supervisor to start it again."""
    house = deploy(endpoint="http://127.0.0.1:1", HEADRACE_AWS__MAX_ATTEMPTS="1")
    assert house.start().wait(PATIENCE) == 70
    [line] = house.lines()
    assert line["error"].startswith("Transient at ")


def test_wrong_settings(deploy: Callable[..., Deployment]) -> None:
    """A stream that is not there, or a setting that is wrong, is status 2 and a sentence."""
    house = deploy()
    assert house.start().wait(PATIENCE) == 2
    assert house.log.read_text().startswith("headrace reader: stream events-")
    house.environment["HEADRACE_EVENTS__TENANTS"] = "No Tenant"
    house.log.unlink()
    assert house.start().wait(PATIENCE) == 2
    assert "No Tenant" in house.log.read_text()
