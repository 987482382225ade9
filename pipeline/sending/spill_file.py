"""One file of the spill: frames, each with its checksum, appended and read again.

A frame is `HRSP | kind | synced | length | crc32 | body`, integers big-endian; `synced` is how much of the file was
known to be on disk when the frame was written. A crash may leave anything behind that point: nobody was told of it, so
it is cut off. A damaged frame before it is a loss, and told as one.

    head    JSON: format, producer, stream, epoch, slots                              the first frame, and no other
    batch   its partition key, a zero byte, the bytes of the Kinesis record           an aggregate under its label
    acked   JSON: acknowledged batches of the same producer, as in a receipt          from this or an earlier file
"""

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec

from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.core.receipt import AckedBatch
from pipeline.machine.files import PRIVATE_FILE, PRIVATE_FOLDER

FORMAT = 1
_MAGIC = b"HRSP"
_FRAME = struct.Struct(">4sBQII")
_HEAD, _BATCH, _ACKED = 1, 2, 3
_MAX_BODY = 2**24  # a record has 1 MiB, or 10 where the stream is set so; a longer length is damage


class Head(msgspec.Struct, frozen=True):
    """Whose batches are in the file, and for which stream."""

    producer: str
    stream: str
    epoch: str
    slots: int
    format: int = FORMAT


class Place(NamedTuple):
    """Where a batch's frame begins, and how long it is."""

    offset: int
    length: int


class Content(NamedTuple):
    """What a file holds. `dropped` bytes at its end were torn; nobody was told that they are stored."""

    head: Head | None
    batches: list[tuple[str, Place]]  # partition key and place, in order
    acked: list[AckedBatch]
    size: int
    dropped: int


def batch_frame(partition_key: str, data: bytes, synced: int) -> bytes:
    """Return the frame of a batch."""
    return _frame(_BATCH, partition_key.encode() + b"\0" + data, synced)


def acked_frame(batches: list[AckedBatch], synced: int) -> bytes:
    """Return the frame of acknowledged batches."""
    return _frame(_ACKED, msgspec.json.encode(batches), synced)


def _frame(kind: int, body: bytes, synced: int) -> bytes:
    check = zlib.crc32(body, zlib.crc32(struct.pack(">BQI", kind, synced, len(body))))
    return _FRAME.pack(_MAGIC, kind, synced, len(body), check) + body


class SpillFile:
    """A file that grows; one process writes it, one thread of it.

    Raises:
        OSError: from any call; what the disk said.
    """

    def __init__(self, path: Path, size: int = 0) -> None:
        self.path = path
        flags = os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT | os.O_EXCL if not size else 0)
        self._descriptor = os.open(path, flags, PRIVATE_FILE)
        self.size = self.synced = size

    @classmethod
    def create(cls, path: Path, head: Head) -> "SpillFile":
        """Make a new file, on disk with its name."""
        made = cls(path)
        try:
            made.append([_frame(_HEAD, msgspec.json.encode(head), 0)])
            made.sync()
            sync_folder(path.parent)
        except OSError:
            made.close()
            path.unlink()
            raise
        return made

    def append(self, frames: list[bytes]) -> list[Place]:
        """Write frames, all of them or none."""
        places, at = [], self.size
        for frame in frames:
            places.append(Place(at, len(frame)))
            at += len(frame)
        whole = memoryview(b"".join(frames))
        try:
            while whole:
                whole = whole[os.pwrite(self._descriptor, whole, at - len(whole)) :]
        except OSError:
            self.cut(self.size)
            raise
        self.size = at
        return places

    def cut(self, size: int) -> None:
        """Forget everything behind `size`."""
        os.ftruncate(self._descriptor, size)
        self.size, self.synced = size, min(self.synced, size)

    def sync(self) -> None:
        """Return when everything is on disk."""
        os.fsync(self._descriptor)
        self.synced = self.size

    def read(self, place: Place) -> tuple[str, bytes]:
        """Return partition key and bytes of a batch.

        Raises:
            Corrupt: the disk gives other bytes than were written.
        """
        found = _parse(os.pread(self._descriptor, place.length, place.offset), 0)
        if found is None or found.kind != _BATCH:
            raise Corrupt(_damage(self.path, place.offset))
        key, _, data = found.body.partition(b"\0")
        return key.decode(), data

    def close(self) -> None:
        """Close the file; it stays."""
        os.close(self._descriptor)


class _Found(NamedTuple):
    kind: int
    synced: int
    body: bytes
    end: int


def read_file(path: Path) -> Content:
    """Read a file that an earlier run left.

    Raises:
        Corrupt: a frame that was on disk is damaged.
        ConfigProblem: a later version of headrace wrote it.
    """
    whole = path.read_bytes()
    head: Head | None = None
    batches: list[tuple[str, Place]] = []
    acked: list[AckedBatch] = []
    at = 0
    while (found := _parse(whole, at)) is not None:
        if found.kind == _HEAD:
            head = msgspec.json.decode(found.body, type=Head)
            if head.format != FORMAT:
                raise ConfigProblem(
                    f"{path} has format {head.format}, this version reads {FORMAT}: use a newer headrace"
                )
        elif found.kind == _BATCH:
            batches.append((found.body.partition(b"\0")[0].decode(), Place(at, found.end - at)))
        else:
            acked += msgspec.json.decode(found.body, type=list[AckedBatch])
        at = found.end
    if any(later.synced > at for later in _later(whole, at)):
        raise Corrupt(_damage(path, at))
    return Content(head, batches, acked, at, len(whole) - at)


def _damage(path: Path, offset: int) -> str:
    return (
        f"{path} is damaged at byte {offset}, and had been on disk: events that were told to be spilled cannot be read. "
        "Keep a copy, move the file out of the folder, and send its events again from where they came"
    )


def _parse(whole: bytes, at: int) -> _Found | None:
    if len(whole) < at + _FRAME.size:
        return None
    magic, kind, synced, length, check = _FRAME.unpack_from(whole, at)
    if magic != _MAGIC or length > _MAX_BODY or kind not in (_HEAD, _BATCH, _ACKED):
        return None
    start = at + _FRAME.size
    body = whole[start : start + length]
    if len(body) < length or zlib.crc32(body, zlib.crc32(struct.pack(">BQI", kind, synced, length))) != check:
        return None
    return _Found(kind, synced, body, start + length)


def _later(whole: bytes, at: int) -> Iterator[_Found]:
    """Yield whole frames behind a damaged one."""
    while (at := whole.find(_MAGIC, at + 1)) >= 0:
        found = _parse(whole, at)
        if found is not None:
            yield found


def sync_folder(folder: Path) -> None:
    """Return when the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_folder(folder: Path) -> int:
    """Make the folder if need be and lock it for this process; return the lock's descriptor.

    Raises:
        ConfigProblem: another process has it, or it cannot be written.
    """
    try:
        folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
    except OSError as exc:
        raise ConfigProblem(
            f"spill {folder}: {exc.strerror}; name a folder that this program can write"
        ) from exc
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as exc:
        os.close(descriptor)
        raise ConfigProblem(
            f"spill {folder} is used by another producer that runs: give each one a folder of its own"
        ) from exc
    return descriptor
