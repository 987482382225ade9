"""The real MultiLangDaemon over the emulator: loads, stops, resumes, is killed, and shares its shards."""

import signal
from collections.abc import Callable, Iterator
from hashlib import md5
from pathlib import Path
from typing import Any

import pytest
from aws_kinesis_agg.aggregator import RecordAggregator

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.meter import Meter
from pipeline.core.kpl import MAGIC, Aggregate
from pipeline.machine.processes import wait_until
from tests.aws.backends import ministack
from tests.consumers.kcl_kit import QUICK, Worker, Writer, needs_daemon
from tests.consumers.test_reader import SECRET, Deployment
from tests.core.kit import event, wire

pytestmark = [pytest.mark.stack, pytest.mark.slow, needs_daemon]


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """One emulator for the module."""
    with ministack(tmp_path_factory.mktemp("stack") / "home") as found:
        yield found


@pytest.fixture
def deploy(tmp_path: Path, endpoint: str) -> Iterator[Callable[..., Deployment]]:
    """Make deployments whose workers are ended after the test."""
    made: list[Deployment] = []

    def make(**more: Any) -> Deployment:
        made.append(Deployment(tmp_path, endpoint, **{**QUICK, **more}).provision())
        return made[-1]

    yield make
    for one in made:
        for worker in one.readers:
            worker.kill()  # the kernel tells its daemon
            worker.wait()


def _units(house: Deployment) -> int:
    return sum(segment.counts.units for segment in house.segments())


def _accepted(count: int) -> list[str]:
    return sorted(f"e{number}" for number in range(count) if number % 10 != 9)


def _exact(house: Deployment, count: int, *more: str) -> None:
    """Every event once, every piece of rubbish in quarantine, and the audit agrees."""
    assert house.rows() == sorted([*_accepted(count), *more])
    report = house.audit()
    assert report.balanced, report.differences
    assert (report.total().duplicates, report.total().archived) == (0, len(house.rows()))


def test_one_worker(deploy: Callable[..., Deployment]) -> None:
    """Load, stop, resume, kill -9 of a child and of the daemon, while a producer writes: every event once.

    What KCL does with aggregates on the way: ours arrive whole; a foreign one that mixes shards is dropped without a
    word, and broken ones are quarantined for what they are, the one that KCL takes apart in part as well.
    """
    house = deploy(HEADRACE_SEGMENT__MAX_ROWS="100", HEADRACE_SEGMENT__MAX_IDLE_SECONDS="2")
    put = make_client("kinesis", wiring.connection(house.settings), Meter()).put_record
    where = {"StreamName": house.settings.stream.name, "ExplicitHashKey": "0"}
    put(Data=_foreign("0", str(2**127)), PartitionKey="mixed", **where)
    put(Data=_foreign("1", "2"), PartitionKey="foreign", **where)
    put(Data=MAGIC + b"rubbish" * 10, PartitionKey="broken", **where)
    put(Data=_outside("7", "8"), PartitionKey="outside", **where)
    put(Data=wire(event(event_id="plain")), PartitionKey="ключ", **where)  # Java must not make ???? of it
    house.produce(1_000)
    worker = Worker(house, "first")
    worker.wait(lambda: len(worker.holds()) == 2 and _units(house) >= 100)
    assert worker.stop(signal.SIGTERM) == 0
    assert worker.facts()[-1]["fact"] == "WorkerStopped"
    assert {one["reason"] for one in worker.facts("ShardReleased")} == {"stop"}
    worker = Worker(house, "second")
    writer = Writer(house, 1_000)
    worker.wait(lambda: len(worker.holds()) == 2 and _units(house) >= 1_005)
    for what, deaths in (("shards", 1), ("daemon", 2)):
        worker.kill(what)
        worker.wait(lambda deaths=deaths: len(worker.facts("DaemonEnded")) == deaths)  # type: ignore[misc]
        worker.wait(lambda: len(worker.holds()) == 2)
    count = writer.stop()
    worker.wait(lambda: _units(house) == count + 5)
    assert worker.stop(signal.SIGINT) == 0
    _exact(house, count, "1", "2", "plain")
    assert SECRET not in worker.log.read_text()
    assert "acme" not in worker.log.read_text()


def _outside(*names: str) -> bytes:
    """Return an aggregate of good events and one whose key lies outside the table."""
    aggregate = Aggregate()
    for name in names:
        aggregate.add(wire(event(event_id=name)))
    body = aggregate.encode("key", "0")[len(MAGIC) : -16] + b"\x1a\x07\x08\x05\x10\x00\x1a\x01x"
    return MAGIC + body + md5(body, usedforsecurity=False).digest()


def _foreign(*hash_keys: str) -> bytes:
    """Return an aggregate as the KPL makes them, one event for each hash key, named after it."""
    aggregator = RecordAggregator()
    for key in hash_keys:
        aggregator.add_user_record("key", wire(event(event_id=key)), key)
    _partition_key, _hash_key, data = aggregator.clear_and_get().get_contents()
    return bytes(data)


def test_two_workers(deploy: Callable[..., Deployment]) -> None:
    """A second worker gets shards of the first while a producer writes, and all of them when the first stops.

    Killed itself, it takes its daemon and every child along, and the plain reader goes on where they were.
    """
    house = deploy(shards=4, HEADRACE_SEGMENT__MAX_ROWS="100", HEADRACE_SEGMENT__MAX_IDLE_SECONDS="2")
    writer = Writer(house, 0)
    first = Worker(house, "first")
    first.wait(lambda: len(first.holds()) == 4 and _units(house) > 0)
    second = Worker(house, "second")
    second.wait(lambda: len(second.holds()) >= 1)
    assert first.facts("ShardReleased")  # moved, not merely new
    assert first.stop() == 0
    second.wait(lambda: len(second.holds()) == 4)
    pids = [pid for found in second.children().values() for pid in found]
    assert len(pids) == 5
    second.process.kill()
    second.process.wait()
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 30)
    count = writer.stop()
    reader = Worker(house, "reader", "--home", str(house.folder / "home"))
    reader.wait(lambda: _units(house) == count)
    assert reader.stop() == 0
    _exact(house, count)
