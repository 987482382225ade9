"""What is ready to be sent, slot by slot: one batch of a slot in a call, so that no refusal can turn their order."""

from collections import deque
from collections.abc import Iterator
from typing import Protocol

from pipeline.core.slots import BatchLabel
from pipeline.ports.stream import OutgoingRecord
from pipeline.sending.batches import Batch

MAX_PUT_RECORDS = 500  # Kinesis limit per call
MAX_PUT_BYTES = 4_500_000  # per call; Kinesis takes 10 MiB, older stacks 5 MB, keys included


class Ready(Protocol):
    """A closed batch, in memory or on disk."""

    @property
    def label(self) -> BatchLabel:
        """Return who made it."""
        ...

    @property
    def put_bytes(self) -> int:
        """Return what it weighs in a call."""
        ...

    def outgoing(self) -> OutgoingRecord:
        """Return the record to put.

        Raises:
            Corrupt: the disk gives other bytes than were written.
        """
        ...


class Lanes:
    """Ready batches in the order of each slot: those on disk first, those in memory behind them."""

    def __init__(self) -> None:
        self._slots: dict[int, deque[Ready]] = {}
        self.memory_bytes = 0  # of the batches that are not on disk

    def __bool__(self) -> bool:
        return bool(self._slots)

    def __len__(self) -> int:
        return sum(map(len, self._slots.values()))

    def append(self, ready: Ready) -> None:
        """Put a batch behind those of its slot."""
        self._slots.setdefault(ready.label.slot, deque()).append(ready)
        if isinstance(ready, Batch):
            self.memory_bytes += len(ready.record.data)

    def call(self) -> list[Ready]:
        """Return the batches of one PutRecords call: the first of each slot, as far as the limits go."""
        chosen: list[Ready] = []
        size = 0
        for queue in self._slots.values():
            size += queue[0].put_bytes
            if chosen and (size > MAX_PUT_BYTES or len(chosen) == MAX_PUT_RECORDS):
                break
            chosen.append(queue[0])
        return chosen

    def done(self, ready: Ready) -> None:
        """Take away the first batch of a slot; the slot's next one waits behind those of other slots."""
        queue = self._slots.pop(ready.label.slot)
        queue.popleft()
        if queue:
            self._slots[ready.label.slot] = queue
        if isinstance(ready, Batch):
            self.memory_bytes -= len(ready.record.data)

    def in_memory(self) -> Iterator[Batch]:
        """Yield the batches that are not on disk."""
        for queue in self._slots.values():
            for ready in queue:
                if isinstance(ready, Batch):
                    yield ready

    def behind_disk(self) -> list[Batch]:
        """Return the batches whose slot has something on disk, in order."""
        found = []
        for queue in self._slots.values():
            if not isinstance(queue[0], Batch) and isinstance(queue[-1], Batch):
                found += [one for one in queue if isinstance(one, Batch)]
        return found

    def replace(self, moved: dict[BatchLabel, Ready]) -> None:
        """Put what is on disk now into the places of the batches that were in memory."""
        for slot in {label.slot for label in moved}:
            queue = self._slots[slot]
            self.memory_bytes -= sum(
                len(one.record.data) for one in queue if isinstance(one, Batch) and one.label in moved
            )
            self._slots[slot] = deque(moved.get(one.label, one) for one in queue)

    def clear(self) -> list[Batch]:
        """Take away all batches in memory and return them."""
        found = list(self.in_memory())
        for slot, queue in list(self._slots.items()):
            rest = deque(one for one in queue if not isinstance(one, Batch))
            self._slots[slot] = rest
            if not rest:
                del self._slots[slot]
        self.memory_bytes = 0
        return found
