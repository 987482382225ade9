"""The real processor, killed again and again while it works."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.cli.settings import EMULATOR_KEY, emulator_overrides
from pipeline.config import Settings, load_settings
from pipeline.core.replay import Selection
from pipeline.core.segment import CutLimits
from pipeline.flows.load import Loader, LoadLimits
from pipeline.flows.replay import start
from pipeline.flows.replay_plan import plan
from pipeline.flows.window import WindowLimits
from pipeline.laptop import emulator
from pipeline.laptop.flights import read_flights
from pipeline.laptop.home import Home, prepare
from pipeline.ports.clock import SystemClock
from tests.fakes.facts import FactList

pytestmark = [pytest.mark.stack, pytest.mark.slow]

KILLS = 5
DAYS = 10
SEED = 20130110
DEADLINE_SECONDS = 90.0
SELECTION = Selection("ua", event_type="flight.departed")


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """An emulator with ten days of flights in its archive."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    home = Home(tmp_path)
    prepare(home)
    home.emulator_log.touch()
    port = emulator.free_port()
    child = emulator.start_emulator(home, port, dies_with_parent=True)
    try:
        emulator.wait_healthy(child, home, port, 0)
        overrides = {"paths": {"home": tmp_path}, **emulator_overrides(emulator.endpoint_url(port))}
        found = load_settings({**overrides, "replay": {"visibility_seconds": 10}}, environ={})
        wiring.provision(found)
        _load(found)
        yield found
    finally:
        child.kill()
        child.wait()


def _load(settings: Settings) -> None:
    """Put flights into the archive, in segments of a thousand rows."""
    stores = wiring.archive(settings)
    producer = wiring.producer(settings, stores)
    for batch in read_flights(DAYS):
        for event in batch:
            producer.put(event.tenant_id, event.entity_id or "", event.payload)
    producer.close()
    parts = wiring.loader_parts(settings, SystemClock(), FactList())
    limits = LoadLimits(CutLimits(max_rows=1_000), WindowLimits())
    for info in parts.stream.shards():
        lineage = stores.ledger.register(parts.stream.name, parts.stream.epoch, info.shard_id, ())
        loader = Loader(lineage, parts.rules, limits, parts.ports)
        reader = parts.stream.reader(info.shard_id, loader.start())
        while (batch_read := reader.read()).records:
            loader.process(batch_read.records)
        loader.cut("test")


def _processor(settings: Settings, *arguments: str) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {
        "HEADRACE_HOME": str(settings.paths.home),
        "HEADRACE_AWS__ENDPOINT_URL": str(settings.aws.endpoint_url),
        "HEADRACE_AWS__ACCESS_KEY_ID": EMULATOR_KEY,
        "HEADRACE_AWS__SECRET_ACCESS_KEY": EMULATOR_KEY,
        "HEADRACE_REPLAY__VISIBILITY_SECONDS": "10",
        "HEADRACE_REPLAY__MAX_ATTEMPTS": "100",  # every kill is an attempt
    }
    with (settings.paths.home / "processor.log").open("ab") as log:
        command = [sys.executable, "-m", "consumers.sqs", *arguments]
        return subprocess.Popen(command, env=environment, stderr=log, stdout=log)


def test_a_processor_killed_at_seeded_moments_gives_the_same_rows(settings: Settings) -> None:
    """After SIGKILLs in the middle of a job its results are those of a job that nobody disturbed."""
    parts = wiring.replay_parts(settings, SystemClock(), FactList())
    first = start(plan(SELECTION, parts.plan), parts.start)
    assert _processor(settings, "--drain").wait(DEADLINE_SECONDS) == 0
    assert parts.jobs.get(first.id).state == "done"
    undisturbed = {(one.entity_id, one.dt): one for one in parts.days.all_rows()}
    assert sum(one.events for one in undisturbed.values()) == first.events > 0

    second = start(plan(SELECTION, parts.plan), parts.start)
    chance, killed, deadline = random.Random(SEED), 0, time.monotonic() + DEADLINE_SECONDS
    while parts.jobs.get(second.id).state != "done":
        assert time.monotonic() < deadline, "the processor made no progress between the kills"
        processor = _processor(settings)
        try:
            begun = parts.jobs.get(second.id).done_chunks
            while killed < KILLS and parts.jobs.get(second.id).done_chunks <= begun < second.chunks - 1:
                time.sleep(0.02)  # until it works
            processor.wait(chance.uniform(0.0, 0.15) if killed < KILLS else 3.0)
        except subprocess.TimeoutExpired:
            processor.send_signal(signal.SIGKILL if killed < KILLS else signal.SIGTERM)
            killed += killed < KILLS
        else:
            raise AssertionError(f"the processor ended by itself with {processor.returncode}")
        finally:
            processor.wait(30)

    for one in parts.days.all_rows():
        assert one.job == second.id
        before = undisturbed.pop((one.entity_id, one.dt))
        assert (one.events, one.inputs_hash, one.sample_ids) == (
            before.events,
            before.inputs_hash,
            before.sample_ids,
        )
    assert not undisturbed
    assert killed >= 1
    print(f"killed {killed} times (seed {SEED})")
