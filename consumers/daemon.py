"""KCL's MultiLangDaemon, supervised: `python -m consumers.daemon`, which `headrace worker --kcl` becomes.

The daemon (Java) leases shards and starts `consumers.kcl` for each. It ends when any child does, so it is started again:
at once, then slower, and not for ever (status 70). SIGTERM and SIGINT stop it in order: every shard is cut, committed and
checkpointed, then the process ends with status 0; a shard that did not manage in time makes that 70, and nothing is lost.

Standard error carries the children's facts unchanged and our own; what KCL itself warns of is told as `DaemonReported`.
The page for Prometheus is served here, from the children's facts: they are many, and the port is one.
"""

import os
import secrets
import shlex
import signal
import socket
import subprocess
import threading
import time
from contextlib import suppress
from functools import reduce
from operator import or_
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import msgspec

from pipeline.startup import light

light()

from consumers.daemon_files import LOGBACK, PROPERTIES, properties, write_files
from consumers.java import CLASSES, find_jars, find_java
from consumers.process import on_stop, run, started
from consumers.telemetry import Telemetry
from pipeline import wiring
from pipeline.config import Settings, as_environment
from pipeline.core.errors import HeadraceError
from pipeline.facts import (
    FACTS,
    DaemonEnded,
    DaemonReported,
    DaemonStarted,
    Fact,
    LoaderOpened,
    SegmentCommitted,
    SegmentFinished,
    ShardReleased,
    ShardsAwaited,
    WorkerCrashed,
)
from pipeline.machine.processes import death_signal, outside_environment
from pipeline.machine.restarts import Restarts

_NAME = "daemon"
_MAIN = "software.amazon.kinesis.multilang.MultiLangDaemon"
_KILL_SECONDS = 2  # after kcl.shutdown_seconds: all of a stop takes less than 30 seconds
_CHECK_SECONDS = 0.2
_UNUSED_SECONDS = 5  # for the stop of a daemon that has begun no shard: nothing is to be committed
_REPEAT_SECONDS = 30.0  # in which the same words are told once
_DOOMED_SECONDS = (
    5  # a daemon whose child died: its other shards drain, then it would only wait for its own threads
)
_MOURNER = "MultiLangShardRecordProcessor"  # the class that reports the death of a child, and ends the daemon
_SILENT_SECONDS = 30.0  # after a daemon's start without a shard it is told what that waits for
_LONGEST_START_SECONDS = 200  # measured, rounded up: after a stop of all workers; see docs/operations.md
_WAITS_FOR = (
    "a leader among the workers, and leases from it; there are none where other workers have all shards"
)
_MAX_TEXT = 300  # characters of what Java says
_LAST_WORDS = "headrace ", "Timeout ("  # of a child: its sentence about a setting, and the watchdog's
_decode = msgspec.json.Decoder(reduce(or_, FACTS)).decode


class Supervisor:
    """Keeps one daemon running until asked to stop.

    Args:
        command: starts it.
        environment: all of its, and so of its children's.
        folder: its working directory, with its files.
        shutdown_seconds: how long a stop may take before it is killed.
        telemetry: hears our facts, and the children's.
    """

    def __init__(
        self,
        command: list[str],
        environment: dict[str, str],
        folder: Path,
        shutdown_seconds: float,
        telemetry: Telemetry,
    ) -> None:
        self._command, self._environment, self._folder = command, environment, folder
        self._shutdown_seconds, self._telemetry = shutdown_seconds, telemetry
        self._stop = threading.Event()
        self._restarts = Restarts()
        self._open: set[str] = set()  # shards whose loader has begun and not let go
        self._begun = False  # a shard, since the daemon's start
        self._told: dict[tuple[str, str], float] = {}  # when Java's words were told
        self._telling = threading.Lock()
        self._progress = False  # something was committed since the daemon's start
        self._doomed_at: float | None = None
        self._broken: BaseException | None = None  # why one of its pipes is not read any more
        self._last_words = ""  # of a child of the daemon that ended last
        self._last_error = ""  # what Java said last at level ERROR

    def stop(self) -> None:
        """Ask for the end."""
        self._stop.set()

    def run(self) -> None:
        """Keep the daemon alive; on return it was asked to stop and every shard is committed.

        Raises:
            HeadraceError: it ended too often, or did not stop in time.
        """
        while not self._stop.is_set():
            began = time.monotonic()
            status = self._live()
            if self._stop.is_set():
                break
            self._telemetry.fact(DaemonEnded(status=status, seconds=round(time.monotonic() - began, 1)))
            if not self._restarts.died(time.monotonic(), progress=self._progress):
                raise HeadraceError(
                    f"KCL's daemon ended {self._restarts.limit} times {self._restarts.reason}, the last time with status "
                    f"{status}: {self._last_words or self._last_error or 'it said nothing'}"
                )
            while not self._restarts.due(time.monotonic()) and not self._stop.wait(_CHECK_SECONDS):
                pass
        if self._broken is not None:
            raise self._broken
        if self._open:
            raise HeadraceError(
                f"{len(self._open)} shards were not committed within {self._shutdown_seconds:g} seconds of the stop, "
                f"{min(self._open)} among them; nothing is lost: the next worker reads on from the ledger"
            )

    def _live(self) -> int:
        """Start the daemon, and stay until it has ended; return its exit status."""
        self._open.clear()
        self._doomed_at, self._progress, self._begun = None, False, False
        self._last_words, self._last_error = "", ""
        began, silent = time.monotonic(), True
        with subprocess.Popen(  # noqa: S603 - our own command
            self._command,
            cwd=self._folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C reaches us, who stop it in order
            preexec_fn=death_signal(os.getpid()),  # noqa: PLW1509 - calls the kernel only
        ) as daemon:
            readers = [
                threading.Thread(target=self._listen, args=(daemon.stderr, self._take_line)),
                threading.Thread(target=self._listen, args=(daemon.stdout, self._take_report)),
            ]
            for reader in readers:
                reader.start()
            while daemon.poll() is None and not self._stop.wait(_CHECK_SECONDS):
                if self._is_doomed():
                    daemon.kill()
                if silent and time.monotonic() - began > _SILENT_SECONDS:
                    silent = False
                    self._tell_silence()
            if self._stop.is_set():
                self._end(daemon)
            _end_orphans(daemon.pid)
            for reader in readers:
                reader.join()
            return daemon.wait()

    def _tell_silence(self) -> None:
        """Say what a daemon is at that has begun no shard; nobody else would."""
        if not self._begun:
            self._telemetry.fact(
                ShardsAwaited(
                    seconds=_SILENT_SECONDS, may_take_seconds=_LONGEST_START_SECONDS, waits_for=_WAITS_FOR
                )
            )

    def _is_doomed(self) -> bool:
        """True when a child has died, and the others had their time to drain."""
        return self._doomed_at is not None and time.monotonic() - self._doomed_at > _DOOMED_SECONDS

    def _end(self, daemon: subprocess.Popen[bytes]) -> None:
        daemon.terminate()  # its hook asks every child to shut down
        try:
            self._await_end(daemon)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    def _await_end(self, daemon: subprocess.Popen[bytes]) -> None:
        whole = self._shutdown_seconds + _KILL_SECONDS
        unused = min(whole, _UNUSED_SECONDS)
        try:
            daemon.wait(unused)
        except subprocess.TimeoutExpired:
            if not self._begun:
                raise
            daemon.wait(whole - unused)

    def _listen(self, stream: IO[bytes], take: Any) -> None:
        try:
            for line in stream:
                take(line)
        except BaseException as exc:  # noqa: BLE001 - the boundary of a thread: `run` raises it
            self._broken = exc
            self._stop.set()
            for _ in stream:  # a daemon whose pipe is full would not end
                pass

    def _take_line(self, line: bytes) -> None:
        """Pass on a child's fact as it is; anything else on standard error is told as a report."""
        try:
            fact: Fact = _decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._report("stderr", line.decode(errors="replace"))
            return
        match fact:
            case LoaderOpened():
                self._begun = True
                self._open.add(fact.shard_id)
            case ShardReleased():
                self._open.discard(fact.shard_id)
            case SegmentCommitted() | SegmentFinished():
                self._progress = True
            case WorkerCrashed():
                self._last_words = fact.error
        self._telemetry.relay(line, fact)

    def _take_report(self, line: bytes) -> None:
        """Tell what the daemon logged: level, class, text, class of the error; see `daemon_files.logback`."""
        level, *parts = line.decode(errors="replace").rstrip("\n").split("\t")
        source, *text = parts or ("stdout", level)
        if parts and level == "ERROR":
            said, kind = " ".join(text[:1]), " ".join(text[1:]).strip()
            self._last_error = f"{source} reported {f'{kind}: ' if kind else ''}{said}"[:_MAX_TEXT]
        if source == _MOURNER:
            self._doomed_at = self._doomed_at or time.monotonic()
        self._report(source, " ".join(text))

    def _report(self, source: str, text: str) -> None:
        text = " ".join(text.split())[:_MAX_TEXT]
        if text:
            if text.startswith(_LAST_WORDS):
                self._last_words = text
            if not self._is_repeat(source, text):
                self._telemetry.fact(DaemonReported(source=source, text=text))

    def _is_repeat(self, source: str, text: str) -> bool:
        """True when the same was told a moment ago: Java repeats itself while it tries again."""
        now = time.monotonic()
        with self._telling:
            self._told = {words: at for words, at in self._told.items() if now - at < _REPEAT_SECONDS}
            if (source, text) in self._told:
                return True
            self._told[source, text] = now
        return False


def _end_orphans(group: int) -> None:
    """Kill what an ended daemon left in its process group.

    A child sees the end of its pipe and ends by itself, unless it hangs. The ledger makes a kill exact. A signal at the
    parent's death will not do: it is bound to the thread of Java that started the child, and that ends earlier.
    """
    with suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def daemon_command(java: str, jars: Path, settings: Settings) -> list[str]:
    """Return the command that starts the daemon in the folder of its files."""
    options = [
        # Its pipes are UTF-8 whatever the locale: in a C locale Java would put ? for letters of a partition key.
        "-Dfile.encoding=UTF-8",
        "-Dsun.stderr.encoding=UTF-8",
        "-Dstderr.encoding=UTF-8",
        *shlex.split(settings.kcl.java_options or ""),
    ]
    if settings.aws.endpoint_url is not None:
        options.append("-Daws.cborEnabled=false")  # emulators read JSON
    return [java, *options, "-cp", f"{CLASSES}{os.pathsep}{jars}/*", _MAIN, "-p", PROPERTIES, "-l", LOGBACK]


def daemon_environment(settings: Settings) -> dict[str, str]:
    """Return the daemon's environment: our settings for the children, and the keys under the names that Java looks for."""
    keys = settings.aws.access_key_id, settings.aws.secret_access_key
    outside = outside_environment(with_aws=None in keys)
    for name, key in zip(("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"), keys, strict=True):
        if key is not None:
            outside[name] = key.get_secret_value()
    if settings.aws.endpoint_url is not None:
        outside["AWS_CBOR_ENABLED"] = "false"
    return outside | as_environment(settings)


def main(settings: Settings, telemetry: Telemetry) -> None:
    """Supervise a daemon until asked to stop."""
    java, jars = find_java(), find_jars()
    rules, stream = (
        wiring.rules(settings),
        wiring.stream(settings),
    )  # a wrong setting ends us, and not child by child
    worker_id = (
        f"{socket.gethostname()}-{secrets.token_hex(4)}"  # kept over restarts: its leases are its own at once
    )
    values = properties(settings, stream.epoch, worker_id)
    with TemporaryDirectory(prefix="headrace-kcl-") as folder:
        write_files(Path(folder), values)
        supervisor = Supervisor(
            daemon_command(java, jars, settings),
            daemon_environment(settings),
            Path(folder),
            settings.kcl.shutdown_seconds,
            telemetry,
        )
        on_stop(supervisor.stop)
        started(settings, telemetry, rules.digest)
        telemetry.fact(
            DaemonStarted(
                application=values["applicationName"],
                worker_id=worker_id,
                retrieval=settings.kcl.retrieval,
            )
        )
        supervisor.run()


if __name__ == "__main__":
    run(_NAME, main, spoken="headrace")  # whoever typed `headrace worker` knows of no other
