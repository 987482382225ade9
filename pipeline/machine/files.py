"""Files of a machine: who may read them, and writing them whole.

What we keep may hold personal data or hashes of keys, so folders and files are made for their owner alone.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pipeline.core.errors import ConfigProblem

PRIVATE_FOLDER = 0o700  # events may be personal data
PRIVATE_FILE = 0o600  # and so may be what lies elsewhere; of keys, files hold hashes or the keys themselves
_REFUSED = {
    errno.EACCES,
    errno.ENOENT,  # /proc and the like
    errno.EPERM,
    errno.EROFS,
    errno.ENOTDIR,
    errno.EEXIST,
    errno.ENAMETOOLONG,
}


@contextmanager
def disk_problems(home: Path) -> Iterator[None]:
    """Turn what the disk of a home refuses into one line with the next step.

    Raises:
        ConfigProblem: the disk is full, or something cannot be written.
        OSError: anything else.
    """
    try:
        yield
    except OSError as exc:
        if exc.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise ConfigProblem(
                f"the disk of {home} is full: free some space and run the command again"
            ) from exc
        if exc.errno in _REFUSED:
            raise ConfigProblem(
                f"{exc.filename or home} cannot be written ({exc.strerror}): "
                "choose another home with --home or HEADRACE_HOME"
            ) from exc
        raise


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, also over a crash."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
