"""Processor of replay messages: `python -m consumers.sqs [--drain]`.

Any number may run. Crash-only: an unknown error ends the process with status 70; messages come again, and results are the
same. SIGTERM and SIGINT: the chunk in hand is finished, its messages are deleted, status 0. With `--drain` it ends with
status 0 once the queue is empty.
"""

import os
import sys
import threading

from pipeline.startup import light

light()

from consumers.process import on_stop, run, started
from consumers.telemetry import Telemetry
from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.facts import Fact, ReplayChunkDone
from pipeline.flows.process import Processor
from pipeline.machine.processor import PROCESSOR_PAGE_NUMBER
from pipeline.ports.clock import SystemClock
from pipeline.wiring import replay_parts

_NAME = "sqs"


def main(settings: Settings, telemetry: Telemetry) -> None:
    """Handle messages until asked to stop or, draining, until none is left."""
    arguments, stop = sys.argv[1:], threading.Event()
    if arguments not in ([], ["--drain"]):
        raise ConfigProblem(f"unknown arguments {' '.join(arguments)}: --drain is the only one")
    on_stop(stop.set)
    parts = replay_parts(settings, SystemClock(stop), telemetry.fact, stop.is_set, telemetry.span_sink)

    def meter(fact: Fact) -> None:
        if isinstance(fact, ReplayChunkDone):
            telemetry.writes(parts.meter.dynamodb_write_units, parts.meter.s3_puts)

    telemetry.add(meter)
    started(settings, telemetry)
    Processor(parts.process, parts.limits).run(drain=bool(arguments))


if __name__ == "__main__":
    run(_NAME, main, page=int(os.environ.get(PROCESSOR_PAGE_NUMBER, "0")))
