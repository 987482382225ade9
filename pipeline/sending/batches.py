"""Events to batches: one open aggregate per slot, closed at its limits, and labelled when it is closed."""

from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache

import msgspec

from pipeline.core.errors import ConfigProblem, InvalidEvent
from pipeline.core.event import RefusalCode
from pipeline.core.kpl import MAX_HEAD_BYTES, Aggregate
from pipeline.core.retry import Backoff
from pipeline.core.slots import BatchLabel, hash_key, parse_label, slot_of
from pipeline.ports.stream import OutgoingRecord

MAX_RECORD_BYTES = 2**20  # Kinesis limit, partition key included, unless the stream is set higher
_RECORD_ROOM = 512  # of it for label, hash key, checksum and the event's own header
MAX_EVENT_BYTES = MAX_RECORD_BYTES - _RECORD_ROOM
EVENT_OVERHEAD_BYTES = 128  # of an event in memory beside its payload: objects, header, ticket; about

# A program's busiest entities: hashing costs five times this. Few, since a look that finds nothing costs too, and more
# the larger the cache is.
slot_of_entity = lru_cache(maxsize=4_096)(slot_of)
_SLOTS_KEPT = 32_768  # of an API's entities: 5 MB

_PATIENT = Backoff(attempts=12, base_seconds=0.1, cap_seconds=5.0)  # about half a minute of a busy stream


@dataclass(frozen=True)
class ProducerSettings:
    """How events are batched."""

    slots: int = 64
    max_batch_bytes: int = 262_144
    max_batch_events: int = 2_000
    linger_seconds: float = 0.2
    backoff: Backoff = _PATIENT


class Item(msgspec.Struct, frozen=True, gc=False):
    """One event, finished; a hundred thousand of them are nothing for the garbage collector to walk through."""

    slot: int
    payload: bytes


class Slots(dict[str, dict[str, int]]):
    """Tenant -> entity -> slot, of so many entities that they lie outside the processor's caches.

    Two looks at texts touch less memory there than one in an LRU cache, which keeps order besides. When there are too many, all
    are forgotten.
    """

    def __init__(self, slots: int) -> None:
        super().__init__()
        self.slots, self.kept = slots, 0

    def __missing__(self, tenant_id: str) -> "dict[str, int]":
        found = self[tenant_id] = _TenantSlots(tenant_id, self)
        return found


class _TenantSlots(dict[str, int]):
    __slots__ = ("_all", "_tenant_id")

    def __init__(self, tenant_id: str, all_slots: Slots) -> None:
        super().__init__()
        self._tenant_id, self._all = tenant_id, all_slots

    def __missing__(self, entity_id: str) -> int:
        everything = self._all
        if everything.kept >= _SLOTS_KEPT:
            everything.clear()
            self.clear()
            everything.kept = 0
        everything.kept += 1
        slot = self[entity_id] = slot_of(self._tenant_id, entity_id, everything.slots)
        return slot


class Batch:
    """A closed batch in memory. `tickets` are those of its events, in order; empty when nobody asks for fates."""

    __slots__ = ("cost_bytes", "label", "record", "tickets")

    def __init__(
        self, label: BatchLabel, record: OutgoingRecord, tickets: "array[int]", cost_bytes: int
    ) -> None:
        self.label, self.record, self.tickets, self.cost_bytes = label, record, tickets, cost_bytes

    @property
    def put_bytes(self) -> int:
        """Return what it weighs in a call."""
        return len(self.record.data) + len(self.record.partition_key)

    def outgoing(self) -> OutgoingRecord:
        """Return the record to put."""
        return self.record


class _Open(Aggregate):
    """The batch that a slot is filling, and the tickets of its events."""

    __slots__ = ("tickets",)

    def __init__(self) -> None:
        super().__init__()
        self.tickets = array("q")


class Batcher:
    """Packs events of one producer.

    Args:
        producer_id: 4 to 32 of a-z and 0-9, never used twice: batch numbers start at 0.
        settings: the limits of a batch.
        closed: takes every batch as it is closed; those of a slot come in order.

    Raises:
        ConfigProblem: the id cannot be part of a batch's label.
    """

    def __init__(self, producer_id: str, settings: ProducerSettings, closed: Callable[[Batch], None]) -> None:
        if parse_label(str(BatchLabel(producer_id, 0, 0, 1))) is None:
            raise ConfigProblem(f"producer id {producer_id!r}: must be 4 to 32 characters of a-z and 0-9")
        self.producer_id, self._settings, self._closed = producer_id, settings, closed
        self._max_batch_bytes, self._max_batch_events = settings.max_batch_bytes, settings.max_batch_events
        self._open: dict[int, _Open] = {}
        self._next_number = [0] * settings.slots

    def __bool__(self) -> bool:
        return bool(self._open)

    def add(self, slot: int, payload: bytes) -> None:
        """Add an event that `check_size` let pass, and whose fate nobody asks for."""
        found = self._open.get(slot)
        if found is None or found.size_bytes + len(payload) > MAX_EVENT_BYTES:
            found = self._fresh(slot)
        found.add(payload)
        if found.size_bytes >= self._max_batch_bytes or found.count >= self._max_batch_events:
            self._close(slot)

    def add_all(self, items: Iterable[Item], first: int) -> None:
        """Add events as `add` does, without a call for each; their tickets count from `first`."""
        opened, most_bytes, most_events = self._open, self._max_batch_bytes, self._max_batch_events
        for ticket, item in enumerate(items, first):
            slot, payload = item.slot, item.payload
            found = opened.get(slot)
            if found is None or found.size_bytes + len(payload) > MAX_EVENT_BYTES:
                found = self._fresh(slot)
            payloads = found.payloads
            payloads.append(payload)
            found.tickets.append(ticket)
            found.size_bytes += len(payload) + MAX_HEAD_BYTES
            if found.size_bytes >= most_bytes or len(payloads) >= most_events:
                self._close(slot)

    def close_all(self) -> None:
        """Close every batch that is open."""
        for slot in list(self._open):
            self._close(slot)

    def first_ticket(self) -> int | None:
        """Return the smallest ticket in an open batch."""
        return min((one.tickets[0] for one in self._open.values() if one.tickets), default=None)

    def tickets(self) -> "list[array[int]]":
        """Return the tickets of the open batches."""
        return [array("q", one.tickets) for one in self._open.values()]

    def _fresh(self, slot: int) -> _Open:
        """Return a new batch for a slot; the one that it has is closed."""
        if slot in self._open:
            self._close(slot)
        found = self._open[slot] = _Open()
        return found

    def _close(self, slot: int) -> None:
        found = self._open.pop(slot)
        label = BatchLabel(self.producer_id, slot, self._next_number[slot], found.count)
        self._next_number[slot] += 1
        key, text = hash_key(slot, self._settings.slots), str(label)
        record = OutgoingRecord(found.encode(text, key), text, key)
        cost_bytes = sum(map(len, found.payloads)) + EVENT_OVERHEAD_BYTES * found.count
        self._closed(Batch(label, record, found.tickets, cost_bytes))


def check_size(payload: bytes, max_bytes: int = MAX_EVENT_BYTES) -> None:
    """Refuse what fits into no record.

    Raises:
        InvalidEvent: the event is larger than `max_bytes`.
    """
    if len(payload) > max_bytes:
        raise InvalidEvent(
            RefusalCode.TOO_LARGE,
            "",
            f"{len(payload)} bytes; "
            + (
                f"a Kinesis record holds {max_bytes} at most"
                if max_bytes == MAX_EVENT_BYTES
                else f"an event has at most {max_bytes} (events.max_event_bytes)"
            ),
        )
