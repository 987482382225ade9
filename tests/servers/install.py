"""Where other makers' servers are kept, and how they get there: once a machine, in one piece, by one process."""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

_PATIENCE = 300  # seconds, of one installation


class NotHere(Exception):
    """This machine cannot run the server; the message says what it lacks."""


def cache() -> Path:
    """Return the folder of all servers; `HEADRACE_TEST_CACHE` names another."""
    return Path(os.environ.get("HEADRACE_TEST_CACHE") or user_cache_path("headrace-tests"))


def need(*programs: str) -> None:
    """Raise NotHere unless all programs are on the path."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise NotHere(f"{', '.join(missing)} is not installed on this machine")


def run(command: list[str], folder: Path) -> None:
    """Run a package manager.

    Raises:
        NotHere: it failed; the message ends with its last lines.
    """
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=_PATIENCE, check=False
        )
    except subprocess.TimeoutExpired as exc:
        raise NotHere(f"{command[0]} did not end within {_PATIENCE} s") from exc
    if done.returncode:
        said = (done.stdout + done.stderr).strip()[-400:]
        raise NotHere(f"{command[0]} failed with {done.returncode}: {said}")


def installed(name: str, fill: Callable[[Path], None]) -> Path:
    """Return the folder of a server, filling it at first use.

    Args:
        name: of the folder, with the version.
        fill: installs into an empty folder; raises NotHere.
    """
    place = cache() / name
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            with tempfile.TemporaryDirectory(dir=place.parent) as part:
                filled = Path(part) / "filled"
                filled.mkdir()
                fill(filled)
                filled.rename(place)
    return place
