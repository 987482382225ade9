"""Processor of replay messages: `python -m consumers.sqs [--drain]`.

Any number may run. Crash-only: an unknown error ends the process with status 70; messages come again, and results are the
same. SIGTERM and SIGINT: the chunk in hand is finished, its messages are deleted, status 0. With `--drain` it ends with
status 0 once the queue is empty.
"""

import gc
import os
import signal
import sys
import threading

from pipeline.startup import light

light()

from consumers.fact_log import log
from pipeline import __version__
from pipeline.config import load_settings
from pipeline.core.errors import ConfigProblem, HeadraceError, NotFound
from pipeline.facts import WorkerCrashed, WorkerStarted, WorkerStopped
from pipeline.flows.process import Processor
from pipeline.ports.clock import SystemClock
from pipeline.wiring import replay_parts

_NAME = "sqs"
_MISUSED, _CRASHED = 2, 70  # EX_SOFTWARE of sysexits.h


def main(arguments: list[str]) -> None:
    """Handle messages with the settings of environment and file, until asked to stop or, draining, until none is left."""
    if arguments not in ([], ["--drain"]):
        raise ConfigProblem(f"unknown arguments {' '.join(arguments)}: --drain is the only one")
    settings, stop = load_settings(), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda _signal, _frame: stop.set())
    parts = replay_parts(settings, SystemClock(stop), log, stop.is_set)
    gc.freeze()  # what is imported stays: the collector need not look at it again
    endpoint = settings.aws.endpoint_url or "aws"
    log(WorkerStarted(worker=_NAME, version=__version__, rules="", endpoint=endpoint))
    Processor(parts.process, parts.limits).run(drain=bool(arguments))
    log(WorkerStopped(worker=_NAME))


def crash(exc: BaseException) -> None:
    """Log an unknown error by its type, and end the process at once; a foreign message may quote a payload."""
    message = str(exc) if isinstance(exc, HeadraceError) else ""
    log(WorkerCrashed(worker=_NAME, error=f"{type(exc).__name__} {message}".strip()))
    os._exit(_CRASHED)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (ConfigProblem, NotFound) as problem:
        sys.stderr.write(f"headrace {_NAME}: {problem}\n")
        sys.exit(_MISUSED)
    except Exception as problem:  # noqa: BLE001 - a process boundary
        crash(problem)
