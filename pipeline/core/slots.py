"""Virtual slots and batch labels: how our producers keep order, and how a lost batch is seen.

An entity belongs to one slot for ever (in one stream epoch); a slot has one explicit hash key, so an aggregate
carries one hash key and KCL never drops it. An aggregate's partition key is its label: who made it, and how many
events it holds. The loader records the labels it saw, the producer's receipt those that were acknowledged.
"""

import re
from functools import lru_cache
from hashlib import blake2b
from struct import Struct

import msgspec

_BIG_ENDIAN = Struct(">Q").unpack
_HASH_SPACE = 2**128
_LABEL = re.compile(r"hr1\.([a-z0-9]{4,32})\.(\d{1,5})\.(\d{1,15})\.(\d{1,9})", re.ASCII)


class BatchLabel(msgspec.Struct, frozen=True, order=True, gc=False):
    """Who made a batch: producer, slot, number within (producer, slot) counted from 0, events in it."""

    producer: str
    slot: int
    number: int
    events: int

    def __str__(self) -> str:
        return f"hr1.{self.producer}.{self.slot}.{self.number}.{self.events}"


@lru_cache(
    maxsize=4_096
)  # KCL shows every event under the label of its batch; a segment has 2,000 labels at most
def parse_label(partition_key: str) -> BatchLabel | None:
    """Return the label in a partition key, or None when another producer wrote the record."""
    found = _LABEL.fullmatch(partition_key)
    if found is None:
        return None
    return BatchLabel(found[1], int(found[2]), int(found[3]), int(found[4]))


def _hash(tenant_id: str, entity_id: str) -> int:
    [value] = _BIG_ENDIAN(blake2b(f"{tenant_id}\0{entity_id}".encode(), digest_size=8).digest())
    return int(value)


@lru_cache(maxsize=32_768)  # entities come again and again; a look in the cache takes a tenth of the time
def entity_hash(tenant_id: str, entity_id: str) -> int:
    """Return the 64-bit hash of an entity: the same for ever; its first bits choose slot and index prefix."""
    return _hash(tenant_id, entity_id)


def slot_of(tenant_id: str, entity_id: str, slots: int) -> int:
    """Return the slot of an entity, in 0..slots-1; the same for ever."""
    return (
        _hash(tenant_id, entity_id) * slots >> 64
    )  # not by the cache: producers keep slots in one of their own


@lru_cache(maxsize=4_096)  # a stream has few slots, and every batch asks
def hash_key(slot: int, slots: int) -> str:
    """Return the slot's explicit hash key: the middle of its share of Kinesis' 128-bit space, in decimal."""
    return str((2 * slot + 1) * _HASH_SPACE // (2 * slots))
