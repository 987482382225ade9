"""All shards of the stream in one process: `python -m consumers.reader`.

One thread per shard. Crash-only: an unknown error in any thread ends the process with status 70, and the ledger
makes the restart exact. SIGTERM and SIGINT drain: what is collected is cut and committed, then the process ends
with status 0.
"""

import shutil
import threading
from dataclasses import replace

from pipeline.startup import light

light()

from consumers.heartbeat import Heartbeat
from consumers.process import crash, on_stop, run, started
from consumers.telemetry import Telemetry
from consumers.watchdog import Watchdogs
from pipeline.config import Settings
from pipeline.core.errors import ConfigProblem
from pipeline.core.segment import Lineage
from pipeline.facts import LagMeasured
from pipeline.flows.load import Loader
from pipeline.flows.read import ReadPorts, Shards, load_shard
from pipeline.ports.clock import SystemClock
from pipeline.wiring import LoaderParts, loader_parts

_NAME = "reader"
_HEARTBEAT_SECONDS = 0.5
_MIN_FREE_BYTES = 128 * 2**20  # far more than a loader writes between two looks
_DISCOVER_SECONDS = 5.0  # between two looks for new shards
_IDLE_SECONDS = 0.25  # once everything is read; Kinesis allows five reads a second and shard


class Reader:
    """The running process: its threads, its heartbeat, its end."""

    def __init__(self, settings: Settings, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._stop = threading.Event()
        self._home, self._local = settings.paths.home, settings.aws.endpoint_url is not None
        folder = settings.paths.home / "run"
        folder.mkdir(parents=True, exist_ok=True)
        self._heartbeat = Heartbeat(folder / "loader.json")
        telemetry.add(self._heartbeat.note)
        self._clock = SystemClock(self._stop)
        self._parts: LoaderParts = loader_parts(settings, self._clock, telemetry.fact, telemetry.span_sink)
        self._ports = ReadPorts(
            self._parts.stream, self._parts.ports.ledger, self._clock, telemetry.fact, self._stop.is_set
        )
        self._watchdogs = Watchdogs(settings.worker.hang_seconds, self._clock.monotonic)
        self._loader_ports = replace(self._parts.ports, computing=self._watchdogs.computing)
        self._loaders: list[Loader] = []
        self._threads: list[threading.Thread] = []

    @property
    def rules_digest(self) -> str:
        """Return the name of the rules that events are judged by."""
        return self._parts.rules().digest

    def run(self) -> None:
        """Load until asked to stop; on return everything collected is committed."""
        shards, looked_at = Shards(self._ports), -_DISCOVER_SECONDS
        self._watchdogs.start()
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
            while thread.is_alive():
                self._beat()
                thread.join(_HEARTBEAT_SECONDS)
        self._beat()
        self._watchdogs.stop()

    def stop(self) -> None:
        """Ask for the end."""
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
        loader = Loader(lineage, self._parts.rules, self._parts.limits, self._loader_ports)
        self._loaders.append(loader)
        thread = threading.Thread(target=self._load, args=(loader,), name=lineage.shard_id, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _load(self, loader: Loader) -> None:
        shard_id, tell = loader.lineage.shard_id, self._telemetry.fact
        try:
            load_shard(
                loader,
                self._ports,
                _IDLE_SECONDS,
                lambda behind_ms: tell(LagMeasured(shard_id=shard_id, behind_seconds=behind_ms / 1_000)),
            )
        except BaseException as exc:  # noqa: BLE001 - a process boundary: log, and end the whole process
            crash(_NAME, exc, tell)

    def _beat(self) -> None:
        write_units, s3_puts = self._parts.meter.dynamodb_write_units, self._parts.meter.s3_puts
        self._telemetry.writes(write_units, s3_puts)
        self._heartbeat.write(
            now_us=self._clock.now_us(),
            pending_units=sum(loader.pending_units for loader in self._loaders),
            write_units=write_units,
            s3_puts=s3_puts,
            rules=self.rules_digest,
        )


def main(settings: Settings, telemetry: Telemetry) -> None:
    """Run the reader until it is asked to stop."""
    reader = Reader(settings, telemetry)
    on_stop(reader.stop)
    started(settings, telemetry, reader.rules_digest)
    reader.run()


if __name__ == "__main__":
    run(_NAME, main)
