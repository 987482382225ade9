"""Receipts: which batches a producer had acknowledged, where, and with how many events."""

import msgspec

MAX_BATCHES = 2_000  # one DynamoDB item holds 400 KB; a batch takes about 90 bytes before compression


class AckedBatch(msgspec.Struct, frozen=True, array_like=True):
    """One acknowledged batch: its label's slot, number and events, and where Kinesis stored it."""

    slot: int
    number: int
    events: int
    shard_id: str
    sequence_number: str


class Receipt(msgspec.Struct, frozen=True):
    """What one producer had acknowledged in one interval; `number` counts a producer's receipts from 0."""

    producer: str
    number: int
    stream: str
    epoch: str
    acked_from_us: int
    acked_until_us: int
    batches: tuple[AckedBatch, ...]
    closed: bool = False  # the producer ended in order: nothing of it is missing from its receipts

    @property
    def events(self) -> int:
        """Return the number of events acknowledged."""
        return sum(batch.events for batch in self.batches)
