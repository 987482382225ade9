"""The real reader process, killed again and again while it works."""

import io
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest

from pipeline import wiring
from pipeline.cli.settings import EMULATOR_KEY, emulator_overrides
from pipeline.config import Settings, load_settings
from pipeline.core.event import Envelope
from pipeline.core.keys import EVENTS, QUARANTINE
from pipeline.laptop import emulator
from pipeline.laptop.flights import read_flights
from pipeline.laptop.home import Home, prepare

pytestmark = [pytest.mark.stack, pytest.mark.slow]

KILLS = 20
DAYS = 7
SEED = 20131101
DEADLINE_SECONDS = 120.0
_NAMES = msgspec.json.Decoder(Envelope)


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Settings]:
    """A provisioned emulator without a loader."""
    pytest.importorskip("ministack", reason="the local stack needs the extra `local`")
    home = Home(tmp_path)
    prepare(home)
    home.emulator_log.touch()
    port = emulator.free_port()
    child = emulator.start_emulator(home, port, dies_with_parent=True)
    try:
        emulator.wait_healthy(child, home, port, 0)
        found = load_settings(
            {"paths": {"home": tmp_path}, **emulator_overrides(emulator.endpoint_url(port))}, environ={}
        )
        wiring.provision(found)
        yield found
    finally:
        child.kill()
        child.wait()


def _start_reader(settings: Settings) -> subprocess.Popen[bytes]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= {
        "HEADRACE_HOME": str(settings.paths.home),
        "HEADRACE_AWS__ENDPOINT_URL": str(settings.aws.endpoint_url),
        "HEADRACE_AWS__ACCESS_KEY_ID": EMULATOR_KEY,
        "HEADRACE_AWS__SECRET_ACCESS_KEY": EMULATOR_KEY,
        "HEADRACE_SEGMENT__MAX_ROWS": "700",  # many segments, so that kills fall between all of their steps
        "HEADRACE_SEGMENT__MAX_IDLE_SECONDS": "0.3",
    }
    with (settings.paths.home / "reader.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "consumers.reader"], env=environment, stderr=log, stdout=log
        )


def _committed_units(stores: wiring.Archive) -> int:
    ledger = stores.ledger
    segments = [one for lineage in ledger.lineages() for one in ledger.segments(lineage.short)]
    return sum(one.counts.units for one in segments if one.state == "committed")


def _rows(stores: wiring.Archive) -> tuple[Counter[tuple[str, str]], Counter[bytes], int]:
    rows: Counter[tuple[str, str]] = Counter()
    refused: Counter[bytes] = Counter()
    duplicates = 0
    for info in stores.objects.list(EVENTS):
        table = pq.ParquetFile(io.BytesIO(stores.objects.get(info.key))).read(
            columns=["event_id", "data_json", "is_duplicate"]
        )
        ids, data, flags = (column.to_pylist() for column in table.columns)
        rows.update(zip(ids, data, strict=True))
        duplicates += sum(flags)
    for info in stores.objects.list(QUARANTINE):
        refused.update(
            pq.ParquetFile(io.BytesIO(stores.objects.get(info.key))).read(["raw"])["raw"].to_pylist()
        )
    return rows, refused, duplicates


def _kill_while_loading(settings: Settings, stores: wiring.Archive, produced: int) -> int:
    """Kill the reader at seeded moments until all is loaded; return how often it was killed at work."""
    chance = random.Random(SEED)
    killed, deadline = 0, time.monotonic() + DEADLINE_SECONDS
    reader = _start_reader(settings)
    try:
        while _committed_units(stores) < produced:
            assert time.monotonic() < deadline, "the loader made no progress between the kills"
            try:
                reader.wait(chance.uniform(0.5, 1.6) if killed < KILLS else 1.0)
            except subprocess.TimeoutExpired:
                if killed >= KILLS:
                    continue
                reader.send_signal(signal.SIGKILL)
                reader.wait()
                killed += 1
            else:
                raise AssertionError(f"the reader ended by itself with {reader.returncode}")
            reader = _start_reader(settings)
    finally:
        reader.terminate()
        assert reader.wait(30) in (0, -signal.SIGTERM)  # the latter: asked before it could listen
    return killed


def test_a_loader_killed_at_seeded_moments_gives_the_same_rows(settings: Settings) -> None:
    """After SIGKILLs at 20 seeded moments of a load every row is there once, every refused unit too, and it balances."""
    stores = wiring.archive(settings)
    expected: Counter[tuple[str, str]] = Counter()
    bad: Counter[bytes] = Counter()
    producer = wiring.producer(settings, stores)
    produced = 0
    for batch in read_flights(DAYS):
        for event in batch:
            producer.put(event.tenant_id, event.entity_id or "", event.payload)
            if event.entity_id is None:
                bad[event.payload] += 1
            else:
                envelope = _NAMES.decode(event.payload)
                expected[envelope.event_id, bytes(envelope.data).decode()] += 1
        produced += len(batch)
    producer.close()

    killed = _kill_while_loading(settings, stores, produced)

    rows, refused, duplicates = _rows(stores)
    assert rows == expected
    assert refused == bad
    assert duplicates == 0
    assert wiring.audit(settings, lambda _: None).balanced
    assert killed >= 1
    print(f"killed {killed} times while loading {produced} events (seed {SEED})")
