"""The supervisor over a daemon of ten lines, and what a real one is told: no Java here."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from consumers import daemon, daemon_files, telemetry
from consumers.daemon import Supervisor
from consumers.java import MIN_JAVA, find_jars, find_java
from consumers.telemetry import Telemetry
from pipeline.config import Settings, load_settings
from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.facts import DaemonEnded
from pipeline.laptop.emulator import free_port
from pipeline.machine import restarts
from pipeline.machine.processes import alive, process_ref, wait_until
from pipeline.machine.restarts import Restarts

OPENED = (
    '{"time":"t","level":"INFO","fact":"LoaderOpened","lineage":"0001","shard_id":"s0","ordinal":3,"new":1}'
)
RELEASED = '{"fact":"ShardReleased","lineage":"0001","shard_id":"s0","reason":"stop","units":0}'
COMMITTED = (
    '{"fact":"SegmentCommitted","lineage":"0001","ordinal":4,"reason":"rows","records":1,"rows":42,"duplicates":0,'
    '"quarantined":0,"files":1,"bytes":9,"seconds":0.1}'
)
FAKE = """
import os, signal, sys, time
def say(line): print(line, file=sys.stderr, flush=True)
def end(*_):
    {at_end}
    os._exit(143)
signal.signal(signal.SIGTERM, end)
{first}
while True: time.sleep(60)
"""


def _settings(folder: Path, **more: str) -> Settings:
    return load_settings(environ={"HEADRACE_HOME": str(folder), **more})


def _fake(first: str = "", at_end: str = "") -> list[str]:
    return [sys.executable, "-c", FAKE.format(first=first, at_end=at_end or "pass")]


class Run:
    """A supervisor in a thread of its own, and how it ended."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor, self.error = supervisor, ""
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except (HeadraceError, OSError) as exc:
            self.error = str(exc)

    def stop(self) -> str:
        """Ask for the end and wait; return what went wrong."""
        self.supervisor.stop()
        return self.wait()

    def wait(self) -> str:
        """Wait for the end."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.error


Supervise = Callable[..., Run]


@pytest.fixture
def supervise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Supervise]:
    """Run supervisors; those that still run are stopped after the test."""
    monkeypatch.setattr(
        daemon, "death_signal", lambda _parent: None
    )  # it is bound to the thread, and ours ends
    made: list[Run] = []

    def start(command: list[str], seconds: float = 10, limit: int = 3, **more: str) -> Run:
        told = Telemetry(_settings(tmp_path, **more), "daemon")
        told.__enter__()
        supervisor = Supervisor(command, dict(os.environ), tmp_path, seconds, told)
        supervisor._restarts = Restarts(limit)
        made.append(Run(supervisor))
        return made[-1]

    yield start
    for run in made:
        run.stop()


class _Said:
    """What was written to standard error so far."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self._capfd, self.text = capfd, ""

    def has(self, word: str) -> bool:
        self.text += self._capfd.readouterr().err
        return word in self.text


def test_a_stop_in_order(supervise: Supervise, capfd: pytest.CaptureFixture[str]) -> None:
    """TERM reaches the daemon, its shards say that they are released, and children's lines come out as they are."""
    said, run = _Said(capfd), supervise(_fake(f"say({OPENED!r})", f"say({RELEASED!r})"))
    assert wait_until(lambda: said.has(OPENED), 20)
    assert run.stop() == ""
    assert said.has(RELEASED + "\n")


def test_a_shard_that_was_not_committed_in_time(
    supervise: Supervise, capfd: pytest.CaptureFixture[str]
) -> None:
    """A daemon that does not let go of its shards, or does not end, is no stop in order."""
    said, run = _Said(capfd), supervise(_fake(f"say({OPENED!r})"))
    assert wait_until(lambda: said.has("LoaderOpened"), 20)
    assert "1 shards were not committed" in run.stop()
    said, run = _Said(capfd), supervise(_fake(f"say({OPENED!r})", "time.sleep(60)"), seconds=0.1)
    assert wait_until(lambda: said.has("LoaderOpened"), 20)
    assert "s0 among them" in run.stop()


def test_a_daemon_that_dies_is_started_again(
    supervise: Supervise, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Until it runs; each end is told with its status."""
    once = f"import pathlib; p = pathlib.Path({str(tmp_path / 'died')!r})\nif not p.exists(): p.touch(); os._exit(7)"
    said, run = _Said(capfd), supervise(_fake(f"{once}\nsay({OPENED!r})", f"say({RELEASED!r})"))
    assert wait_until(lambda: said.has("LoaderOpened"), 20)
    assert '"fact":"DaemonEnded","status":7,' in said.text
    assert run.stop() == ""


def test_the_budget_of_restarts(supervise: Supervise) -> None:
    """A daemon that always dies ends the supervisor, which repeats the last reason it heard."""
    crashed = '{"fact":"WorkerCrashed","worker":"kcl","error":"Corrupt at s3.py:7 the reason"}'
    run = supervise(_fake(f"say({crashed!r}); os._exit(1)"), limit=2)
    error = run.wait()
    assert (
        "ended 2 times within a minute, the last time with status 1: Corrupt at s3.py:7 the reason" in error
    )
    run = supervise(_fake("say('headrace kcl: events.tenants is wrong'); os._exit(1)"), limit=1)
    assert "events.tenants is wrong" in run.wait()


def test_a_stop_before_the_first_shard(
    supervise: Supervise, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is to be committed: a daemon that is still busy with its own start is not waited for."""
    monkeypatch.setattr(daemon, "_UNUSED_SECONDS", 0.1)
    said, run = _Said(capfd), supervise(_fake("print('here', flush=True)", "time.sleep(600)"), seconds=600)
    assert wait_until(lambda: said.has("here"), 20)
    assert run.stop() == ""


def test_what_java_repeats(
    supervise: Supervise, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words of the same class are told once in a while, other words at once."""
    first = "for one in 'a a a b a end'.split(): print('WARN', 'Scheduler', one, '', sep=chr(9), flush=True)"
    for seconds, told in ((60.0, ["a", "b", "end"]), (0.0, ["a", "a", "a", "b", "a", "end"])):
        monkeypatch.setattr(daemon, "_REPEAT_SECONDS", seconds)
        said = _Said(capfd)
        run = supervise(_fake(first))
        assert wait_until(lambda said=said: said.has('"text":"end"'), 20)  # type: ignore[misc]
        run.stop()
        lines = [json.loads(line) for line in said.text.splitlines()]
        assert [one["text"] for one in lines if one["fact"] == "DaemonReported"] == told


def test_deaths_without_progress(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far apart: a daemon that commits nothing is not started for ever, one that does is."""
    monkeypatch.setattr(restarts, "WINDOW_SECONDS", 0.0)
    monkeypatch.setattr(restarts, "FIRST_DELAY_SECONDS", 0.0)
    crashed = '{"fact":"WorkerCrashed","worker":"kcl","error":"Corrupt at s3.py:7 the reason"}'
    error = supervise(_fake(f"say({crashed!r}); os._exit(1)"), limit=2).wait()
    assert "ended 2 times within an hour without a commit, the last time with status 1: Corrupt" in error
    run = supervise(_fake(f"say({COMMITTED!r}); os._exit(1)"), limit=2)
    ended = 0

    def hear(fact: object) -> None:
        nonlocal ended
        ended += isinstance(fact, DaemonEnded)

    run.supervisor._telemetry.add(hear)
    assert wait_until(lambda: ended > 2, 20)
    assert run.stop() == ""


def test_a_log_that_cannot_be_written(supervise: Supervise, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the daemon is stopped in order, not left waiting at a full pipe, and the reason is told."""
    written = 0

    def full(_line: bytes) -> None:
        nonlocal written
        written += 1
        if written == 2:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(telemetry, "to_stderr", full)
    run = supervise(_fake(f"while True: say({OPENED!r} + ' ' * 900)"))
    assert "No space left on device" in run.wait()


def test_a_child_that_hangs_does_not_outlive_the_daemon(supervise: Supervise, tmp_path: Path) -> None:
    """It takes no signal but one, and sees no end of its pipe; Java is gone."""
    written = tmp_path / "pid"
    child = (
        "import os, pathlib, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        f"pathlib.Path({str(written)!r}).write_text(str(os.getpid())); time.sleep(600)"
    )
    first = f"import pathlib, subprocess; subprocess.Popen([sys.executable, '-c', {child!r}], stderr=subprocess.DEVNULL)"
    wait = f"while not pathlib.Path({str(written)!r}).exists(): time.sleep(.02)"
    assert "ended 1 times" in supervise(_fake(f"{first}\n{wait}\nos._exit(1)"), limit=1).wait()
    assert wait_until(lambda: process_ref(int(written.read_text())) is None, 10)


def test_a_stop_between_two_starts(supervise: Supervise, capfd: pytest.CaptureFixture[str]) -> None:
    """While it waits to start the daemon again it ends at once, in order."""
    said, run = _Said(capfd), supervise(_fake("os._exit(1)"), limit=9)
    assert wait_until(lambda: said.has("DaemonEnded"), 20)
    assert run.stop() == ""


def test_a_daemon_that_cannot_end(
    supervise: Supervise, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a child has died the Java side may wait for itself: it is given a little time, then killed."""
    monkeypatch.setattr(daemon, "_DOOMED_SECONDS", 0.1)
    report = "ERROR\tMultiLangShardRecordProcessor\tEncountered an error\tjava.lang.RuntimeException"
    said, run = _Said(capfd), supervise(_fake(f"print({report!r}, flush=True)"), limit=1)
    assert "status -9" in run.wait()
    assert said.has('"text":"Encountered an error java.lang.RuntimeException"')


def test_what_java_says(supervise: Supervise, capfd: pytest.CaptureFixture[str]) -> None:
    """Its own words come as facts, cut to a line and a length; whatever they hold, every line is JSON."""
    lines = ["WARN\tScheduler\ta {b}\t", "no tabs", "x" * 5_000]
    first = f"for one in {lines!r}: print(one, flush=True)\nsay('Picked up \\x1b[31m options'); say('')\nsay({COMMITTED!r})"
    said, run = _Said(capfd), supervise(_fake(first))
    assert wait_until(lambda: said.has("Picked up") and said.has("SegmentCommitted") and said.has("xxx"), 20)
    run.stop()
    found = [json.loads(line) for line in said.text.splitlines()]
    reports = {(one["source"], one["text"]) for one in found if one["fact"] == "DaemonReported"}
    assert reports == {
        ("Scheduler", "a {b}"),
        ("stdout", "no tabs"),
        ("stdout", "x" * 300),
        ("stderr", "Picked up \x1b[31m options"),
    }


def test_the_page_shows_the_children(supervise: Supervise) -> None:
    """One port for all of them: their facts are counted where the supervisor serves."""
    port = free_port()
    supervise(_fake(f"say({COMMITTED!r}); say({COMMITTED!r})"), HEADRACE_METRICS__PROMETHEUS_PORT=str(port))

    def rows() -> bool:
        with suppress(URLError), urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return b'headrace_rows_total{worker="daemon"} 84.0' in answer.read()
        return False

    assert wait_until(rows, 20)


def test_a_killed_supervisor_takes_the_daemon_along(tmp_path: Path) -> None:
    """The kernel tells the daemon, which drains."""
    code = (
        "import os, pathlib\nfrom consumers.daemon import Supervisor\nfrom consumers.telemetry import Telemetry\n"
        "from pipeline.config import load_settings\n"
        f"Supervisor({_fake('print(os.getpid(), file=open(sys.argv[1], chr(119)), flush=True)')!r} + "
        f"[{str(tmp_path / 'pid')!r}], dict(os.environ), pathlib.Path({str(tmp_path)!r}), 5, "
        "Telemetry(load_settings(), 'daemon')).run()"
    )
    program = subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2])
    written = tmp_path / "pid"
    assert wait_until(lambda: written.exists() and written.read_text() != "", 20)
    child = process_ref(int(written.read_text()))
    program.kill()
    program.wait()
    assert wait_until(lambda: not alive(child), 10)


# What the daemon is told ------------------------------------------------------------------------------------


def _properties(folder: Path, **more: str) -> dict[str, str]:
    return daemon_files.properties(_settings(folder, **more), "1795235210000", "host-1")


def test_the_properties(tmp_path: Path) -> None:
    """All that the promises rest on: the beginning, empty batches, both time-outs; nothing of keys or threads."""
    found = _properties(
        tmp_path,
        HEADRACE_AWS__ACCESS_KEY_ID="id",
        HEADRACE_AWS__SECRET_ACCESS_KEY="hush-hush",
        HEADRACE_KCL__PROPERTIES="maxLeasesForWorker=3, parentShardPollIntervalMillis = 500",
    )
    assert found == {
        "applicationName": "headrace-loader-1795235210000",
        "streamName": "headrace-events",
        "workerId": "host-1",
        "executableName": "sh child.sh",
        "processingLanguage": f"python/3.{sys.version_info.minor}",
        "initialPositionInStream": "TRIM_HORIZON",
        "awsCredentialsProvider": "DefaultCredentialsProvider",
        "regionName": "us-east-1",
        "retrievalMode": "POLLING",
        "callProcessRecordsEvenForEmptyRecordList": "true",
        "timeoutInSeconds": "300",
        "shutdownGraceMillis": "25000",
        "failoverTimeMillis": "10000",
        "metricsLevel": "NONE",
        "idleTimeBetweenReadsInMillis": "1000",
        "maxLeasesForWorker": "3",
        "parentShardPollIntervalMillis": "500",
    }


def test_properties_of_an_endpoint(tmp_path: Path) -> None:
    """Every service is reached there; fan-out knows no idle time."""
    found = _properties(
        tmp_path, HEADRACE_AWS__ENDPOINT_URL="http://127.0.0.1:4566", HEADRACE_KCL__RETRIEVAL="fanout"
    )
    assert found["retrievalMode"] == "FANOUT"
    assert "idleTimeBetweenReadsInMillis" not in found
    assert [name for name, value in found.items() if value == "http://127.0.0.1:4566"] == [
        "kinesisEndpoint",
        "dynamoDBEndpoint",
        "cloudWatchClient.endpointOverride",
    ]


@pytest.mark.parametrize(
    "given", ["initialPositionInStream=LATEST", "maxActiveThreads=2", "streamArn=a", "x", "=1"]
)
def test_properties_that_are_refused(tmp_path: Path, given: str) -> None:
    """Those that carry a promise, and those that are none."""
    with pytest.raises(ConfigProblem, match=r"^kcl\.properties: "):
        _properties(tmp_path, HEADRACE_KCL__PROPERTIES=given)


def test_the_file_of_properties() -> None:
    """As java.util.Properties reads bytes: blanks, backslashes and letters beyond ASCII survive."""
    assert (
        daemon_files.as_properties({"a": "b", "c": " d\\e\nü😀"})
        == "a = b\nc = \\ d\\\\e\\n\\u00fc\\ud83d\\ude00\n"
    )


def test_the_command_of_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Python in a folder with a blank is one word to the shell; KCL would have split it."""
    monkeypatch.setattr(sys, "executable", "/opt/my env/bin/python")
    assert daemon_files.child_script() == "exec '/opt/my env/bin/python' -P -m consumers.kcl\n"


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys travel under the names that Java knows and in no file; what was set for another AWS does not."""
    monkeypatch.setenv("AWS_PROFILE", "other")
    settings = _settings(
        tmp_path,
        HEADRACE_AWS__ACCESS_KEY_ID="id",
        HEADRACE_AWS__SECRET_ACCESS_KEY="hush-hush",
        HEADRACE_AWS__ENDPOINT_URL="http://127.0.0.1:4566",
    )
    found = daemon.daemon_environment(settings)
    assert "AWS_PROFILE" not in found
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("id", "hush-hush")
    assert found["AWS_CBOR_ENABLED"] == "false"
    assert found["HEADRACE_AWS__ENDPOINT_URL"] == "http://127.0.0.1:4566"
    assert daemon.daemon_environment(_settings(tmp_path))["AWS_PROFILE"] == "other"
    command = daemon.daemon_command("java", tmp_path, settings)
    assert "hush-hush" not in " ".join(command)
    assert {"-Dfile.encoding=UTF-8", "-Daws.cborEnabled=false"} <= set(command)


def test_our_class_comes_before_the_jars(tmp_path: Path) -> None:
    """Where a jar had one of that name it would be the one taken, and KCL would drop what it cannot take apart."""
    command = daemon.daemon_command("java", tmp_path, _settings(tmp_path))
    ours, *jars = command[command.index("-cp") + 1].split(os.pathsep)
    assert (Path(ours) / "javax/xml/bind/DatatypeConverter.class").is_file()
    assert jars == [f"{tmp_path}/*"]


def _java(folder: Path, version: str) -> Mapping[str, str]:
    (folder / "bin").mkdir()
    java = folder / "bin" / "java"
    java.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    java.chmod(0o755)
    return {"JAVA_HOME": str(folder)}


@pytest.mark.parametrize("version", ['openjdk version "17.0.15" 2025-04-15', 'java version "11.0.2"'])
def test_a_java_that_will_do(tmp_path: Path, version: str) -> None:
    """From 11 on."""
    assert find_java(_java(tmp_path, version)) == str(tmp_path / "bin" / "java")


def test_a_java_that_will_not_do(tmp_path: Path) -> None:
    """None, one that is too old, one that says nothing: each names the next step."""
    with pytest.raises(ConfigProblem, match=r"no java on PATH: install one"):
        find_java({"PATH": str(tmp_path)})
    with pytest.raises(ConfigProblem, match=r"has no bin/java"):
        find_java({"JAVA_HOME": str(tmp_path)})
    old = _java(tmp_path, 'java version "1.8.0_402"')
    with pytest.raises(ConfigProblem, match=rf"is Java 8, KCL's daemon needs {MIN_JAVA}"):
        find_java(old)
    (tmp_path / "bin" / "java").write_text("#!/bin/sh\n")
    with pytest.raises(ConfigProblem, match="says its version"):
        find_java(old)


def test_jars_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is not installed, or came without its jars: the message says how to get them, and from a mirror."""
    (tmp_path / "amazon_kclpy").mkdir()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    sys.modules.pop("amazon_kclpy", None)
    with pytest.raises(
        ConfigProblem,
        match=r"not installed: pip install 'headrace\[kcl\]', in a clone .* \(KCL_MVN_REPO_SEARCH_URL",
    ):
        find_jars()
    (tmp_path / "amazon_kclpy" / "__init__.py").touch()
    with pytest.raises(ConfigProblem, match="holds no KCL"):
        find_jars()
    assert "amazon_kclpy" not in sys.modules
    (tmp_path / "amazon_kclpy" / "jars").mkdir()
    (tmp_path / "amazon_kclpy" / "jars" / "amazon-kinesis-client-multilang-3.1.3.jar").touch()
    assert find_jars() == tmp_path / "amazon_kclpy" / "jars"


def test_misuse_is_status_2(tmp_path: Path) -> None:
    """`headrace worker --kcl` without Java: a sentence, before anything is started."""
    environment = {
        "PATH": "/nowhere",
        "HEADRACE_HOME": str(tmp_path),
        "HEADRACE_AWS__ENDPOINT_URL": "http://127.0.0.1:9",
    }
    answer = subprocess.run(
        [sys.executable, "-m", "pipeline.cli.main", "worker", "--kcl"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("headrace: KCL's daemon needs Java")
