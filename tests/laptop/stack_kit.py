"""What the tests of the local stack share: a loader of ten lines, and programs that run a stack."""

import http.client
import json
import signal
import subprocess
import sys
from pathlib import Path

from pipeline.laptop import emulator
from pipeline.laptop.emulator import ask
from pipeline.laptop.home import Home
from pipeline.laptop.launch import Launch, local_stack
from pipeline.laptop.stack import Stack
from pipeline.laptop.stopping import down
from pipeline.machine.processes import alive, send, wait_until

LOADER = """
import os, pathlib, signal, sys, time
home = pathlib.Path(os.environ["HEADRACE_HOME"])
def end(*_):
    (home / "drained").write_text(os.environ["HEADRACE_AWS__ENDPOINT_URL"])
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
(home / "run" / "loader.json").write_text('{"pid": %d}' % os.getpid())
while True:
    time.sleep(60)
"""
DYING_LOADER = "raise SystemExit(3)"
FOREGROUND = """
import sys, time, pathlib
sys.path.insert(0, {repository!r})
from tests.laptop.stack_kit import launch_in, local_stack
with local_stack(launch_in(pathlib.Path({home!r}))):
    print("running", flush=True)
    time.sleep(60)
"""


def launch_in(
    folder: Path, *, port: int | None = None, fresh: bool = False, detach: bool = False, loader: str = LOADER
) -> Launch:
    return Launch(
        home=Home(folder),
        provision=lambda _endpoint: None,
        say=lambda _line: None,
        loader_command=[sys.executable, "-c", loader],
        port=port,
        fresh=fresh,
        detach=detach,
    )


def start_detached(folder: Path, *, fresh: bool = False) -> Stack:
    with local_stack(launch_in(folder, detach=True, fresh=fresh)) as running:
        return running.stack


def kinesis(stack: Stack, action: str, **arguments: object) -> dict[str, object]:
    headers = {"X-Amz-Target": f"Kinesis_20131202.{action}", "Content-Type": "application/x-amz-json-1.1"}
    answer = ask(stack.port, "/", headers | emulator._credential("kinesis"), json.dumps(arguments).encode())
    return dict(json.loads(answer)) if answer else {}


def put_object(stack: Stack, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection(emulator.HOST, stack.port, timeout=5)
    connection.request("PUT", path, body, emulator._credential("s3"))
    assert connection.getresponse().status == http.client.OK
    connection.close()


def streams(stack: Stack) -> object:
    return kinesis(stack, "ListStreams")["StreamNames"]


def stop(folder: Path, *, erase: bool = False) -> list[str]:
    lines: list[str] = []
    down(Home(folder), erase=erase, say=lines.append)
    return lines


def kill_emulator(stack: Stack) -> None:
    assert stack.emulator is not None
    send(stack.emulator, signal.SIGKILL)
    assert wait_until(lambda: not alive(stack.emulator), 5)


def foreground_code(folder: Path) -> str:
    return FOREGROUND.format(repository=str(Path(__file__).parents[2]), home=str(folder))


def start_foreground(folder: Path) -> subprocess.Popen[str]:
    code = foreground_code(folder)
    program = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a process group of its own, as a terminal gives one
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "running\n"
    return program


def close(program: subprocess.Popen[str]) -> str:
    _, errors = program.communicate(timeout=60)
    return errors
