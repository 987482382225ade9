"""`make soak MINUTES=10`: the local stack at full speed, its processes sampled into a CSV, and a verdict.

A producer sends without a pause; the loader loads; a processor does a replay job now and then, and somebody looks up entities. The
window is made small, so that it is full, and slides, long before the warm-up ends. At most `--events` are sent in all: the emulator
keeps every record in memory (about 1.5 KB an event with its archive), so a longer soak is a slower one.
"""

import argparse
import csv
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson

from pipeline.cli.settings import emulator_overrides, processor_environment
from pipeline.cli.up import launch_for
from pipeline.config import load_settings
from pipeline.laptop.launch import Running, local_stack
from pipeline.machine.processes import memory_bytes
from pipeline.machine.processor import PROCESSOR
from tests.bench.data import SCHEMA, TENANTS
from tests.bench.data import events as events_made
from tests.soak.verdict import EXEMPT, Sample, trends

SAMPLE_SECONDS = 2.0
TASK_SECONDS = 10.0  # between a replay job and the next look-up
FIRST_TASK_SECONDS = 60.0  # the first segment is committed by then
JOB_EVENTS = 1_000  # each job is of one size, so that the processor's memory may be
MAX_EVENTS = 4_000_000
WINDOW_IDS = 100_000
WARM_UP = 0.4  # of the soak: the window fills, pools get their workers, every kind of task has run
DRAIN_SECONDS = 60.0
_HEADRACE = str(Path(sys.executable).with_name("headrace"))


class Soak:
    """The processes, and what was seen of them."""

    def __init__(self, running: Running, folder: Path, minutes: float, events: int) -> None:
        self._running, self._folder, self._seconds = running, folder, minutes * 60
        overrides = emulator_overrides(running.stack.endpoint_url)
        self._environment = processor_environment(load_settings(overrides))
        self._rate = events / self._seconds
        self._sent = [orjson.loads(one) for one in events_made(100, seed=0)]  # the producer's first
        self.samples: list[Sample] = []
        self.tasks = self.failed_tasks = 0

    def run(self) -> None:
        """Produce, load, replay and look up for the whole time."""
        sender = [sys.executable, "-m", "tests.soak.produce", str(self._rate), str(self._seconds)]
        with self._child(sender, "producer") as producer, self._child(PROCESSOR, "processor") as processor:
            own = {"producer": producer.pid, "processor": processor.pid}
            began, task, next_task = time.monotonic(), None, FIRST_TASK_SECONDS
            while (now := time.monotonic() - began) < self._seconds and producer.poll() is None:
                self._running.check()
                self._sample(now, own)
                if task is not None and task.poll() is not None:
                    self.tasks, self.failed_tasks = self.tasks + 1, self.failed_tasks + (task.returncode != 0)
                    task = None
                if task is None and now > next_task:
                    task, next_task = self._task(), now + TASK_SECONDS
                time.sleep(SAMPLE_SECONDS)
            producer.wait(DRAIN_SECONDS)
            if task is not None:
                task.wait(DRAIN_SECONDS)
            processor.terminate()
            processor.wait(DRAIN_SECONDS)

    def _sample(self, now: float, own: Mapping[str, int]) -> None:
        stack = self._running.stack
        known = {"loader": stack.loader, "emulator": stack.emulator}
        pids = {**own, **{name: found.pid for name, found in known.items() if found}}
        for name, pid in pids.items():
            try:
                descriptors = sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir())
                threads = sum(1 for _ in Path(f"/proc/{pid}/task").iterdir())
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended between two looks
            self.samples.append(Sample(now, name, pid, memory_bytes(pid) / 1e6, descriptors, threads))

    def _task(self) -> subprocess.Popen[bytes]:
        """Start a replay job, or a look-up, in turn."""
        known = self._sent[self.tasks % len(self._sent)]
        which = ["events", "--tenant", known["tenant_id"], "--entity", known["entity_id"], "--json"]
        if self.tasks % 2 == 0:
            kind = ["--type", "order.placed", "--from", "2026-03-01", "--to", "2026-03-01"]
            which = ["replay", "start", "--tenant", known["tenant_id"], *kind, "--limit", str(JOB_EVENTS)]
        with (self._folder / "tasks.log").open("ab") as log:
            return subprocess.Popen([_HEADRACE, *which], env=self._environment, stdout=log, stderr=log)

    @contextmanager
    def _child(self, command: list[str] | tuple[str, ...], name: str) -> Iterator[subprocess.Popen[bytes]]:
        with (self._folder / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        try:
            yield child
        finally:
            child.kill()
            child.wait()


def report(soak: Soak, warm_up_seconds: float) -> bool:
    """Print each trend; return whether all are flat and every task went well."""
    flat = soak.failed_tasks == 0
    print(f"{'process':<10} {'measure':<12} {'middle':>9} {'per minute':>11}")
    for one in trends(soak.samples, warm_up_seconds):
        verdict = one.problem or ("exempt" if one.process in EXEMPT else "flat")
        print(f"{one.process:<10} {one.measure:<12} {one.middle:>9.1f} {one.slope:>+11.3f}  {verdict}")
        flat = flat and not one.problem
    print(f"{soak.tasks} replay jobs and look-ups, {soak.failed_tasks} failed")
    return flat


def main() -> int:
    """Soak, write the CSV, give the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--events", type=int, default=MAX_EVENTS, help="sent in all, evenly over the time")
    parser.add_argument("--csv", type=Path, default=Path("bench-results/soak.csv"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="headrace-soak-", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        schemas = folder / "schemas"
        (schemas / "order.placed").mkdir(parents=True)
        (schemas / "order.placed" / "1.json").write_bytes(orjson.dumps(SCHEMA))
        envelope = load_settings().paths.schemas / "envelope.json"
        (schemas / "envelope.json").write_bytes(envelope.read_bytes())
        os.environ |= {
            "HEADRACE_HOME": str(folder / "home"),
            "HEADRACE_PATHS__SCHEMAS": str(schemas),
            "HEADRACE_EVENTS__TENANTS": ",".join(TENANTS),
            "HEADRACE_DUPLICATES__MAX_IDS": str(WINDOW_IDS),
        }
        with local_stack(replace(launch_for(folder / "home"), throwaway=True)) as running:
            soak = Soak(running, folder, options.minutes, options.events)
            soak.run()
        flat = report(soak, options.minutes * 60 * WARM_UP)
        if not flat:
            for log in ("producer.log", "processor.log", "tasks.log"):
                print(f"--- {log}\n{(folder / log).read_text(errors='replace')[-2_000:]}", file=sys.stderr)
    options.csv.parent.mkdir(parents=True, exist_ok=True)
    with options.csv.open("w", newline="") as out:
        csv.writer(out).writerows([Sample._fields, *soak.samples])
    print(f"samples: {options.csv}")
    return 0 if flat else 1


if __name__ == "__main__":
    sys.exit(main())
