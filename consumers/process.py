"""The life of a worker process: settings, telemetry, work, and how it ends.

Crash-only: an unknown error ends the process with status 70, and the ledger makes the restart exact. A wrong setting, or
a stream that is not there, is status 2 and a sentence.
"""

import gc
import os
import signal
import sys
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from consumers.telemetry import Telemetry
from pipeline import __version__
from pipeline.config import Settings, load_settings
from pipeline.core.errors import ConfigProblem, HeadraceError, NotFound
from pipeline.facts import FactSink, WorkerCrashed, WorkerStarted, place_of
from pipeline.telemetry.log import FactLog

MISUSED = 2
CRASHED = 70  # EX_SOFTWARE of sysexits.h


def run(
    worker: str,
    work: Callable[[Settings, Telemetry], None],
    *,
    page: int | None = 0,
    spoken: str | None = None,
) -> None:
    """Do a worker's work with the settings of environment and file; returns when it ends in order.

    `spoken` is what a sentence to the user begins with, where that is not the worker's own name.
    `page` is the number of this process' page, of several alike; None: somebody else shows its numbers.
    """
    tell: FactSink = FactLog(worker)
    try:
        settings = load_settings()
        with Telemetry(settings, worker, page=page) as telemetry:
            tell = telemetry.fact
            work(settings, telemetry)
    except (ConfigProblem, NotFound) as problem:
        sys.stderr.write(f"{spoken or f'headrace {worker}'}: {problem}\n")
        sys.exit(MISUSED)
    except Exception as problem:  # noqa: BLE001 - a process boundary
        crash(worker, problem, tell)


def on_stop(stop: Callable[[], None]) -> None:
    """Call `stop` from now on whenever this process is asked to end (SIGTERM, SIGINT); only in the main thread."""

    def asked(_signal: int, _frame: FrameType | None) -> None:
        stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, asked)


def started(settings: Settings, telemetry: Telemetry, rules: str = "") -> None:
    """Tell that a worker is ready, once; `rules` is the name of those that it judges events by."""
    endpoint = settings.aws.endpoint_url or "aws"
    telemetry.fact(
        WorkerStarted(worker=telemetry.worker, version=__version__, rules=rules, endpoint=endpoint)
    )
    gc.freeze()  # what was imported and made so far stays: the collector need not look at it again


def crash(worker: str, exc: BaseException, tell: FactSink) -> NoReturn:
    """Tell of an unknown error by its type and place, and end the process at once; from any thread."""
    # The message of a foreign error may quote a payload; ours never do.
    message = str(exc) if isinstance(exc, HeadraceError) else ""
    try:
        tell(WorkerCrashed(worker=worker, error=f"{place_of(exc)} {message}".strip()))
    finally:
        os._exit(CRASHED)
