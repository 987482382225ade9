"""All shards of the stream in one process: `python -m consumers.reader`.

One thread per shard. Crash-only: an unknown error in any thread ends the process with status 70, and the ledger
makes the restart exact. SIGTERM and SIGINT drain: what is collected is cut and committed, then the process ends
with status 0.
"""

import gc
import os
import shutil
import signal
import sys
import threading
from types import FrameType

from pipeline.startup import light

light()

from consumers.fact_log import log
from consumers.heartbeat import Heartbeat
from pipeline import __version__
from pipeline.config import Settings, load_settings
from pipeline.core.errors import ConfigProblem, HeadraceError, NotFound
from pipeline.core.segment import Lineage
from pipeline.facts import Fact, WorkerCrashed, WorkerStarted, WorkerStopped
from pipeline.flows.load import Loader
from pipeline.flows.read import ReadPorts, Shards, load_shard
from pipeline.ports.clock import SystemClock
from pipeline.wiring import LoaderParts, loader_parts

_CRASHED = 70  # EX_SOFTWARE of sysexits.h
_HEARTBEAT_SECONDS = 0.5
_MIN_FREE_BYTES = 128 * 2**20  # far more than a loader writes between two looks
_DISCOVER_SECONDS = 5.0  # between two looks for new shards
_IDLE_SECONDS = 0.25  # once everything is read; Kinesis allows five reads a second and shard


class Reader:
    """The running process: its threads, its heartbeat, its end."""

    def __init__(self, settings: Settings) -> None:
        self._stop = threading.Event()
        self._home, self._local = settings.paths.home, settings.aws.endpoint_url is not None
        run = settings.paths.home / "run"
        run.mkdir(parents=True, exist_ok=True)
        self._heartbeat = Heartbeat(run / "loader.json")
        self._clock = SystemClock(self._stop)
        self._parts: LoaderParts = loader_parts(settings, self._clock, self._fact)
        self._ports = ReadPorts(
            self._parts.stream, self._parts.ports.ledger, self._clock, self._fact, self._stop.is_set
        )
        self._loaders: list[Loader] = []
        self._threads: list[threading.Thread] = []

    @property
    def rules_digest(self) -> str:
        """Return the name of the rules that events are judged by."""
        return self._parts.rules.digest

    def run(self) -> None:
        """Load until asked to stop; on return everything collected is committed."""
        shards, looked_at = Shards(self._ports), -_DISCOVER_SECONDS
        while not self._stop.is_set():
            self._loaders = [loader for loader in self._loaders if not loader.ended]
            if self._clock.monotonic() - looked_at >= _DISCOVER_SECONDS:
                for lineage in shards.ready():
                    self._start(lineage)
                looked_at = self._clock.monotonic()
            self._beat()
            self._refuse_full_disk()
            self._clock.idle(_HEARTBEAT_SECONDS)
        for thread in self._threads:
            thread.join()
        self._beat()

    def stop(self, _signal: int, _frame: FrameType | None) -> None:
        """Ask for the end (a signal handler)."""
        self._stop.set()

    def _refuse_full_disk(self) -> None:
        """Stop before the disk of a local stack is full: the emulator answers a put that it could not keep with 200.

        Raises:
            ConfigProblem: little room is left; what is not committed stays in the stream.
        """
        free = shutil.disk_usage(self._home).free if self._local else _MIN_FREE_BYTES
        if free < _MIN_FREE_BYTES:
            raise ConfigProblem(
                f"the disk of {self._home} has {free >> 20} MiB free, loading needs {_MIN_FREE_BYTES >> 20} MiB: free some "
                "space and run `headrace down`, then `headrace up`; nothing is lost"
            )

    def _start(self, lineage: Lineage) -> None:
        loader = Loader(lineage, self._parts.rules, self._parts.limits, self._parts.ports)
        self._loaders.append(loader)
        thread = threading.Thread(target=self._load, args=(loader,), name=lineage.shard_id, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _load(self, loader: Loader) -> None:
        shard_id = loader.lineage.shard_id
        try:
            load_shard(loader, self._ports, _IDLE_SECONDS, lambda ms: self._heartbeat.behind(shard_id, ms))
        except BaseException as exc:  # noqa: BLE001 - a process boundary: log, and end the whole process
            crash(exc)

    def _beat(self) -> None:
        self._heartbeat.write(
            now_us=self._clock.now_us(),
            pending_units=sum(loader.pending_units for loader in self._loaders),
            write_units=self._parts.meter.dynamodb_write_units,
            s3_puts=self._parts.meter.s3_puts,
        )

    def _fact(self, fact: Fact) -> None:
        log(fact)
        self._heartbeat.note(fact)


def crash(exc: BaseException) -> None:
    """Log an unknown error by its type and place, and end the process at once."""
    frame = exc.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    place = f"{os.path.basename(frame.tb_frame.f_code.co_filename)}:{frame.tb_lineno}" if frame else "?"  # noqa: PTH119
    # The message of a foreign error may quote a payload; ours never do.
    message = str(exc) if isinstance(exc, HeadraceError) else ""
    log(WorkerCrashed(worker="reader", error=f"{type(exc).__name__} at {place} {message}".strip()))
    os._exit(_CRASHED)


def main() -> None:
    """Run the reader with the settings of environment and file."""
    settings = load_settings()
    gc.freeze()  # what is imported stays: the collector need not look at it again
    reader = Reader(settings)
    signal.signal(signal.SIGTERM, reader.stop)
    signal.signal(signal.SIGINT, reader.stop)
    log(
        WorkerStarted(
            worker="reader",
            version=__version__,
            rules=reader.rules_digest,
            endpoint=settings.aws.endpoint_url or "aws",
        )
    )
    reader.run()
    log(WorkerStopped(worker="reader"))


if __name__ == "__main__":
    try:
        main()
    except (ConfigProblem, NotFound) as problem:
        sys.stderr.write(f"headrace reader: {problem}\n")
        sys.exit(2)
    except Exception as problem:  # noqa: BLE001 - a process boundary
        crash(problem)
