"""The home of the local stack: one folder with everything it keeps.

    <home>/
      .headrace-home      says that this folder is ours: nothing is ever deleted without it
      headrace.toml       the user's settings; never touched
      saved.json          the emulator ended in order: its state files and their sizes. Absent while it runs
      state/  objects/    what the emulator keeps: streams and tables (saved when it ends); objects (at once)
      signing.key         signs the receipts of the HTTP API; made once
      run/                stack.json, loader.json, api.url, the lock, the emulator's pid file
      logs/               emulator.log, loader.log, api.log, processor.log, up.log (of `headrace up --detach`)

Streams and tables live in the emulator's memory and reach `state/` only when it ends in order, objects reach the disk
at once. After a kill the two contradict each other; `saved.json` is how that is noticed.
"""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import ConfigProblem
from pipeline.machine.files import PRIVATE_FOLDER, disk_problems

MIN_FREE_BYTES = 256 * 1024 * 1024  # a year of flights, its stream and its saved state need about this much
_DATA = ("state", "objects", "cache", "saved.json", "run/stack.json", "run/loader.json", "run/api.url")


@dataclass(frozen=True, slots=True)
class Home:
    """Names inside one home; nothing is created by naming it."""

    path: Path

    @property
    def tag(self) -> Path:
        """Says that the folder is ours."""
        return self.path / ".headrace-home"

    @property
    def saved(self) -> Path:
        """Present exactly while `state/` is whole and no emulator runs."""
        return self.path / "saved.json"

    @property
    def state(self) -> Path:
        """What the emulator saves when it ends: streams and tables."""
        return self.path / "state"

    @property
    def objects(self) -> Path:
        """What the emulator writes at once: S3 objects."""
        return self.path / "objects"

    @property
    def run(self) -> Path:
        """Files that describe what runs now."""
        return self.path / "run"

    @property
    def stack_file(self) -> Path:
        """Describes the running stack."""
        return self.run / "stack.json"

    @property
    def control(self) -> Path:
        """The control store: tenants, keys, published schemas."""
        return self.path / "control.sqlite"

    @property
    def heartbeat(self) -> Path:
        """Written by the loader, read by `headrace status`."""
        return self.run / "loader.json"

    @property
    def api_url(self) -> Path:
        """Written by the HTTP API: where it answers."""
        return self.run / "api.url"

    @property
    def api_log(self) -> Path:
        """What the HTTP API said: JSON lines."""
        return self.path / "logs" / "api.log"

    @property
    def emulator_log(self) -> Path:
        """What the emulator said."""
        return self.path / "logs" / "emulator.log"

    @property
    def loader_log(self) -> Path:
        """What the loader said: JSON lines."""
        return self.path / "logs" / "loader.log"

    @property
    def processor_log(self) -> Path:
        """What the processor of replay jobs said: JSON lines."""
        return self.path / "logs" / "processor.log"

    @property
    def up_log(self) -> Path:
        """What `headrace up --detach` said after it had returned."""
        return self.path / "logs" / "up.log"

    @property
    def has_data(self) -> bool:
        """True when an emulator has kept any file here."""
        return any(files for folder in (self.state, self.objects) for _, _, files in os.walk(folder))


def prepare(home: Home) -> None:
    """Create the folders and prove that they can be written.

    Raises:
        ConfigProblem: the folder is somebody else's, cannot be written, or the disk is nearly full.
    """
    taken = [name for name in _DATA if (home.path / name).exists()]
    if taken and not home.tag.exists():
        raise ConfigProblem(
            f"{home.path} holds {taken[0]!r}, which headrace did not make: "
            "choose another home with --home or HEADRACE_HOME"
        )
    with disk_problems(home.path):
        for folder in (home.path, home.state, home.objects, home.run, home.emulator_log.parent):
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        home.tag.write_text(
            "The home of a local headrace stack; `headrace down --wipe` empties it.\n", encoding="utf-8"
        )
        free = shutil.disk_usage(home.path).free
    if free < MIN_FREE_BYTES:
        raise ConfigProblem(
            f"the disk of {home.path} has {free >> 20} MiB free, the stack needs {MIN_FREE_BYTES >> 20} MiB: "
            "free some space, or choose another home with --home or HEADRACE_HOME"
        )


@contextmanager
def only_one(home: Home) -> Iterator[None]:
    """Hold the home's lock: starting, stopping and wiping exclude each other. The kernel frees it when we die.

    Raises:
        ConfigProblem: another command holds it.
    """
    with disk_problems(home.path):
        lock = (home.run / "lock").open("a", encoding="ascii")
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise ConfigProblem(
                f"another `headrace up` or `headrace down` is at work in {home.path}: "
                "wait for it, or see `headrace status`"
            ) from exc
        yield


def wipe(home: Home) -> None:
    """Delete the data of a stack that is not running; settings and logs stay.

    Raises:
        ConfigProblem: the folder is not a home, or the disk refuses.
    """
    if not home.tag.exists():
        if home.has_data:
            raise ConfigProblem(
                f"{home.path} is not a home of headrace (no {home.tag.name}): nothing was deleted"
            )
        return
    with disk_problems(home.path):
        for name in _DATA:
            target = home.path / name
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            else:
                target.unlink(missing_ok=True)
        for pid_file in home.run.glob("ministack-*.pid"):
            pid_file.unlink(missing_ok=True)
