"""Limits in real processes over one table: what is allowed is counted, against the time that was measured."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.aws.limits import DynamoLimits
from pipeline.core.lease import lease_size
from pipeline.core.plan import DELIVERED, Plan
from pipeline.core.quota import month_of
from pipeline.flows.limit import plan_terms
from pipeline.ports.limits import AccountKey
from tests.aws.backends import Aws, ministack
from tests.conftest import SEED
from tests.e2e.limited_process import arguments

pytestmark = [pytest.mark.stack, pytest.mark.slow]
SECONDS = 10.0
SKEWS_US = (-100_000, 0, 50_000, 100_000)
FEW = Plan("few", 1_000, 500, 4_000, 1_000, 2**20, 500)


@pytest.fixture(scope="module")
def endpoint(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator."""
    with ministack(tmp_path_factory.mktemp("limits") / "home") as found:
        yield found


def _start(endpoint: str, prefix: str, plan: Plan, path: Path, off_us: int) -> "subprocess.Popen[str]":
    given = arguments(endpoint, prefix, plan, SECONDS, str(path), off_us)
    command = [sys.executable, "-m", "tests.e2e.limited_process", *given]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.parametrize("plan", DELIVERED, ids=lambda plan: plan.name)
def test_four_processes_keep_to_a_plan(endpoint: str, plan: Plan, tmp_path: Path) -> None:
    """Saturated for ten seconds, with clocks that differ, four processes allow what the plan says within 5 %."""
    prefix, files = Aws("ministack", endpoint).tables(), [tmp_path / f"{number}" for number in range(4)]
    running = [_start(endpoint, prefix, plan, path, off) for path, off in zip(files, SKEWS_US, strict=True)]
    told: list[dict[str, Any]] = [json.loads(one.communicate(timeout=120)[0]) for one in running]
    seconds = max(one["ended"] for one in told) - min(one["began"] for one in told)
    allowed = sum(path.stat().st_size for path in files)
    expected = plan.burst_requests + plan.requests_per_second * seconds
    writes = sum(one["writes"] for one in told)
    print(f"{plan.name}: {allowed} allowed, {expected:.0f} expected in {seconds:.2f} s, {writes} writes")
    assert abs(allowed - expected) <= 0.05 * expected
    if plan.name == "premium":
        assert writes - 4 <= allowed / 100  # four give back at the end


def test_a_process_that_is_days_ahead_takes_nothing(endpoint: str, tmp_path: Path) -> None:
    """Beside it another one allows what the plan says, in this month; it says itself that its clock is wrong."""
    aws, files, plan = Aws("ministack", endpoint), [tmp_path / "right", tmp_path / "wrong"], DELIVERED[1]
    prefix, days_us = aws.tables(), 40 * 86_400 * 1_000_000
    running = [_start(endpoint, prefix, plan, *given) for given in zip(files, (0, days_us), strict=True)]
    said = [one.communicate(timeout=120)[0] for one in running]
    right = json.loads(said[0])
    expected = plan.burst_requests + plan.requests_per_second * (right["ended"] - right["began"])
    assert abs(files[0].stat().st_size - expected) <= 0.05 * expected
    assert files[1].stat().st_size == 0
    assert "ClockFoundWrong(ahead_seconds=34559" in said[1]
    account = DynamoLimits(aws.dynamodb, prefix).read(AccountKey("acme", "plan"))
    assert account is not None
    assert account.month in {month_of(round(right[name] * 1e6)) for name in ("began", "ended")}


def test_a_quota_holds_under_kill_9(endpoint: str, tmp_path: Path) -> None:
    """Processes are killed at random and started again: never more than the quota, and at most a lease a kill less."""
    prefix, chance = Aws("ministack", endpoint).tables(), random.Random(os.environ[SEED])
    files = [tmp_path / f"{number}" for number in range(3)]
    running = [_start(endpoint, prefix, FEW, path, off) for path, off in zip(files, SKEWS_US, strict=False)]
    kills = 6
    for _ in range(kills):
        time.sleep(chance.uniform(0.5, 1.5))  # real processes: there is no clock to step
        number = chance.randrange(3)
        running[number].kill()
        running[number].communicate()
        running[number] = _start(endpoint, prefix, FEW, files[number], SKEWS_US[number])
    for one in running:
        one.communicate(timeout=120)
    allowed = sum(path.stat().st_size for path in files)
    lease = lease_size(plan_terms(FEW, 2**20).buckets[0])
    print(f"{allowed} allowed of {FEW.requests_per_month} after {kills} kills")
    assert FEW.requests_per_month - 2 * kills * lease <= allowed <= FEW.requests_per_month
