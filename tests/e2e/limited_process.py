"""One process that asks for a plan's requests as fast as it may: `python -m tests.e2e.limited_process` and its arguments.

It writes one byte to its file for each request that was allowed, at once, so that a killed process has told all.
"""

import argparse
import json
import os
import time
from dataclasses import asdict

from pipeline.aws.client import Connection, make_client
from pipeline.aws.limits import DynamoLimits
from pipeline.aws.meter import Meter
from pipeline.core.caller import Caller
from pipeline.core.lease import Account, Change
from pipeline.core.plan import Plan
from pipeline.facts import Fact
from pipeline.flows.leases import Leases
from pipeline.flows.limit import Limiter
from pipeline.ports.clock import SystemClock
from pipeline.ports.limits import AccountKey

PAUSE_SECONDS = 0.001  # between asks, so that four processes leave the emulator some processor time


class OffClock(SystemClock):
    """The machine's clock, off by so much."""

    def __init__(self, off_us: int) -> None:
        super().__init__()
        self._off_us = off_us

    def now_us(self) -> int:
        """Return the wrong time."""
        return super().now_us() + self._off_us


def arguments(endpoint: str, prefix: str, plan: Plan, seconds: float, path: str, off_us: int) -> list[str]:
    """Return the command's arguments."""
    return [
        *("--endpoint", endpoint, "--prefix", prefix, "--plan", json.dumps(asdict(plan))),
        *("--seconds", str(seconds), "--path", path, "--off-us", str(off_us)),
    ]


class CountedLimits(DynamoLimits):
    """Counts writes, refused ones too: they are billed."""

    writes = 0

    def write(self, key: AccountKey, change: Change, expires_us: int | None) -> Account | None:
        """Apply a change."""
        self.writes += 1
        return super().write(key, change, expires_us)


def _told(fact: Fact) -> None:
    print(fact, flush=True)


def main() -> None:
    """Ask until the time is over; then give back what is left, and say when it was."""
    parser = argparse.ArgumentParser()
    for name in ("--endpoint", "--prefix", "--plan", "--path"):
        parser.add_argument(name)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--off-us", type=int)
    given = parser.parse_args()
    clock = OffClock(given.off_us)
    where = Connection("us-east-1", given.endpoint, "headrace", "headrace", max_attempts=3)
    store = CountedLimits(make_client("dynamodb", where, Meter()), given.prefix)
    limiter = Limiter(Leases(store, clock, _told), clock, 2**20)
    caller = Caller("acme", "key:k1", frozenset(), Plan(**json.loads(given.plan)))
    out = os.open(given.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    limiter.ask()  # connects
    began = time.time()
    while time.time() < began + given.seconds:
        found = limiter.take(caller)
        if found is None or found.low:
            limiter.renew(caller, 1 if found is None else 0)
        if found is not None and found.allowed:
            os.write(out, b".")
        elif found is not None:
            time.sleep(PAUSE_SECONDS)
    ended = time.time()
    limiter.close()
    print(json.dumps({"began": began, "ended": ended, "writes": store.writes}), flush=True)


if __name__ == "__main__":
    main()
