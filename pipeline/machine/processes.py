"""Processes of this machine that outlive the program that started them.

A process is named by its pid and the moment it started (`ProcessRef`), so that a pid which the system gave to somebody
else meanwhile is neither believed nor killed.
"""

import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

POLL_SECONDS = 0.02  # short against the 0.2 s the emulator needs to stop
_TELL_FIRST_SECONDS = 2.0  # nobody should look at a silent terminal for longer
_TELL_SECONDS = 10.0
KILL_SECONDS = 10.0  # the kernel ends a killed process at once, unless the disk hangs
PR_SET_PDEATHSIG = 1  # prctl(2)
_SETTINGS, _FOR_AWS = "HEADRACE_", "AWS_"  # what names of variables begin with
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class ProcessRef(msgspec.Struct, frozen=True):
    """One process: its pid and when it started (text, only ever compared)."""

    pid: int
    started: str


def process_ref(pid: int) -> ProcessRef | None:
    """Name a live process, or None when it is gone. A zombie is gone: it holds no file, port or memory."""
    if not _BOOT_ID.exists():
        return _ref_from_ps(pid)
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold blanks and brackets
    state, start_ticks = fields[0], fields[19]
    boot = _BOOT_ID.read_text(
        encoding="ascii"
    ).strip()  # start times count from the boot, and pids begin anew
    return None if state in "ZX" else ProcessRef(pid, f"{boot}:{start_ticks}")


def _ref_from_ps(pid: int) -> ProcessRef | None:
    """Ask ps(1), where there is no /proc."""
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else ProcessRef(pid, started.strip())


def environment_has(process: ProcessRef, name: str, value: str) -> bool:
    """True when the process was started with `name=value` (Linux; elsewhere nobody is accused)."""
    try:
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    except OSError:
        return False
    return os.fsencode(f"{name}={value}") in environment.split(b"\0")


def alive(process: ProcessRef | None) -> bool:
    """True while exactly this process runs."""
    return process is not None and process_ref(process.pid) == process


def send(process: ProcessRef, number: signal.Signals) -> None:
    """Signal exactly this process; nothing happens when it is gone."""
    if sys.platform != "linux":
        if alive(process):
            os.kill(process.pid, number)
        return
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if alive(process):  # the handle was opened first, so it cannot have become somebody else since
            signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return
    finally:
        os.close(handle)


def wait_until(
    condition: Callable[[], bool], seconds: float, waiting: Callable[[], None] = lambda: None
) -> bool:
    """Wait for `condition`, at most `seconds`; True when it came true. `waiting` is called after two seconds, then every ten."""
    began = time.monotonic()
    told = began + _TELL_FIRST_SECONDS
    while not condition():
        now = time.monotonic()
        if now >= began + seconds:
            return False
        if now >= told:
            told = now + _TELL_SECONDS
            waiting()
        time.sleep(POLL_SECONDS)
    return True


def stop(
    process: ProcessRef | None, grace_seconds: float, waiting: Callable[[], None] = lambda: None
) -> bool:
    """Ask a process to end, wait, then kill it (at once when the grace is 0). True when it ended by itself, or was gone already.

    `waiting` is called where it takes long, as `wait_until` does.
    """
    if process is None or not alive(process):
        return True
    if grace_seconds > 0:
        send(process, signal.SIGTERM)
        if wait_until(lambda: not alive(process), grace_seconds, waiting):
            return True
    send(process, signal.SIGKILL)
    wait_until(lambda: not alive(process), KILL_SECONDS)
    return False


def outside_environment(*, with_aws: bool = False) -> dict[str, str]:
    """Return our environment without what is set for headrace: a child is told its settings, or gets none.

    What is set for AWS, credentials among it, is left out too, unless the child is to take them from there.
    """
    ours = (_SETTINGS,) if with_aws else (_SETTINGS, _FOR_AWS)
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def spawn(
    command: Sequence[str], *, environment: Mapping[str, str], log: Path, folder: Path, dies_with_parent: bool
) -> subprocess.Popen[bytes]:
    """Start a child with its output appended to `log`.

    It leads a session of its own: Ctrl-C at the terminal reaches only the parent, which stops its children in order.
    With `dies_with_parent` the kernel sends it SIGTERM when the parent ends, however it ends (Linux; elsewhere the
    next `headrace down` finds it).
    """
    before = death_signal(os.getpid()) if dies_with_parent else None
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
            preexec_fn=before,  # noqa: PLW1509  # calls the kernel only; the parent has one thread
        )


def death_signal(parent: int) -> Callable[[], None] | None:
    """Return what a child does between fork and exec to get SIGTERM when `parent` ends; None where no system call does it."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # loaded before the fork: the hook must not take locks

    def arrange() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:  # it died between fork and prctl
            os._exit(1)

    return arrange


def peak_memory_bytes(pid: int) -> int:
    """Return a process' peak memory where the system tells it, else its memory now; 0 when it is gone.

    Not from getrusage: a child inherits the peak of the process it was forked from.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
    except (OSError, StopIteration):
        return int(_ps("rss=", pid) or 0) * 1024


def memory_bytes(pid: int) -> int:
    """Return the memory a process holds now; 0 when it is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
        return pages * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        return int(_ps("rss=", pid) or 0) * 1024


def cpu_seconds(pid: int) -> float:
    """Return a process' processor time so far, in whole seconds; 0 when it is gone."""
    seconds = 0.0
    for part in _ps("time=", pid).replace("-", ":").split(":"):
        seconds = seconds * 60 + float(part or 0)
    return seconds


def _ps(column: str, pid: int) -> str:
    command = ["ps", "-o", column, "-p", str(pid)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
