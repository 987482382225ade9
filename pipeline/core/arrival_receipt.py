"""The receipt of one request of the API: where its events went, in a text that its tenant holds. Nothing is stored."""

import msgspec

from pipeline.core.segment import Position
from pipeline.core.signed import sign, unsign


class ArrivalReceipt(msgspec.Struct, frozen=True, array_like=True):
    """Where the events of one request are: for each shard the furthest of them.

    Attributes:
        arrived_us: when the request was taken, by our clock.
        places: shard id, sequence number, index in its record.
    """

    arrived_us: int
    places: tuple[tuple[str, str, int], ...]

    def positions(self) -> dict[str, Position]:
        """Return the furthest position by shard."""
        return {shard: Position(number, index) for shard, number, index in self.places}


_PURPOSE = "receipt 1\0"
_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(ArrivalReceipt).decode


def receipt_text(receipt: ArrivalReceipt, key: bytes, bound_to: str) -> str:
    """Return a receipt as its owner holds it; `bound_to` says of which tenant and stream it is."""
    return sign(_ENCODE(receipt), key, _PURPOSE + bound_to)


def read_receipt(text: str, key: bytes, bound_to: str) -> ArrivalReceipt | None:
    """Return what a receipt says; None when it is none of ours, or somebody else's."""
    body = unsign(text, key, _PURPOSE + bound_to)
    return None if body is None else _DECODE(body)
