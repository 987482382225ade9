"""Real workers killed at named points: right before an effect is asked for, and right after it, before they are told."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.machine.processes import wait_until
from tests.aws.backends import ministack
from tests.e2e.yard import (
    PATIENCE,
    Worker,
    Yard,
    assert_nothing_lost_or_doubled,
    assert_results_of,
)
from tests.faults.proxy import FaultProxy, Moment, fault_proxy, untapped
from tests.faults.wire import Request

pytestmark = [pytest.mark.stack, pytest.mark.slow]
MOMENTS: tuple[Moment, ...] = ("before", "after")


def _put(prefix: str) -> Callable[[Request], bool]:
    return lambda asked: asked.operation == "s3.PutObject" and f"/{prefix}/" in asked.path


def _item(operation: str, table: str) -> Callable[[Request], bool]:
    """Match an operation that names a table."""
    return lambda asked: asked.operation == f"dynamodb.{operation}" and f'{table}"' in asked.body.decode()


def _call(operation: str) -> Callable[[Request], bool]:
    return lambda asked: asked.operation == operation


# The steps of the segment protocol, by what each asks for; the numbers are those of flows/load.py.
LOADER: dict[str, Callable[[Request], bool]] = {
    "0 register": _item("TransactWriteItems", "lineages"),
    "0 rules": _put("rules"),
    "1 open": _item("Query", "segments"),
    "2 read": _call("kinesis.GetRecords"),
    "4 stage": _put("staging"),
    "5 plan": _item("TransactWriteItems", "segments"),
    "6 data file": _put("events"),
    "6 quarantine": _put("quarantine"),
    "6 ids": _put("ids"),
    "6 manifest": _item("BatchWriteItem", "data_files"),
    "6 index": _item("BatchWriteItem", "entity_index"),
    "6 aggregates": _item("PutItem", "aggregates"),
    "7 commit": _item("UpdateItem", "segments"),
}
PROCESSOR: dict[str, Callable[[Request], bool]] = {
    "receive": _call("sqs.ReceiveMessage"),
    "begin chunk": lambda asked: _item("UpdateItem", "replay_jobs")(asked) and b"attempts" in asked.body,
    "results": _item("PutItem", "entity_days"),
    "finish chunk": _item("TransactWriteItems", "replay_jobs"),
    "delete": _call("sqs.DeleteMessageBatch"),
    "settle": lambda asked: _item("UpdateItem", "replay_jobs")(asked) and b"#state" in asked.body,
}


def _once(first: Callable[[Request], bool], then: Callable[[Request], bool]) -> Callable[[Request], bool]:
    """Match `then`, once `first` has been seen."""
    seen: list[Request] = []

    def match(asked: Request) -> bool:
        if first(asked):
            seen.append(asked)
        return bool(seen) and then(asked)

    return match


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxy]:
    """An emulator behind a proxy."""
    with ministack(tmp_path_factory.mktemp("stack") / "home") as endpoint, fault_proxy(endpoint) as found:
        yield found


def _dies_at(worker: Worker, proxy: FaultProxy, point: Callable[[Request], bool], moment: Moment) -> None:
    """Start a worker and kill it at the first request that matches; nobody is told what became of it."""
    reached: list[Request] = []

    def tap(request: Request, now: Moment) -> bool:
        matches = point(request)  # looks at all of them
        if now == moment and not reached and matches:
            reached.append(request)
            worker.kill()
        return bool(reached)  # of a dead worker nothing more is taken

    proxy.tap = tap
    worker.begin()
    assert wait_until(lambda: bool(reached), PATIENCE), worker.log.read_text()[-2_000:]
    assert worker.process is not None
    worker.process.wait(PATIENCE)
    proxy.tap = untapped


def test_a_loader_dies_at_every_step(tmp_path: Path, proxy: FaultProxy) -> None:
    """Killed before and after each effect of the protocol, of a segment of its own and of one it finishes: all is exact."""
    yard = Yard(tmp_path, proxy, shards=1)
    wiring.provision(yard.settings)
    producer, numbers = yard.producer(), itertools.count()
    reader = Worker("reader", ("consumers.reader",), yard)
    for (step, point), moment in itertools.product(LOADER.items(), MOMENTS):
        own = step >= "6"
        print(f"{step}, {moment}{', of its own segment' if own else ''}")
        yard.put(producer, itertools.islice(numbers, 20))
        _dies_at(reader, proxy, _once(LOADER["5 plan"], point) if own else point, moment)
        if own and moment == "before":  # a segment is left planned: the next life dies finishing it
            print(f"{step}, after, of a segment it finishes")
            _dies_at(reader, proxy, point, "after")
    producer.close()
    reader.begin()
    yard.wait_committed()
    assert reader.end() == 0
    assert_nothing_lost_or_doubled(yard)


def test_a_processor_dies_at_every_step(tmp_path: Path, proxy: FaultProxy) -> None:
    """Killed before and after each effect of a chunk: the job ends, and its results are those of what was produced."""
    yard = Yard(tmp_path, proxy, shards=1)
    wiring.provision(yard.settings)
    producer = yard.producer()
    yard.put(producer, range(200))
    producer.close()
    reader = Worker("reader", ("consumers.reader",), yard)
    reader.begin()
    yard.wait_committed()
    assert reader.end() == 0
    processor = Worker("processor", ("consumers.sqs",), yard)
    job = ""
    for (step, point), moment in itertools.product(PROCESSOR.items(), MOMENTS):
        print(f"{step}, {moment}")
        job = yard.replay()
        _dies_at(processor, proxy, point, moment)
    processor.begin()
    jobs = wiring.replay_parts(yard.unharmed, yard.clock, yard.facts).jobs
    assert wait_until(lambda: {one.state for one in jobs.newest()} == {"done"}, PATIENCE)
    assert processor.end() == 0
    assert_results_of(job, yard)
