"""Processor of replay messages: `python -m consumers.sqs [--drain]`.

Any number may run. Crash-only: an unknown error ends the process with status 70; messages come again, and results are the
same. SIGTERM and SIGINT: the chunk in hand is finished, its messages are deleted, status 0. With `--drain` it ends with
status 0 once the queue is empty.
"""

import gc
import signal
import sys
import threading

from pipeline.startup import light

light()

from consumers.process import run
from consumers.telemetry import Telemetry
from pipeline import __version__
from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.facts import Fact, ReplayChunkDone, WorkerStarted
from pipeline.flows.process import Processor
from pipeline.ports.clock import SystemClock
from pipeline.wiring import replay_parts

_NAME = "sqs"


def main(settings: Settings, telemetry: Telemetry) -> None:
    """Handle messages until asked to stop or, draining, until none is left."""
    arguments, stop = sys.argv[1:], threading.Event()
    if arguments not in ([], ["--drain"]):
        raise ConfigProblem(f"unknown arguments {' '.join(arguments)}: --drain is the only one")
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: stop.set())
    parts = replay_parts(settings, SystemClock(stop), telemetry.fact, stop.is_set, telemetry.span_sink)

    def meter(fact: Fact) -> None:
        if isinstance(fact, ReplayChunkDone):
            telemetry.writes(parts.meter.dynamodb_write_units, parts.meter.s3_puts)

    telemetry.add(meter)
    gc.freeze()  # what is imported stays: the collector need not look at it again
    endpoint = settings.aws.endpoint_url or "aws"
    telemetry.fact(WorkerStarted(worker=_NAME, version=__version__, rules="", endpoint=endpoint))
    Processor(parts.process, parts.limits).run(drain=bool(arguments))


if __name__ == "__main__":
    run(_NAME, main)
