"""The life of a worker process: settings, telemetry, work, and how it ends.

Crash-only: an unknown error ends the process with status 70, and the ledger makes the restart exact. A wrong setting, or
a stream that is not there, is status 2 and a sentence.
"""

import os
import sys
from collections.abc import Callable
from typing import NoReturn

from consumers.telemetry import Telemetry
from pipeline.config import Settings, load_settings
from pipeline.core.errors import ConfigProblem, HeadraceError, NotFound
from pipeline.facts import FactSink, WorkerCrashed
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


def crash(worker: str, exc: BaseException, tell: FactSink) -> NoReturn:
    """Tell of an unknown error by its type and place, and end the process at once; from any thread."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}" if frame else "?"  # noqa: PTH119
    # The message of a foreign error may quote a payload; ours never do.
    message = str(exc) if isinstance(exc, HeadraceError) else ""
    try:
        tell(WorkerCrashed(worker=worker, error=f"{type(exc).__name__} at {place} {message}".strip()))
    finally:
        os._exit(CRASHED)
