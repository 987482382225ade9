"""The spill: finished batches on disk while the stream takes nothing, sent from there in order.

A folder belongs to one producer at a time. Its files are a journal: batches as they were labelled, and what was
acknowledged of them and of everything else since the first was spilled. So whoever opens the folder next knows what is
still to be sent and what is in no receipt yet, and goes on under the old producer's id until that producer's last
receipt can say that nothing is missing.

A file may go when nothing in it waits any more, what it says was acknowledged is in a stored receipt, and the files
before it are gone.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import ConfigProblem, Corrupt
from pipeline.core.receipt import AckedBatch
from pipeline.core.slots import BatchLabel, hash_key, parse_label
from pipeline.facts import EventsSpilled, FactSink, SpillOpened, SpillTorn
from pipeline.ports.stream import OutgoingRecord
from pipeline.sending.batches import Batch
from pipeline.sending.spill_file import (
    Content,
    Head,
    Place,
    SpillFile,
    acked_frame,
    batch_frame,
    lock_folder,
    read_file,
    sync_folder,
)

_FILE_BYTES = 64 * 2**20  # of one file; what is sent from an older one can be deleted
_SUFFIX = ".spill"


@dataclass
class _File:
    number: int
    producer: str
    disk: SpillFile
    waiting: int = 0  # batches that are not acknowledged


@dataclass(frozen=True)
class OnDisk:
    """A batch in the spill."""

    label: BatchLabel
    place: Place
    file: _File = field(compare=False, repr=False)
    slots: int

    @property
    def put_bytes(self) -> int:
        """Return what it weighs in a call, or a little more."""
        return self.place.length

    @property
    def path(self) -> Path:
        """Return the file it is in."""
        return self.file.disk.path

    def outgoing(self) -> OutgoingRecord:
        """Read the record."""
        try:
            key, data = self.file.disk.read(self.place)
        except OSError as exc:
            raise Corrupt(f"{self.path} cannot be read: {exc.strerror}; its events are not sent") from exc
        return OutgoingRecord(data, key, hash_key(self.label.slot, self.slots))


@dataclass(frozen=True)
class Left:
    """What an earlier producer left: batches to send, in order, and what the stream had acknowledged to it."""

    producer: str
    batches: list[OnDisk]
    acked: list[AckedBatch]


class Spill:
    """The folder of one producer that runs.

    Args:
        folder: made if need be.
        head: of this producer's files.
        max_bytes: of all files together.
        facts: told of what was found.
        file_bytes: when a new file is begun.

    Raises:
        ConfigProblem: the folder is another's, or is of another stream.
        Corrupt: a file is damaged.
    """

    def __init__(
        self, folder: Path, head: Head, max_bytes: int, facts: FactSink, file_bytes: int = _FILE_BYTES
    ) -> None:
        self.folder, self._head, self._max_bytes, self._facts = folder, head, max_bytes, facts
        self._file_bytes = file_bytes
        self._lock: int | None = lock_folder(folder)
        self._files: list[_File] = []
        self._unnoted: dict[str, list[AckedBatch]] = {}  # acknowledged, and not in a file yet
        self.problem = ""
        try:
            self.left = self._read()
        except OSError as exc:
            self.close()
            raise ConfigProblem(
                f"spill {folder}: {exc.strerror}; its events are not sent. Name a folder that this program can read and write"
            ) from exc
        except BaseException:
            self.close()
            raise

    def _read(self) -> list[Left]:
        left: dict[str, Left] = {}
        for path in sorted(self.folder.glob(f"*{_SUFFIX}")):
            content = read_file(path)
            if content.dropped:
                self._facts(SpillTorn(path=str(path), bytes=content.dropped))
            if content.head is None:  # the crash came before its first frame was on disk: nothing is in it
                path.unlink()
                continue
            self._check(path, content.head)
            self._adopt(
                path, content, left.setdefault(content.head.producer, Left(content.head.producer, [], []))
            )
        found = list(left.values())
        for one in found:  # acknowledged, perhaps in a later file than the batch
            done = {(acked.slot, acked.number) for acked in one.acked}
            waiting = [batch for batch in one.batches if (batch.label.slot, batch.label.number) not in done]
            for batch in waiting:
                batch.file.waiting += 1
            one.batches[:] = waiting
        if found:
            labels = [batch.label for one in found for batch in one.batches]
            events = sum(label.events for label in labels)
            self._facts(SpillOpened(path=str(self.folder), batches=len(labels), events=events))
        return found

    def _check(self, path: Path, head: Head) -> None:
        ours = (self._head.stream, self._head.epoch, self._head.slots)
        if (head.stream, head.epoch, head.slots) != ours:
            raise ConfigProblem(
                f"{path} holds events for stream {head.stream} as made at {head.epoch} ({head.slots} slots), this "
                f"producer sends to {ours[0]} as made at {ours[1]} ({ours[2]} slots): name another spill folder, or move "
                "the file away; its events are in no stream"
            )

    def _adopt(self, path: Path, content: Content, left: Left) -> None:
        disk = SpillFile(path, content.size)
        disk.cut(content.size)
        number = int(path.name.partition("-")[0])
        file = _File(number, left.producer, disk)
        self._files.append(file)
        disk.sync()  # the run before may have died between its write and its fsync; from here on it counts as on disk
        for key, place in content.batches:
            label = parse_label(key)
            if label is None:
                raise Corrupt(f"{path}: {key!r} is no batch's label; another program wrote into the folder")
            left.batches.append(OnDisk(label, place, file, self._head.slots))
        left.acked.extend(content.acked)

    def __bool__(self) -> bool:
        """True when any file exists: then every acknowledgement is noted here."""
        return bool(self._files)

    @property
    def size_bytes(self) -> int:
        """Return the size of all files."""
        return sum(one.disk.size for one in self._files)

    def waiting(self, producer: str) -> int:
        """Return how many batches of a producer are still to be sent."""
        return sum(one.waiting for one in self._files if one.producer == producer)

    def write(self, batches: Sequence[Batch], unreceipted: Callable[[], list[AckedBatch]]) -> list[OnDisk]:
        """Store batches, in order; on return they are on disk. Perhaps not all of them: `problem` then says why.

        Args:
            batches: of this producer.
            unreceipted: what was acknowledged to it and is in no stored receipt.
        """
        self.problem = ""
        stored: list[OnDisk] = []
        try:
            file = self._own(unreceipted)
            for batch in batches:
                frame = batch_frame(batch.record.partition_key, batch.record.data, file.disk.synced)
                if self.size_bytes + len(frame) > self._max_bytes:
                    self.problem = (
                        f"The spill {self.folder} is full: {self._max_bytes:,} bytes (max_spill_bytes)"
                    )
                    break
                [place] = file.disk.append([frame])
                stored.append(OnDisk(batch.label, place, file, self._head.slots))
            if stored:
                file.disk.sync()
        except OSError as exc:
            self.problem = f"The spill {self.folder} cannot be written: {exc.strerror}"
            if stored:  # what may not be on disk is still in memory
                stored[0].file.disk.cut(stored[0].place.offset)
            return []
        if stored:
            file.waiting += len(stored)
            events = sum(one.label.events for one in stored)
            self._facts(
                EventsSpilled(
                    path=str(self.folder), batches=len(stored), events=events, bytes=self.size_bytes
                )
            )
        return stored

    def _own(self, unreceipted: Callable[[], list[AckedBatch]]) -> _File:
        """Return this producer's newest file, a new one if there is none with room; what was acknowledged is in it."""
        producer = self._head.producer
        file = self._files[-1] if self._files else None
        mine = file is not None and file.producer == producer
        if file is None or not mine or file.disk.size >= self._file_bytes:
            if file is not None:
                file.disk.sync()  # acknowledgements in it say what need not be sent again: a later file relies on them
            number = file.number + 1 if file is not None else 0
            path = self.folder / f"{number:08d}-{producer}{_SUFFIX}"
            file = _File(number, producer, SpillFile.create(path, self._head))
            self._files.append(file)
            if not mine:
                self._unnoted[producer] = unreceipted()
        self._note(file)
        return file

    def _note(self, file: _File) -> None:
        acked = self._unnoted.get(file.producer)
        if acked:
            file.disk.append([acked_frame(acked, file.disk.synced)])
            del self._unnoted[file.producer]

    def acknowledged(self, producer: str, acked: list[AckedBatch], batches: Iterable[OnDisk]) -> None:
        """Note what the stream has; `batches` are those of them that are on disk. Not synced: a repeat is flagged."""
        for batch in batches:
            batch.file.waiting -= 1
        file = next((one for one in reversed(self._files) if one.producer == producer), None)
        if file is None:
            return
        self._unnoted.setdefault(producer, []).extend(acked)
        try:
            self._note(file)
        except (
            OSError
        ) as exc:  # tried again with the next; until then a crash repeats them, and they are flagged
            self.problem = f"The spill {self.folder} cannot be written: {exc.strerror}"

    def sweep(self, receipted: Callable[[str], bool]) -> str:
        """Delete files that nobody needs; return what the disk had against it, "" for nothing. It is tried again.

        Args:
            receipted: true when all that a producer had acknowledged is in stored receipts.
        """
        gone = False
        try:
            for producer in filter(receipted, self.owners()):
                self._unnoted.pop(producer, None)
                for file in [one for one in self._files if one.producer == producer]:
                    if file.waiting:
                        break
                    file.disk.path.unlink(
                        missing_ok=True
                    )  # first: what cannot be deleted is still ours, and open
                    self._files.remove(file)
                    gone = True
                    file.disk.close()
            if gone:
                sync_folder(self.folder)
        except OSError as exc:  # what is still there is sent already; a later run finds it acknowledged
            return f"The spill {self.folder} cannot be emptied: {exc.strerror}"
        return ""

    def owners(self) -> list[str]:
        """Return the producers that have files."""
        return list(dict.fromkeys(one.producer for one in self._files))

    def close(self) -> None:
        """Give the folder back; files that are needed stay. A forked child calls it too: the lock is its parent's."""
        for file in self._files:
            file.disk.close()
        self._files = []
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None
