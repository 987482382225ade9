"""Workers killed at random moments while producers write: `make kills ROUNDS=200 SEED=1`.

Each round kills one of the victims. Further kinds of workers join by the protocol `Victim` of yard.py: `_victims` is the list.
"""

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from pipeline import wiring
from pipeline.laptop.processes import wait_until
from tests.aws.backends import ministack
from tests.e2e.yard import (
    PATIENCE,
    Victim,
    Worker,
    Yard,
    assert_nothing_lost_or_doubled,
    assert_results_of,
)
from tests.faults.proxy import FaultProxy, fault_proxy

pytestmark = [pytest.mark.stack, pytest.mark.slow]
ROUNDS = int(os.environ.get("HEADRACE_KILL_ROUNDS", "10"))
LONGEST_LIFE = 0.9  # seconds of work before a kill: several segments
BATCH = 15  # events between two flushes of the producer
PAUSE = 0.05  # seconds between them: the loaders shall keep up


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[FaultProxy]:
    """An emulator behind a proxy that stays calm."""
    with ministack(tmp_path / "stack") as endpoint, fault_proxy(endpoint) as found:
        yield found


class Writing:
    """A producer that writes until it is asked to stop."""

    def __init__(self, yard: Yard) -> None:
        self._yard, self._stop = yard, threading.Event()
        self._failed: Exception | None = None
        self._thread = threading.Thread(target=self._write)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        assert self._failed is None, self._failed

    def _write(self) -> None:
        try:
            producer, number = self._yard.producer(), 0
            while not self._stop.wait(PAUSE):
                self._yard.put(producer, range(number, number + BATCH))
                number += BATCH
            producer.close()
        except Exception as exc:  # noqa: BLE001 - told where the thread is joined
            self._failed = exc


def _victims(yard: Yard) -> list[Victim]:
    """Return who may be killed."""
    return [
        Worker("reader", ("consumers.reader",), yard),
        Worker("processor", ("consumers.sqs",), yard),
    ]


def test_workers_killed_at_random_moments(tmp_path: Path, proxy: FaultProxy) -> None:
    """Produced rows are the Parquet rows and the index, aggregates agree, the audit balances, replay's results are right."""
    seed = int(os.environ["HEADRACE_KILL_SEED"])
    print(f"make kills ROUNDS={ROUNDS} SEED={seed}")
    chance, killed = random.Random(seed), Counter[str]()
    yard = Yard(tmp_path, proxy)
    wiring.provision(yard.settings)
    victims = _victims(yard)
    jobs = wiring.replay_parts(yard.unharmed, yard.clock, yard.facts).jobs
    for one in victims:
        one.begin()
    with Writing(yard):
        assert wait_until(lambda: yard.committed() > 0, PATIENCE)
        for _ in range(ROUNDS):
            victim = chance.choices(victims, weights=[3, *[1] * (len(victims) - 1)])[0]
            assert wait_until(victim.at_work, PATIENCE), victim.name
            if all(one.state == "done" for one in jobs.newest()):
                yard.replay()
            time.sleep(chance.uniform(0.0, LONGEST_LIFE))  # the moment is the point
            victim.kill()
            killed[victim.name] += 1
            victim.begin()
    yard.wait_committed()
    last = yard.replay()
    assert wait_until(lambda: {one.state for one in jobs.newest()} == {"done"}, PATIENCE)
    for one in victims:
        assert wait_until(one.at_work, PATIENCE), one.name
        assert one.end() == 0, one.name
    assert_nothing_lost_or_doubled(yard)
    assert_results_of(last, yard)
    assert killed.total() == ROUNDS
    print(
        f"killed {dict(killed)} while {yard.produced.units} units were loaded in {len(yard.segments())} segments"
    )
