"""Workers killed at random moments while producers write: `make kills ROUNDS=200 SEED=1`.

Each round kills one of the victims: a loader three times out of four, else the processor. The loader is the reader, or
the real KCL daemon, of which a shard's process or the Java process is killed.
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
from pipeline.machine.processes import wait_until
from tests.aws.backends import ministack
from tests.consumers import kcl_kit
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
ROUNDS = int(os.environ.get("KILL_ROUNDS", "10"))
KCL_ROUNDS = min(ROUNDS, max(4, ROUNDS // 5))  # each takes a new start of the daemon: ten seconds and more
_GAVE_UP = 70  # status of a worker whose daemon ended too often
LONGEST_LIFE = 0.9  # seconds of work before a kill: several segments
SHARDS = 2
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


class Daemon:
    """A `headrace worker --kcl`, as a victim: one of its shards' processes dies, or Java does."""

    name = "kcl"

    def __init__(self, yard: Yard, chance: random.Random) -> None:
        self._yard, self._chance = yard, chance
        self._worker: kcl_kit.Worker | None = None
        self._deaths = 0

    def begin(self) -> None:
        """Start it the first time; then its supervisor does."""
        self._worker = self._worker or self._started()

    def at_work(self) -> bool:
        """True once its last death is behind it, and it holds every shard."""
        worker = self._alive()
        return len(worker.facts("DaemonEnded")) >= self._deaths and len(worker.holds()) == SHARDS

    def kill(self) -> None:
        """Kill a shard's process, or Java."""
        worker = self._alive()
        worker.kill(self._chance.choice(("shards", "daemon")))
        self._deaths = len(worker.facts("DaemonEnded")) + 1

    def end(self) -> int:
        """Let it drain."""
        return self._alive().stop()

    def _started(self) -> kcl_kit.Worker:
        # Not through the proxy: KCL speaks HTTP/2 with Kinesis.
        where = {"HEADRACE_AWS__ENDPOINT_URL": self._yard.proxy.upstream}
        return kcl_kit.Worker(self._yard, self.name, **where)

    def _alive(self) -> kcl_kit.Worker:
        """Return the worker; one that gave up after five deaths in a minute is started again, as by whoever keeps it."""
        assert self._worker is not None
        if self._worker.process.poll() == _GAVE_UP:
            assert "times within a minute" in self._worker.facts("WorkerCrashed")[-1]["error"], (
                self._worker.said()
            )
            self._worker = self._started()
        assert self._worker.process.poll() is None, self._worker.said()
        return self._worker


@pytest.mark.parametrize("loader", ["reader", pytest.param("kcl", marks=kcl_kit.needs_daemon)])
def test_workers_killed_at_random_moments(tmp_path: Path, proxy: FaultProxy, loader: str) -> None:
    """Produced rows are the Parquet rows and the index, aggregates agree, the audit balances, replay's results are right."""
    seed, rounds = int(os.environ["KILL_SEED"]), KCL_ROUNDS if loader == "kcl" else ROUNDS
    print(f"make kills ROUNDS={ROUNDS} SEED={seed}")
    chance, killed = random.Random(seed), Counter[str]()
    yard = Yard(tmp_path, proxy, SHARDS, **kcl_kit.QUICK)
    wiring.provision(yard.settings)
    loads = Daemon(yard, chance) if loader == "kcl" else Worker("reader", ("consumers.reader",), yard)
    victims: list[Victim] = [loads, Worker("processor", ("consumers.sqs",), yard)]
    jobs = wiring.replay_parts(yard.unharmed, yard.clock, yard.facts).jobs
    for one in victims:
        one.begin()
    with Writing(yard):
        assert wait_until(lambda: yard.committed() > 0, 2 * PATIENCE)
        for _ in range(rounds):
            victim = chance.choices(victims, weights=[3, 1])[0]
            assert wait_until(victim.at_work, 2 * PATIENCE), victim.name  # a new daemon takes its time
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
    assert killed.total() == rounds
    print(
        f"killed {dict(killed)} while {yard.produced.units} units were loaded in {len(yard.segments())} segments"
    )
