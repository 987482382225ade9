"""A user's program with a spill, killed with SIGKILL while it drains; the next one goes on; the audit balances."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from pipeline import wiring
from pipeline.config import Settings, as_environment
from pipeline.producer import connect
from tests.e2e.spilling_program import lines
from tests.e2e.test_kills import _committed_units, _start_reader, settings

__all__ = ["settings"]  # the fixture: a provisioned emulator without a loader

pytestmark = [pytest.mark.stack, pytest.mark.slow]

EVENTS = 3_000
LATER = 500
DEADLINE_SECONDS = 120.0


def test_killed_while_it_drains(settings: Settings, tmp_path: Path) -> None:
    """Three kills at seeded moments, one folder: every event that was reported is archived, once without its copies."""
    folder, reported = tmp_path / "spill", 0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")}
    environment |= as_environment(settings)
    for seed in (1, 2, 3):
        command = [sys.executable, "-m", "tests.e2e.spilling_program", str(folder), str(seed), str(EVENTS)]
        root = Path(__file__).resolve().parents[2]
        done = subprocess.run(
            command,
            env=environment,
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
            timeout=DEADLINE_SECONDS,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        acknowledged, spilled, others = map(int, done.stdout.split())
        assert (acknowledged + spilled, others) == (EVENTS, 0)
        assert spilled > 0
        reported = EVENTS
    with connect(settings, rules=True, spill=folder) as producer:
        for line in lines(EVENTS, LATER):
            producer.put_json(line)
        assert producer.drain(DEADLINE_SECONDS)
    assert list(folder.glob("*.spill")) == []
    stores = wiring.archive(settings)
    sent = sum(batch.events for one in stores.receipts.all() for batch in one.batches)
    reader = _start_reader(settings)
    try:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while _committed_units(stores) < sent and time.monotonic() < deadline:
            time.sleep(0.5)  # the reader is another process: nothing tells when it has committed
    finally:
        reader.terminate()
        reader.wait()
    report = wiring.audit(settings, lambda _objects: None)
    assert report.balanced, report.differences
    total = report.total()
    assert total.archived == reported + LATER
    assert total.quarantined == 0
    assert Counter(one.closed for one in stores.receipts.all())[True] == 4
