"""The emulator of AWS on this machine: `ministack`, one process on one loopback port.

It keeps streams and tables in memory. Asked to end (SIGTERM) it saves them to `state/`, file by file, then removes its
pid file; killed, it leaves the files of the last saving behind. Objects go to `objects/` at once. It also swallows what
goes wrong while saving or restoring, so both are checked from outside (`saved_since`, `refused_state`).
"""

import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.core.errors import ConfigProblem, HeadraceError
from pipeline.laptop.home import Home
from pipeline.machine.files import write_atomically
from pipeline.machine.modules import module_command
from pipeline.machine.processes import ProcessRef, environment_has, process_ref, spawn, wait_until

HOST = "127.0.0.1"
SERVICES = "kinesis,dynamodb,s3,sqs"  # what a local stack needs
START_SECONDS = 60.0  # takes 0.2 s empty; restoring a full stream takes longer
ANSWER_SECONDS = 5.0
STATES = ("dynamodb", "kinesis", "s3")  # what must be saved for nothing to be lost
SAVE_ROOM = 1.5  # bytes of disk for one byte of memory: records are saved in base64
_TOUCHES = {"kinesis": "Kinesis_20131202.ListStreams", "dynamodb": "DynamoDB_20120810.ListTables"}
_RESTORE_FAULTS = (b"Failed to restore persisted state", b"Persistence: failed to load", b"refusing to load")


class Saved(msgspec.Struct, frozen=True):
    """Content of saved.json: the state files of an orderly end, by size."""

    sizes: dict[str, int]


class Leftover(NamedTuple):
    """An emulator that nobody recorded."""

    port: int
    process: ProcessRef


def require_installed() -> None:
    """Raise ConfigProblem when the emulator is not installed."""
    if importlib.util.find_spec("ministack") is None:
        raise ConfigProblem("the local stack needs the package `ministack`: pip install 'headrace[local]'")


def endpoint_url(port: int) -> str:
    """Give the address under which the emulator answers."""
    return f"http://{HOST}:{port}"


def free_port() -> int:
    """Give a port that nobody used a moment ago."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def require_free(port: int) -> None:
    """Raise ConfigProblem when somebody listens on `port`, or when it needs rights we lack."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # connections that are closing do no harm
        try:
            probe.bind((HOST, port))
        except OSError as exc:
            raise ConfigProblem(
                f"port {port} of {HOST} cannot be used ({exc.strerror}): "
                "choose another with --port, or leave --port out for a free one"
            ) from exc


def start_emulator(
    home: Home, port: int, *, dies_with_parent: bool, services: str = SERVICES
) -> subprocess.Popen[bytes]:
    """Start the emulator; it does not answer yet."""
    return spawn(
        module_command("ministack.app"),
        environment=_environment(home, port) | {"SERVICES": services},
        log=home.emulator_log,
        folder=home.run,
        dies_with_parent=dies_with_parent,
    )


def _environment(home: Home, port: int) -> dict[str, str]:
    """Give all the emulator may know: a user's own settings of it, or of AWS, stay outside."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "LC_ALL", "TZ") if name in os.environ}
    return kept | {
        "BIND_HOST": HOST,
        "MINISTACK_HOST": HOST,
        "GATEWAY_PORT": str(port),
        "LOG_LEVEL": "WARNING",
        "PERSIST_STATE": "1",
        "STATE_DIR": str(home.state),
        "S3_PERSIST": "1",
        "S3_DATA_DIR": str(home.objects),
        "TMPDIR": str(home.run),  # for its pid file
        "IOT_MTLS_ENABLED": "0",  # would listen on port 8883
        "SFTP_ENABLED": "0",
        "DOCKER_HOST": "unix:///nonexistent",  # it would remove containers of its own kind at start and end
    }


def wait_healthy(child: subprocess.Popen[bytes], home: Home, port: int, log_offset: int) -> None:
    """Wait until the emulator answers and has restored what was saved.

    Raises:
        HeadraceError: it ended, stays silent, or could not read its own state.
    """
    wait_until(lambda: child.poll() is not None or healthy(port), START_SECONDS)
    if child.poll() is not None or not healthy(port):
        said = (
            "ended with code " + str(child.returncode) if child.returncode is not None else "does not answer"
        )
        raise HeadraceError(f"the emulator {said}; see {home.emulator_log}")
    with home.emulator_log.open("rb") as log:
        log.seek(log_offset)
        said_bytes = log.read()
    if any(fault in said_bytes for fault in _RESTORE_FAULTS):
        raise HeadraceError(
            f"the emulator could not read {home.state}; nothing was changed; see {home.emulator_log}"
        )
    for service, target in _TOUCHES.items():  # a service saves its state only after it was asked once
        headers = {"X-Amz-Target": target, "Content-Type": "application/x-amz-json-1.1"}
        ask(port, "/", headers | _credential(service), b"{}")
    ask(port, "/", _credential("s3"))


def healthy(port: int) -> bool:
    """True when the emulator itself answers on `port`, and not some other server."""
    try:
        answer = json.loads(ask(port, "/_ministack/health", {}))
    except (HeadraceError, ValueError):
        return False
    return isinstance(answer, dict) and "services" in answer


def ask(port: int, path: str, headers: dict[str, str], body: bytes | None = None) -> bytes:
    """Send one plain request, past any proxy: POST when there is a body.

    Raises:
        HeadraceError: no answer, or an answer that is no success.
    """
    connection = http.client.HTTPConnection(HOST, port, timeout=ANSWER_SECONDS)
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        content = answer.read()
    except (OSError, http.client.HTTPException) as exc:
        raise HeadraceError(f"the emulator does not answer on port {port}: {exc}") from exc
    finally:
        connection.close()
    if answer.status != http.client.OK:
        raise HeadraceError(f"the emulator answers {answer.status} to {headers or path} on port {port}")
    return content


def _credential(service: str) -> dict[str, str]:
    """Tell the emulator which service is meant; it checks no signature."""
    scope = f"headrace/20260101/us-east-1/{service}/aws4_request"
    return {"Authorization": f"AWS4-HMAC-SHA256 Credential={scope}"}


def state_stamps(home: Home) -> dict[str, str]:
    """Take a mark of each state file that changes whenever the file is written again."""
    stamps = {}
    for name in STATES:
        path = home.state / f"{name}.json"
        if path.exists():
            stat = path.stat()
            stamps[name] = f"{stat.st_ino}:{stat.st_mtime_ns}"
    return stamps


def saved_since(home: Home, port: int, before: dict[str, str]) -> bool:
    """True when the emulator of `port` ended in order and wrote every state file again."""
    after = state_stamps(home)
    return not _pid_file(home, port).exists() and all(
        after.get(name) not in {None, before.get(name)} for name in STATES
    )


def mark_saved(home: Home) -> None:
    """Write saved.json: `state/` is whole."""
    sizes = {path.name: path.stat().st_size for path in sorted(home.state.glob("*.json"))}
    write_atomically(home.saved, msgspec.json.encode(Saved(sizes)))


def is_saved(home: Home) -> bool:
    """True when saved.json is there and every state file has the size it names."""
    try:
        saved = msgspec.json.decode(home.saved.read_bytes(), type=Saved)
    except (FileNotFoundError, msgspec.DecodeError):
        return False
    return all(_size(home.state / name) == size for name, size in saved.sizes.items())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else -1


def memory_bytes(process: ProcessRef) -> int:
    """Say how much memory a process holds; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def room_lacking(home: Home, emulator: ProcessRef) -> int:
    """Say how many bytes the disk lacks for the emulator's state; 0 when there is room."""
    return max(0, int(memory_bytes(emulator) * SAVE_ROOM) - shutil.disk_usage(home.path).free)


def leftover(home: Home) -> Leftover | None:
    """Find an emulator of this home that runs although stack.json does not name it."""
    for path in home.run.glob("ministack-*.pid"):
        text = path.read_text(encoding="ascii", errors="replace").strip()
        port = path.stem.rpartition("-")[2]
        found = process_ref(int(text)) if text.isdigit() and port.isdigit() else None
        if found is not None and environment_has(found, "STATE_DIR", str(home.state)):
            return Leftover(int(port), found)
    return None


def _pid_file(home: Home, port: int) -> Path:
    return home.run / f"ministack-{port}.pid"
