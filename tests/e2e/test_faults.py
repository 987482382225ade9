"""A whole load while calls fail: nothing is lost or doubled, and every further try is a metric."""

from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pipeline import wiring
from tests.aws.backends import ministack
from tests.consumers.test_reader import _summed
from tests.e2e.yard import PATIENCE, Worker, Yard, assert_nothing_lost_or_doubled, assert_results_of
from tests.faults.plan import Seeded, calm
from tests.faults.proxy import FaultProxy, fault_proxy

pytestmark = [pytest.mark.stack, pytest.mark.slow]
EVENTS = 300
SHARE = 0.15
NOT_REPEATED = {
    "delay",
    "expired",
    "partial",
}  # no call has failed: it was slow, is opened again, or sends the rest


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultProxy]:
    """An emulator behind a proxy."""
    with ministack(tmp_path_factory.mktemp("stack") / "home") as endpoint, fault_proxy(endpoint) as found:
        yield found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_load_through_faults(tmp_path: Path, proxy: FaultProxy, seed: int) -> None:
    """Producer, reader, replay and processor through a proxy that breaks a tenth of all calls; rows are exact."""
    proxy.plan = calm
    yard = Yard(tmp_path, proxy)
    wiring.provision(yard.settings)
    proxy.plan = Seeded(seed, SHARE)
    producer = yard.producer()
    for first in range(0, EVENTS, 25):
        yard.put(producer, range(first, first + 25))
    producer.close()

    proxy.injected.clear()
    reader = Worker("reader", ("consumers.reader",), yard)
    reader.begin()
    yard.wait_committed()
    assert reader.end() == 0
    _all_told(reader, proxy)
    assert_nothing_lost_or_doubled(yard, copies=True)

    job = yard.replay()
    proxy.injected.clear()
    processor = Worker("processor", ("consumers.sqs", "--drain"), yard)
    processor.begin()
    assert processor.process is not None
    assert processor.process.wait(PATIENCE) == 0, processor.log.read_text()
    _all_told(processor, proxy)
    assert_results_of(job, yard)


def _all_told(worker: Worker, proxy: FaultProxy) -> None:
    """Each failed call of an ended worker is one further try: as many lines, and as much in the metric."""
    lines = [orjson.loads(line) for line in worker.log.read_bytes().splitlines()]
    assert lines[-1]["fact"] == "WorkerStopped"
    failed = sum(count for (_, name), count in proxy.injected.items() if name not in NOT_REPEATED)
    told = [(one["call"], one["error"]) for one in lines if one["fact"] == "CallRetried"]
    assert len(told) == failed > 0, (sorted(proxy.injected.items()), sorted(told))
    assert _summed(lines, "retried_calls") == failed
