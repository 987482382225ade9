"""The real KCL daemon over the emulator: how fast it drains a stream, and whose processor time that takes."""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pipeline import wiring
from pipeline.aws.client import make_client
from pipeline.aws.kinesis import KinesisSink
from pipeline.aws.meter import Meter
from pipeline.machine.processes import wait_until
from pipeline.ports.stream import OutgoingRecord
from tests.aws.backends import ministack
from tests.bench.figure import Figure
from tests.consumers.kcl_kit import QUICK, Worker, lacking
from tests.consumers.test_reader import Deployment
from tests.core.kit import event, wire

_PATIENCE = 600.0
_PUT = 500  # Kinesis limit
_PLAIN_SHARE = 5  # plain records are slow: a fifth as many


def daemon(count: int, rounds: int) -> list[Figure]:
    """KCL's daemon: a stream of aggregates, and one of plain records, drained from the first lease to the last commit."""
    del rounds
    if reason := lacking():
        print(f"  skipped: {reason}", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory() as folder, ministack(Path(folder) / "stack" / "home") as endpoint:
        more = {**QUICK, "HEADRACE_SEGMENT__MAX_IDLE_SECONDS": "1", "HEADRACE_METRICS__SAMPLE_SECONDS": "1"}
        house = Deployment(Path(folder) / "house", endpoint, 2, **more).provision()
        return [
            *_drain(house, "aggregates", count, _aggregates),
            *_drain(house, "plain records", count // _PLAIN_SHARE, _plain),
        ]


def _event(number: int) -> tuple[str, bytes]:
    entity = f"door-{number % 1_000}"
    return entity, wire(
        event(event_id=f"e{number}", entity_id=entity, source="bench" * 40, data={"n": number})
    )


def _aggregates(house: Deployment, count: int) -> None:
    producer = wiring.producer(house.settings, house.stores)
    for number in range(count):
        entity, payload = _event(number)
        producer.put("acme", entity, payload)
    producer.close()


def _plain(house: Deployment, count: int) -> None:
    sink = KinesisSink(
        make_client("kinesis", wiring.connection(house.settings), Meter()), house.settings.stream.name
    )
    for start in range(0, count, _PUT):
        batch = [_event(number) for number in range(start, min(start + _PUT, count))]
        sink.put(
            [
                OutgoingRecord(payload, entity, str(2**127 * (place % 2)))
                for place, (entity, payload) in enumerate(batch)
            ]
        )


def _drain(
    house: Deployment, name: str, count: int, produce: Callable[[Deployment, int], None]
) -> list[Figure]:
    produce(house, count)
    worker = Worker(house, name.split(maxsplit=1)[0])
    worker.wait(lambda: len(worker.holds()) == 2)
    began, before = time.monotonic(), _cpu(worker)

    def done() -> bool:
        found: int = sum(one["rows"] + one["quarantined"] for one in worker.facts("SegmentCommitted"))
        return found >= count

    if not wait_until(done, _PATIENCE):
        raise TimeoutError(worker.said())
    seconds, after = time.monotonic() - began - 1, _cpu(worker)  # the last cut waited a second for more
    records = sum(one["records"] for one in worker.facts("SegmentCommitted"))
    worker.stop()
    java, python = (after[one] - before[one] for one in ("daemon", "shards"))
    return [
        Figure(f"daemon, {name}", count / seconds, "events/s"),
        Figure(f"daemon, {name}", records / seconds, "records/s"),
        Figure(f"daemon, {name}, Java", java / count * 1e6, "us/event"),
        Figure(f"daemon, {name}, Python", python / count * 1e6, "us/event"),
        Figure(f"daemon, {name}, Java / Python", java / python, "x"),
    ]


def _cpu(worker: Worker) -> dict[str, float]:
    """Return the processor seconds of the daemon and of its shards' processes so far."""
    return {what: sum(map(_seconds, pids)) for what, pids in worker.children().items()}


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # utime, stime
