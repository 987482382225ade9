"""Objects of the archive on this machine's disk, fetched once.

The archive's objects are written once and never change, so a copy stays right for ever - within one archive: give
each archive its own directory. Copies lie under their keys, so paths end as keys do.
"""

import contextlib
import hashlib
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pipeline.core.errors import ConfigProblem, Corrupt, NotFound
from pipeline.core.keys import SegmentRef, is_data_key, staged_digest, staging_prefix
from pipeline.core.manifest import DataFile
from pipeline.core.staging import unstage
from pipeline.ports.objects import ObjectInfo, Objects

STAGED_FILES = 20  # of one segment; fewer are read one by one
FETCH_THREADS = 8  # hides the latency of small objects; more gains nothing on one machine
MAX_BYTES = 4 * 1024**3
IN_USE_SECONDS = 3_600  # another process may be reading what it asked for this long ago


class ObjectCache:
    """A bounded directory of immutable objects; several processes may share it."""

    def __init__(
        self,
        objects: Objects,
        directory: Path,
        *,
        max_bytes: int = MAX_BYTES,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._objects = objects
        self.directory = directory.absolute()
        self._max_bytes = max_bytes
        self._now = now

    def fetch(self, files: Sequence[DataFile]) -> dict[str, Path]:
        """Return where each file lies, by key, fetching those that are missing.

        A copy of another size than the manifest says is fetched again.

        Raises:
            Corrupt: the bucket lacks a file that the manifest names, or holds one of another size.
            ConfigProblem: the directory cannot be written.
            Transient: the store could not answer; what was fetched stays.
        """
        paths = {file.key: self._path(file.key) for file in files}
        missing = [file for file in files if not self._is_here(paths[file.key], file.bytes)]
        if missing:
            self._make_room(sum(file.bytes for file in missing))
            pool = ThreadPoolExecutor(FETCH_THREADS, thread_name_prefix="object-cache")
            try:
                for _ in pool.map(self._fetch_one, self._fetch_staged(missing)):
                    pass
            finally:
                pool.shutdown(cancel_futures=True)
        return paths

    def _fetch_staged(self, files: Sequence[DataFile]) -> list[DataFile]:
        """Take the files of many-file segments out of their staging objects; return those that are left.

        A segment's staging object, as long as it is kept, holds all of its files: one read instead of hundreds.
        """
        segments: dict[SegmentRef, dict[str, DataFile]] = defaultdict(dict)
        for file in files:
            if file.digest:
                segments[file.segment][file.key] = file
        kept: set[str] = set()
        for segment, wanted in segments.items():
            if len(wanted) >= STAGED_FILES:
                kept |= self._unpack(staging_prefix(*segment), wanted)
        return [file for file in files if file.key not in kept]

    def _unpack(self, prefix: str, wanted: Mapping[str, DataFile]) -> set[str]:
        kept = set()
        for info in self._objects.list(prefix):
            with contextlib.suppress(NotFound, Corrupt):  # then the files themselves are read
                staged = self._objects.get(info.key)
                for one in unstage(staged, staged_digest(info.key)).objects:
                    file = wanted.get(one.key)
                    if file is not None and one.digest == file.digest:
                        self._store(self._path(one.key), one.body)
                        kept.add(one.key)
        return kept

    def verified(self, info: ObjectInfo) -> bytes:
        """Return a listed object's bytes; the copy here serves only when it is the listed object to the bit.

        The audit reads so: a copy whose MD5 is the object's ETag proves as much as fetching it again.
        """
        if is_data_key(info.key):
            with contextlib.suppress(OSError):
                body = self._path(info.key).read_bytes()
                if hashlib.md5(body, usedforsecurity=False).hexdigest() == info.etag:
                    return body
        return self._objects.get(info.key)

    def _path(self, key: str) -> Path:
        """Return where a copy lies.

        Raises:
            Corrupt: no key of ours; it might lead out of the directory.
        """
        if not is_data_key(key):
            raise Corrupt(f"{key!r} is no key of a data file; run `headrace audit` to see what differs")
        return self.directory / key

    def _is_here(self, path: Path, size: int) -> bool:
        now = self._now()
        try:
            if path.stat().st_size != size:
                return False
            os.utime(path, (now, now))
        except OSError:
            return False
        return True

    def _fetch_one(self, file: DataFile) -> None:
        try:
            body = self._objects.get(file.key)
        except NotFound as exc:
            raise Corrupt(
                f"the manifest names {file.key}, the bucket does not hold it; run `headrace audit` to see what is missing"
            ) from exc
        if len(body) != file.bytes:
            raise Corrupt(
                f"{file.key} has {len(body)} bytes, the manifest says {file.bytes}; run `headrace audit` to see what differs"
            )
        self._store(self._path(file.key), body)

    def _store(self, path: Path, body: bytes | memoryview) -> None:
        """Write a whole file or none: readers see it only under its final name."""
        part: Path | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".part-", delete=False) as stream:
                part = Path(stream.name)
                stream.write(body)
            part.replace(path)
        except OSError as exc:
            raise ConfigProblem(
                f"{path}: cannot keep a copy: {exc.strerror}; free some space or move `paths.home`"
            ) from exc
        finally:
            if part is not None:
                part.unlink(missing_ok=True)

    def _make_room(self, wanted: int) -> None:
        """Remove the longest unused copies until `wanted` more bytes fit; those in use stay, whatever the bound."""
        held = []
        for path in self.directory.rglob("*"):
            with contextlib.suppress(OSError):
                if path.is_file():
                    found = path.stat()
                    held.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in held)
        for used, size, path in sorted(held):
            if total + wanted <= self._max_bytes or used > self._now() - IN_USE_SECONDS:
                return
            with contextlib.suppress(OSError):
                path.unlink()
            total -= size
